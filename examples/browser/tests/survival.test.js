// What a call survives, measured in the pages: no new peer connection, no offer, no gap in the media, no lost message.

import assert from 'node:assert/strict';
import { after, before, describe } from 'node:test';
import { PATIENCE, waitUntil } from './browser.js';
import { Calls, MAX_GAP, callTest, startNode } from './calls.js';
import { SECRET, relayOnly, startCoturnSurely } from './coturn.js';
import { cut } from './cuts.js';
import { within } from './limits.js';
import { startRedis } from './redis.js';
import { binary, skip } from './scenario.js';

/** Milliseconds for starting a browser and a server. */
const START_LIMIT = { timeout: 30_000 };

/** The call has gone on with at most one new peer connection, and at least `least`. */
function assertSwapped(what, reports, least = 1) {
  const row = reports.map(({ peers, offers, gap }) => `${peers} new, ${offers} offers, ${gap} ms`);
  console.log(`${what}: alice ${row[0]}; bob ${row[1]}`);
  for (const { peers, gap, channels } of reports) {
    assert.ok(peers >= least && peers <= 1, JSON.stringify(reports));
    assert.ok(gap < MAX_GAP, JSON.stringify(reports));
    assert.equal(channels.length, 1 + peers, JSON.stringify(reports));
    assert.ok(channels.every(({ disorder }) => disorder === null), JSON.stringify(reports));
  }
}

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
    await calls.alice.page.waitForTimeout(3_500);
    const reports = await calls.recovered(0);
    await calls.assertUnharmed('refresh', reports);
    for (const user of calls.users) assert.ok(calls.tokens.asked.get(user) > 1, 'no token was asked for');
    assert.deepEqual(reports.map(({ told, sockets }) => [told, sockets]), [[[], 0], [[], 0]]);
  });

  test('a token function that fails twice', async () => {
    await calls.call({ seconds: 5 });
    for (const user of calls.users) calls.tokens.failures.set(user, 2);
    await calls.alice.page.waitForTimeout(5_300);
    for (const user of calls.users) assert.equal(calls.tokens.asked.get(user), 4, 'once, and then three times');
    const reports = await calls.recovered(0);
    await calls.assertUnharmed('refresh that fails twice', reports);
    assert.deepEqual(reports.map(({ sockets }) => sockets), [0, 0]);
  });

  test('a token function that is slower than the token lives', async () => {
    await calls.call({ seconds: 3 });
    calls.tokens.delay = 1_000;
    await Promise.all(calls.sides.map((side) => side.heard('continued')));
    calls.tokens.delay = 0;
    await calls.assertUnharmed('refresh that is slow', await calls.recovered(0));
  });

  for (const whose of ['alice', 'bob']) {
    test(`a new negotiation, because ${whose} could not continue`, async () => {
      await calls.call();
      await calls[whose].page.evaluate(() => (window.rig.isForgetful = true));
      calls[whose].proxy.reset();
      await Promise.all(calls.sides.map((side) => side.heard('match')));
      const isSwapped = () => window.rig.session.peerConnection === window.rig.peers.at(-1);
      for (const { page } of calls.sides) await waitUntil(page, 'the new peer connection in use', isSwapped);
      assertSwapped(`new negotiation by ${whose}`, await calls.recovered(3_000));
    });
  }

  for (const seed of [1, 2]) {
    test(`ten cuts of all kinds, seed ${seed}`, () => cut(calls, seed, 10), 60_000);
  }

  for (const whose of ['alice', 'bob']) {
    test(`${whose}'s loss of its connection after each message of the negotiation in turn`, async () => {
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
    const where = `${whose}, cut after message ${count}`;
    const [alice, bob] = await calls.assertSignals(where);
    console.log(`${where} of ${passed}: ${alice.offers} offers, ${alice.peers + bob.peers} peer connections`);
    assert.deepEqual([alice.peers, bob.peers], [1, 1], where);
    assert.ok(alice.offers + bob.offers <= 2, where);
    for (const { channels } of reports) assert.equal(channels.length, 1, where);
    return passed >= count;
  }
});

