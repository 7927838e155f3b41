// A real call through a real TURN server: coturn on loopback, with the credentials that the pages get at their match.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { PATIENCE, assertNoFailures, join, startBrowser, startServer, waitForCall, waitForState } from './browser.js';

const binary = process.env.SIGNALING_SERVER;
const SECRET = 'shared by server and coturn';

/** STUN's Binding request: RFC 8489, section 5. */
const BINDING = Buffer.from('000100002112a442' + '00'.repeat(12), 'hex');

/** A `turnserver` on a free port that answers. */
async function startCoturn() {
  const socket = createSocket('udp4');
  await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  await new Promise((resolve) => socket.close(resolve));
  const folder = await mkdtemp(path(tmpdir(), 'coturn-'));
  const coturn = spawn('turnserver', [
    '-n', '--listening-ip=127.0.0.1', '--relay-ip=127.0.0.1', '--allow-loopback-peers', `--listening-port=${port}`,
    '--no-tcp', '--no-tls', '--no-dtls', '--no-cli', '--realm=turn.test', '--use-auth-secret',
    `--static-auth-secret=${SECRET}`, `--userdb=${path(folder, 'turndb')}`, `--pidfile=${path(folder, 'pid')}`,
    `--log-file=${path(folder, 'log')}`, '--simple-log',
  ], { stdio: 'ignore' });
  const exited = once(coturn, 'exit');
  const probe = createSocket('udp4');
  const answered = once(probe, 'message', { signal: AbortSignal.timeout(PATIENCE) });
  const asking = setInterval(() => probe.send(BINDING, port, '127.0.0.1'), 50);
  await answered.finally(() => {
    clearInterval(asking);
    probe.close();
  });
  return {
    url: `turn:127.0.0.1:${port}?transport=udp`,
    async stop() {
      coturn.kill('SIGKILL');
      await exited;
      await rm(folder, { recursive: true });
    },
  };
}

describe('behind a TURN server', { skip: !binary && 'SIGNALING_SERVER names no server', timeout: 120_000 }, () => {
  let coturn;
  let server;
  let browser;

  before(async () => {
    coturn = await startCoturn();
    server = await startServer(binary, ['--turn-url', coturn.url], { SIGNALING_TURN_SECRET: SECRET });
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
    await coturn?.stop();
  });

  /** A page whose peer connections have no way but TURN. */
  const open = async () => {
    const page = await browser.newPage('about:blank');
    await page.addInitScript(() => {
      const relayed = (configuration) => ({ ...configuration, iceTransportPolicy: 'relay' });
      window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(configuration) {
          super(relayed(configuration));
        }
        setConfiguration(configuration) {
          super.setConfiguration(relayed(configuration));
        }
      };
    });
    await page.goto(server.address);
    return page;
  };

  it('two pages that have no other way see each other', async () => {
    const [alice, bob] = [await open(), await open()];
    await join(alice, 'Alice');
    await waitForState(alice, 'searching');
    await join(bob, 'Bob');
    await waitForCall(alice, bob);
    for (const page of [alice, bob]) {
      const told = await page.evaluate(() => {
        const [{ peerConnection }] = window.demo.client.sessions.values();
        return peerConnection.getConfiguration().iceServers;
      });
      assert.deepEqual(told.map(({ urls }) => urls), [[coturn.url]]);
      assert.match(told[0].username, /^\d+:(Alice|Bob)-/);
    }
    assert.notEqual(await alice.evaluate(() => window.sockets[0].protocol), '');
    assertNoFailures(alice, bob);
  });
});
