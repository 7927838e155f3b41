// A real call through a real TURN server: coturn on loopback, with the credentials that the pages get at their match.

import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { assertNoFailures, join, joinAndWait, waitForCall } from './browser.js';
import { SECRET, relayOnly, startCoturnSurely } from './coturn.js';
import { scenario, skip } from './scenario.js';

describe('behind a TURN server', { skip }, () => {
  /** A page whose peer connections have no way but TURN. */
  const openRelayed = async (open, address) => {
    const page = await open({}, 'about:blank');
    await page.addInitScript(relayOnly);
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
