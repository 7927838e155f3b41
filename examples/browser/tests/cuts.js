// Seeded cuts of all kinds in the middle of a call. As a command (`npm run test:cuts`) a long run of them: CUTS=1000 in
// all by default, from SEED=1. It prints each call, and how long after `online` signaling was back.

import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { Calls, startNode } from './calls.js';

const CUTS_PER_CALL = 10;
/** Milliseconds between two cuts at most: many come while the one before is still being repaired. */
const LONGEST_PAUSE = 600;

/** Numbers from 0 up to but not including 1, the same for the same seed (mulberry32). */
function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const dispatch = (type) => ({ page }) => page.evaluate((type) => window.dispatchEvent(new Event(type)), type);

const KINDS = {
  reset: ({ proxy }) => proxy.reset(),
  finish: ({ proxy }) => proxy.finish(),
  swallow: ({ proxy }) => proxy.swallow(),
  online: dispatch('online'),
  pageshow: dispatch('pageshow'),
  changeOfNetwork: async (side) => {
    side.proxy.swallow();
    await dispatch('online')(side);
  },
  slow: ({ proxy }) => proxy.delay(80),
  fast: ({ proxy }) => proxy.delay(0),
};

/** One call with `count` cuts. An ICE restart now and then keeps signals on the way; it changes no media. */
export async function cut(calls, seed, count) {
  const random = randomFrom(seed);
  const pick = (list) => list[Math.floor(random() * list.length)];
  await calls.call();
  const done = [];
  for (let number = 0; number < count; number += 1) {
    const kind = pick(Object.keys(KINDS));
    const chosen = random() < 0.3 ? calls.sides : [pick(calls.sides)];
    if (random() < 0.3) await calls.alice.page.evaluate(() => window.rig.session.peerConnection.restartIce());
    done.push(`${kind} of ${chosen.map((side) => (side === calls.alice ? 'alice' : 'bob')).join(' and ')}`);
    await Promise.all(chosen.map(KINDS[kind]));
    await new Promise((resolve) => setTimeout(resolve, random() * LONGEST_PAUSE));
  }
  try {
    for (const { proxy } of calls.sides) proxy.delay(0);
    await calls.recovered(0);
    await calls.settled();
    await calls.assertUnharmed(`seed ${seed}`, await calls.recovered(), { offers: count });
    await calls.assertSignals(`seed ${seed}`);
  } catch (error) {
    error.message += `\nseed ${seed}: ${done.join(', ')}`;
    throw error;
  }
}

/** Milliseconds from `online`, on a connection that is dead, until the session continues. */
async function timeOnline(calls) {
  await calls.call({ options: { heartbeatInterval: 10_000, ackTimeout: 10_000 } });
  const { page, proxy } = calls.alice;
  await page.context().setOffline(true);
  proxy.swallow();
  await page.evaluate(() => {
    window.addEventListener('online', () => (window.onlineAt = Date.now()), { once: true });
  });
  await page.context().setOffline(false);
  await calls.alice.heard('continued');
  return page.evaluate(() => window.rig.events.find(({ type }) => type === 'continued').at - window.onlineAt);
}

async function main() {
  const { SIGNALING_SERVER, CUTS = '1000', SEED = '1' } = process.env;
  const server = await startNode(SIGNALING_SERVER, ['--max-connects-per-minute', '0']);
  const calls = await Calls.start([server.address]);
  let failures = 0;
  for (let seed = Number(SEED), left = Number(CUTS); left > 0; seed += 1, left -= CUTS_PER_CALL) {
    await cut(calls, seed, Math.min(left, CUTS_PER_CALL)).catch(async (error) => {
      failures += 1;
      console.error(error, await calls.describe());
    });
  }
  const times = [];
  for (let turn = 0; turn < 20; turn += 1) times.push(await timeOnline(calls));
  times.sort((a, b) => a - b);
  console.log(`signaling was back after online: p50 ${times[9]} ms, p95 ${times[18]} ms`);
  console.log(`${CUTS} cuts, ${failures} calls failed`);
  await calls.stop();
  await server.stop();
  process.exit(failures > 0 ? 1 : 0);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
