// What a call survives, measured in the pages: no new peer connection, no offer, no gap in the media, no lost message.

import assert from 'node:assert/strict';
import { after, before, describe } from 'node:test';
import { Calls, callTest, startNode } from './calls.js';
import { binary, skip } from './scenario.js';

/** Milliseconds for starting a browser and a server. */
const START_LIMIT = { timeout: 30_000 };

describe('a call on one server survives', { skip }, () => {
  let server;
  let calls;
  before(async () => {
    server = await startNode(binary);
    calls = await Calls.start([server.address]);
  }, START_LIMIT);
  after(async () => {
    await calls?.stop();
    await server?.stop();
  });
  const test = (name, run, limit) => callTest(name, () => calls, run, limit);

  const faults = {
    'a reset': (proxy) => proxy.reset(),
    'a FIN': (proxy) => proxy.finish(),
    'a half-open connection': (proxy) => proxy.swallow(),
  };
  for (const [what, fail] of Object.entries(faults)) {
    for (const whose of ['alice', 'bob']) {
      test(`${what} of ${whose}`, async () => {
        await calls.call();
        fail(calls[whose].proxy);
        await calls[whose].heard('continued');
        await calls.assertUnharmed(`${what} of ${whose}`, await calls.recovered());
        assert.equal(await calls[whose].count('match'), 0);
      });
    }

    test(`${what} of both`, async () => {
      await calls.call();
      calls.sides.forEach(({ proxy }) => fail(proxy));
      await Promise.all(calls.sides.map((side) => side.heard('continued')));
      await calls.assertUnharmed(`${what} of both`, await calls.recovered());
    });
  }

  test('a slow network, and its end', async () => {
    await calls.call();
    calls.alice.proxy.delay(300);
    calls.alice.proxy.reset();
    await calls.alice.heard('continued');
    await calls.assertUnharmed('reset with 300 ms each way', await calls.recovered());
  });

  test('another network, of which the partner is told nothing', async () => {
    await calls.call({ options: { heartbeatInterval: 10_000, ackTimeout: 10_000 } });
    const { page, proxy } = calls.alice;
    await page.context().setOffline(true);
    proxy.swallow();
    await page.context().setOffline(false);
    await calls.alice.heard('continued');
    const reports = await calls.recovered();
    await calls.assertUnharmed('offline and online', reports);
    assert.deepEqual(reports[1].told, []);
  });

  test('a page that wakes up behind a dead connection, of which the partner is told nothing', async () => {
    await calls.call({ options: { heartbeatInterval: 10_000, ackTimeout: 10_000 } });
    calls.alice.proxy.swallow();
    await calls.alice.page.evaluate(() => window.dispatchEvent(new Event('pageshow')));
    await calls.alice.heard('continued');
    const reports = await calls.recovered();
    await calls.assertUnharmed('wake-up', reports);
    assert.deepEqual(reports[1].told, []);
  });

  test('a token that expires and is refreshed', async () => {
    await calls.call({ seconds: 3 });
    const asked = calls.tokens.asked.length;
    await calls.alice.page.waitForTimeout(3_500);
    const reports = await calls.recovered(0);
    await calls.assertUnharmed('refresh', reports);
    assert.ok(calls.tokens.asked.length >= asked + 2, 'no token was asked for');
    assert.deepEqual(reports.map(({ told, sockets }) => [told, sockets]), [[[], 0], [[], 0]]);
  });

  test('a token function that fails twice', async () => {
    await calls.call({ seconds: 4 });
    calls.tokens.failures = 4;
    await calls.alice.page.waitForTimeout(4_500);
    assert.equal(calls.tokens.failures, 0);
    const reports = await calls.recovered(0);
    await calls.assertUnharmed('refresh that fails twice', reports);
  });

  test('a token function that is slower than the token lives', async () => {
    await calls.call({ seconds: 3 });
    calls.tokens.delay = 1_000;
    await Promise.all(calls.sides.map((side) => side.heard('continued')));
    calls.tokens.delay = 0;
    await calls.assertUnharmed('refresh that is slow', await calls.recovered(0));
  });
});

describe('a negotiation', { skip }, () => {
  let server;
  let calls;
  before(async () => {
    server = await startNode(binary);
    calls = await Calls.start([server.address]);
  }, START_LIMIT);
  after(async () => {
    await calls?.stop();
    await server?.stop();
  });
  const test = (name, run, limit) => callTest(name, () => calls, run, limit);

  for (const whose of ['alice', 'bob']) {
    test(`is finished when ${whose} is cut off after each of its messages in turn`, async () => {
      // Each turn cuts one message later; the one in which nothing is left to cut is the last.
      for (let turn = 1, isCut = true; isCut; turn += 1) {
        isCut = await cutAfter(whose, turn);
      }
    }, 60_000);
  }

  /** Whether the negotiation had as many as `count` messages. */
  async function cutAfter(whose, count) {
    await calls.clear();
    let passed = 0;
    calls[whose].proxy.watch((pair) => {
      passed += 1;
      if (passed === count) pair.reset();
    });
    await calls.match({ isClear: true });
    await calls.connected();
    await calls.begin();
    const reports = await calls.recovered(0);
    const [alice, bob] = await Promise.all(calls.sides.map(({ page }) => page.evaluate(() => window.rig.signals())));
    const where = `${whose}, cut after message ${count}`;
    console.log(`${where} of ${passed}: ${alice.offers} offers, ${alice.peers + bob.peers} peer connections`);
    assert.deepEqual(bob.applied, alice.sent, `${where}: Alice's signals`);
    assert.deepEqual(alice.applied, bob.sent, `${where}: Bob's signals`);
    assert.deepEqual([alice.peers, bob.peers], [1, 1], where);
    assert.ok(alice.offers + bob.offers <= 2, where);
    for (const { channels } of reports) assert.equal(channels.length, 1, where);
    return passed >= count;
  }
});
