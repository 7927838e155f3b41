// A real call through a real TURN server: coturn on loopback, with the credentials that the pages get at their match.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { describe } from 'node:test';
import { assertNoFailures, join, joinAndWait, waitForCall } from './browser.js';
import { CLOSING, within } from './limits.js';
import { scenario, skip } from './scenario.js';

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
  const ended = new Promise((resolve) => ['error', 'exit'].forEach((event) => coturn.once(event, resolve)));
  const stop = async () => {
    coturn.kill('SIGKILL');
    await within(CLOSING, 'the end of coturn', ended);
    await rm(folder, { recursive: true });
  };
  const probe = createSocket('udp4');
  const answered = new Promise((resolve, reject) => {
    probe.once('message', resolve);
    ended.then((why) => reject(new Error(`coturn ended before it answered: ${why}`)));
  });
  const asking = setInterval(() => probe.send(BINDING, port, '127.0.0.1'), 50);
  try {
    await within(CLOSING, 'an answer of coturn', answered);
  } catch (error) {
    await stop();
    throw error;
  } finally {
    clearInterval(asking);
    probe.close();
  }
  return { url: `turn:127.0.0.1:${port}?transport=udp`, stop };
}

/** Another process may take the free port first. */
async function startCoturnSurely(attempts = 3) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await startCoturn();
    } catch (error) {
      if (attempt === attempts) throw error;
    }
  }
}

describe('behind a TURN server', { skip }, () => {
  /** A page whose peer connections have no way but TURN. */
  const openRelayed = async (open, address) => {
    const page = await open({}, 'about:blank');
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
    await page.goto(address);
    return page;
  };

  scenario('two pages that have no other way see each other', async ({ open, keep, startServer }) => {
    const coturn = await keep(startCoturnSurely(), (each) => each.stop());
    const server = await startServer(['--turn-url', coturn.url], { SIGNALING_TURN_SECRET: SECRET });
    const [alice, bob] = [await openRelayed(open, server.address), await openRelayed(open, server.address)];
    await joinAndWait(alice, 'Alice');
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
