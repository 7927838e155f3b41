// Heartbeats of a hidden page without media, which browsers throttle: a real one, over ten minutes. Too long for CI:
// `npm run test:hidden`, with the server's binary in SIGNALING_SERVER. MINUTES sets another length.
//
// A browser of its own, driven without Playwright, whose launch options turn throttling off.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startServer } from './browser.js';
import { within } from './limits.js';

const MINUTES = Number(process.env.MINUTES ?? 10);
/** Milliseconds without a heartbeat after which the server closes with 4408. */
const SERVER_LIMIT = 30_000;

/** Chromium behind `--remote-debugging-pipe`: JSON messages that end with a zero byte, on descriptors 3 and 4. */
async function startChromium() {
  const profile = await mkdtemp(join(tmpdir(), 'hidden-page-'));
  const flags = ['--headless=new', '--remote-debugging-pipe', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'];
  const browser = spawn(
    process.env.CHROMIUM ?? '/usr/bin/chromium',
    [...flags, '--no-first-run', '--disable-background-networking', '--disable-sync', `--user-data-dir=${profile}`],
    { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] },
  );
  const exited = new Promise((resolve) => browser.once('close', resolve));
  const [, , , requests, answers] = browser.stdio;
  const pending = new Map();
  let text = '';
  answers.setEncoding('utf8').on('data', (chunk) => {
    const messages = (text + chunk).split('\0');
    text = messages.pop();
    for (const { id, result, error } of messages.map((message) => JSON.parse(message))) {
      if (error) pending.get(id)?.reject(new Error(error.message));
      else pending.get(id)?.resolve(result);
      pending.delete(id);
    }
  });
  let lastId = 0;
  const call = (method, params = {}, sessionId) =>
    within(10_000, `an answer of Chromium to ${method}`, new Promise((resolve, reject) => {
      pending.set((lastId += 1), { resolve, reject });
      requests.write(`${JSON.stringify({ id: lastId, method, params, sessionId })}\0`);
    }));
  return {
    async openTab(url) {
      const { targetId } = await call('Target.createTarget', { url });
      const { sessionId } = await call('Target.attachToTarget', { targetId, flatten: true });
      return {
        async evaluate(run, ...args) {
          const expression = `(${run})(...${JSON.stringify(args)})`;
          const options = { expression, awaitPromise: true, returnByValue: true };
          const { result, exceptionDetails } = await call('Runtime.evaluate', options, sessionId);
          if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
          return result.value;
        },
      };
    },
    async close() {
      browser.kill('SIGKILL');
      await exited;
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/** Runs in the page: connects, and notes every heartbeat, every answer, every close, and the ticks of a chained timer. */
async function connect() {
  const seen = { beats: [], acks: 0, closes: [], ticks: [], wasVisible: false };
  window.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      this.addEventListener('message', ({ data }) => (seen.acks += JSON.parse(data).type === 'heartbeat-ack'));
      this.addEventListener('close', ({ code }) => seen.closes.push(code));
    }
    send(data) {
      if (JSON.parse(data).type === 'heartbeat') seen.beats.push(Date.now());
      super.send(data);
    }
  };
  document.addEventListener('visibilitychange', () => (seen.wasVisible ||= document.visibilityState === 'visible'));
  setInterval(() => seen.ticks.push(Date.now()), 1_000);
  const { SignalingClient } = await import('/signaling-client.js');
  const token = async () => {
    const options = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"name":"Hidden"}' };
    return (await (await fetch('/demo/token', options)).json()).token;
  };
  window.seen = seen;
  window.client = new SignalingClient({ url: '/ws/signaling', token });
  const open = new Promise((resolve) => {
    window.client.addEventListener('state', ({ detail }) => detail.state === 'open' && resolve());
  });
  window.client.connect();
  await open;
}

const server = await startServer(process.env.SIGNALING_SERVER);
const chromium = await startChromium();
try {
  const page = await chromium.openTab(server.address);
  await sleep(1_000);
  await page.evaluate(connect);
  await chromium.openTab('about:blank'); // A new tab comes to the front and hides the one before.
  await sleep(1_000);
  assert.equal(await page.evaluate(() => document.visibilityState), 'hidden');
  const hiddenAt = Date.now();
  const end = hiddenAt + MINUTES * 60_000;
  while (Date.now() < end) await sleep(Math.min(60_000, end - Date.now()));

  const { beats, acks, closes, ticks, wasVisible } = await page.evaluate(() => window.seen);
  const times = [...beats, Date.now()];
  const gap = Math.max(...times.slice(1).map((time, index) => time - times[index]));
  const lastMinute = ticks.filter((tick) => tick > end - 60_000).length;
  const count = (code) => closes.filter((each) => each === code).length;
  console.log(`hidden for ${MINUTES} minutes: ${beats.length} heartbeats, ${beats.length - acks} without an answer`);
  console.log(`longest time between two: ${(gap / 1_000).toFixed(1)} s; closes with 4408: ${count(4408)}, all: [${closes}]`);
  console.log(`a chained timer of 1 s ran ${lastMinute} times in the last minute`);
  assert.equal(wasVisible, false, 'the page was not hidden all the time');
  assert.ok(lastMinute <= 2 || MINUTES < 6, 'this browser does not throttle: nothing is proved');
  assert.deepEqual(closes, []);
  assert.ok(beats.length - acks <= 1, 'heartbeats were lost');
  assert.ok(gap < SERVER_LIMIT, 'the server would have closed the connection');
} catch (error) {
  console.error(server.log());
  throw error;
} finally {
  await chromium.close();
  await server.stop();
}