describe('a call on two servers with one Redis survives', { skip }, () => {
  let redis;
  let nodes = [];
  let calls;
  const start = (listen = '127.0.0.1:0') =>
    startNode(binary, ['--listen', listen, '--redis-url', redis.url, '--drain-delay', '0s', '--drain-timeout', '6s']);
  before(async () => {
    redis = await startRedis();
    nodes = await Promise.all([start(), start()]);
    calls = await Calls.start(nodes.map(({ address }) => address));
  }, START_LIMIT);
  after(async () => {
    await calls?.stop();
    await Promise.all(nodes.map((node) => node.stop()));
    await redis?.kill();
  });
  const test = (name, run, limit) => callTest(name, () => calls, run, limit);
  /** The node again, at the same address, after `signal` ended it. */
  const restart = async (index, signal, limit) => {
    const { address } = nodes[index];
    await nodes[index].kill(signal, limit);
    nodes[index] = await start(new URL(address).host);
  };
  const isReady = async () => {
    const asked = nodes.map(({ address }) => fetch(`${address}/readyz`).catch(() => ({ status: 0 })));
    return (await Promise.all(asked)).every(({ status }) => status === 200);
  };
  const ready = async () => {
    while (!(await isReady())) await new Promise((resolve) => setTimeout(resolve, 50));
  };

  for (const [what, home] of [['both are', 0], ['one is', 1]]) {
    test(`SIGKILL of the node that ${what} on`, async () => {
      const [first, second] = nodes.map(({ address }) => address);
      await calls.call({ routes: [[first, second], home === 0 ? [first, second] : [second]] });
      await nodes[0].kill();
      await calls.alice.heard('continued');
      if (home === 0) await calls.bob.heard('continued');
      await calls.assertUnharmed(`SIGKILL of the node that ${what} on`, await calls.recovered());
      await restart(0);
    });
  }

  for (const [what, home] of [['both are', 0], ['each has one of', 1]]) {
    test(`a rolling restart of the nodes that ${what} on, of which the partner is told nothing`, async () => {
      const [first, second] = nodes.map(({ address }) => address);
      await calls.call({ routes: [[first], home === 0 ? [first] : [second]] });
      for (const [index, other] of [[0, second], [1, first]]) {
        for (const { proxy } of calls.sides) proxy.use(other);
        await restart(index, 'SIGTERM', PATIENCE);
        await within(PATIENCE, 'ready nodes', ready());
      }
      const reports = await calls.recovered();
      await calls.assertUnharmed(`rolling restart, ${what} on`, reports);
      for (const { told, sockets } of reports) {
        assert.ok(sockets > 0, 'nobody moved');
        assert.deepEqual(told.filter((each) => each !== 'continued'), []);
      }
    }, 60_000);
  }

  for (const [what, home] of [['one node', 0], ['two nodes', 1]]) {
    test(`on ${what} a Redis that is killed and comes back empty`, async () => {
      const [first, second] = nodes.map(({ address }) => address);
      await calls.call({ routes: [[first], home === 0 ? [first] : [second]] });
      await redis.kill();
      if (home === 0) {
        // Back at once, and a connection breaks before the nodes have repaired what was lost.
        await redis.start();
        calls.bob.proxy.reset();
        await calls.bob.heard('state', 3);
      } else {
        // Back after a connection broke, and was refused once at least.
        calls.bob.proxy.reset();
        await calls.bob.heard('state', 4);
        await redis.start();
      }
      await within(PATIENCE, 'ready nodes', ready());
      const reports = await calls.recovered();
      assertSwapped(`Redis emptied, ${what}`, reports, 0);
    }, 60_000);
  }
});

describe('a call over TURN survives', { skip }, () => {
  let coturn;
  let server;
  let calls;
  before(async () => {
    coturn = await startCoturnSurely();
    server = await startNode(binary, ['--turn-url', coturn.url], { SIGNALING_TURN_SECRET: SECRET });
    calls = await Calls.start([server.address], { script: relayOnly });
  }, START_LIMIT);
  after(async () => {
    await calls?.stop();
    await server?.stop();
    await coturn?.stop();
  });

  callTest('the loss of the media path and of a connection to the server at once', () => calls, async () => {
    await calls.call();
    coturn = await coturn.restart();
    calls.bob.proxy.swallow();
    await calls.bob.heard('continued');
    const isBack = () => window.rig.events.filter(({ connectionState }) => connectionState === 'connected').length > 1;
    for (const { page } of calls.sides) {
      await page.waitForFunction(isBack, undefined, { timeout: 40_000, polling: 100 });
    }
    const reports = await calls.recovered();
    const row = reports.map(({ peers, offers, gap }) => `${peers} new, ${offers} offers, ${gap} ms`);
    console.log(`media and socket: alice ${row[0]}; bob ${row[1]}`);
    assert.deepEqual(reports.map(({ peers }) => peers), [0, 0]);
    assert.equal(reports[0].offers + reports[1].offers, 1, JSON.stringify(reports));
    assert.ok(reports[0].gap > MAX_GAP, 'the media path was never lost');
    for (const { channels } of reports) {
      assert.deepEqual(channels.map(({ state, disorder }) => [state, disorder]), [['open', null]]);
    }
  }, 60_000);
});
