// A TURN server on loopback, with the credentials that pages get at their match.

import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { CLOSING, within } from './limits.js';

export const SECRET = 'shared by server and coturn';

/** STUN's Binding request: RFC 8489, section 5. */
const BINDING = Buffer.from('000100002112a442' + '00'.repeat(12), 'hex');

async function freePort() {
  const socket = createSocket('udp4');
  await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  await new Promise((resolve) => socket.close(resolve));
  return port;
}

/** A `turnserver` on this port that answers. `restart` gives one on the same port that has forgotten all. */
async function startCoturn(port) {
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
  const restart = async () => {
    await stop();
    return startCoturn(port);
  };
  return { url: `turn:127.0.0.1:${port}?transport=udp`, stop, restart };
}

/** Another process may take the free port first. */
export async function startCoturnSurely(attempts = 3) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await startCoturn(await freePort());
    } catch (error) {
      if (attempt === attempts) throw error;
    }
  }
}

/** Runs in a page: its peer connections have no way but TURN. */
export function relayOnly() {
  const relayed = (configuration) => ({ ...configuration, iceTransportPolicy: 'relay' });
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration) {
      super(relayed(configuration));
    }
    setConfiguration(configuration) {
      super.setConfiguration(relayed(configuration));
    }
  };
}
