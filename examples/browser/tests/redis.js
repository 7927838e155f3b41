// A Redis of a test's own.

import { spawn } from 'node:child_process';
import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { PATIENCE } from './browser.js';
import { CLOSING, within } from './limits.js';

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Whether the Redis on this port answers. */
function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.once('data', (data) => {
      resolve(data.toString().startsWith('+PONG'));
      socket.destroy();
    });
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
  });
}

/** A `redis-server` that keeps nothing on disk. `kill` and `start` make it one that has lost everything. */
export async function startRedis() {
  let port = await freePort();
  let redis;
  let exited;
  const start = async () => {
    redis = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], {
      stdio: 'ignore',
    });
    exited = once(redis, 'exit');
    const ready = async () => {
      while (!(await answers(port))) {
        if (redis.exitCode !== null) throw new Error(`redis-server ended with code ${redis.exitCode}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    await within(PATIENCE, 'Redis', ready());
  };
  const kill = async () => {
    redis.kill('SIGKILL');
    await within(CLOSING, 'the end of Redis', exited);
  };
  await start().catch(async () => {
    port = await freePort();
    await start();
  });
  return { url: `redis://127.0.0.1:${port}`, start, kill };
}
