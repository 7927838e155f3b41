// Calls between two pages whose connections to the servers go through proxies, and what is measured of them.

import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { it } from 'node:test';
import { PATIENCE, startBrowser, startServer, waitUntil } from './browser.js';
import { CLOSING, within } from './limits.js';
import { startProxy } from './proxy.js';

const SECRETS = {
  SIGNALING_JWT_SECRET: randomBytes(32).toString('hex'),
  SIGNALING_API_KEY: randomBytes(32).toString('hex'),
};
/** Seconds after its `exp` that the server takes a token. */
const LEEWAY = 5;
/** Milliseconds without a new picture that count as a gap. */
export const MAX_GAP = 300;
/** Milliseconds that a call is watched after it has recovered. */
const WATCHED = 700;
/** A client that notices faster, so that the tests need not wait. */
const IMPATIENT = { heartbeatInterval: 500, ackTimeout: 1_000, backoffBase: 200, goingAwayJitter: 200 };

/** A test with pages and a limit of its own, in milliseconds. What failed is told with what the calls have told. */
export function callTest(name, calls, run, limit = 30_000) {
  it(name, async () => {
    try {
      await within(limit, 'the end of the test', run());
    } catch (error) {
      error.stack += `\n${await calls().describe()}`;
      throw error;
    }
  });
}

const base64 = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token that the server takes for `seconds`. */
function makeToken(user, seconds) {
  const now = Date.now() / 1_000;
  const claims = { sub: user, iat: now, exp: now + seconds - LEEWAY };
  const head = `${base64({ alg: 'HS256', typ: 'JWT' })}.${base64(claims)}`;
  return `${head}.${createHmac('sha256', SECRETS.SIGNALING_JWT_SECRET).update(head).digest('base64url')}`;
}

/**
 * Serves the pages, this folder's client and tokens. `tokens` says how requests for a token go: each user's next
 * `failures` are refused, and each takes `delay` ms. `asked` counts them by user.
 */
async function startPages() {
  const folder = new URL('.', import.meta.url);
  const files = {
    '/': ['text/html', 'rig-page.html'],
    '/rig.js': ['text/javascript', 'rig.js'],
    '/signaling-client.js': ['text/javascript', '../signaling-client.js'],
  };
  const tokens = { failures: new Map(), delay: 0, asked: new Map() };
  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://localhost');
    if (pathname === '/token') {
      const user = searchParams.get('user');
      tokens.asked.set(user, (tokens.asked.get(user) ?? 0) + 1);
      if (tokens.delay > 0) await new Promise((resolve) => setTimeout(resolve, tokens.delay));
      const failures = tokens.failures.get(user) ?? 0;
      tokens.failures.set(user, Math.max(0, failures - 1));
      if (failures > 0) response.writeHead(503).end();
      else response.end(makeToken(user, Number(searchParams.get('seconds'))));
    } else if (files[pathname]) {
      const [type, file] = files[pathname];
      response.setHeader('Content-Type', type);
      response.end(await readFile(new URL(file, folder)));
    } else {
      response.writeHead(404).end();
    }
  });
  await within(CLOSING, 'a port', new Promise((resolve) => server.listen(0, '127.0.0.1', resolve)));
  const stop = () => {
    server.close();
    server.closeAllConnections();
  };
  return { address: `http://127.0.0.1:${server.address().port}`, tokens, stop };
}

/** A server with the keys of these tests. */
export const startNode = (binary, args = [], env = {}) => startServer(binary, args, { ...SECRETS, ...env });

/** One page of a call. */
class Side {
  constructor(page, proxy) {
    this.page = page;
    this.proxy = proxy;
  }

  count = (type) => this.page.evaluate((type) => window.rig.count(type), type);
  report = () => this.page.evaluate(() => window.rig.report());

  measured = (what) => this.page.evaluate((what) => window.rig.report()[what], what);

  /** Waits until an event has come `times` times since the measurement began. */
  async heard(type, times = 1) {
    const enough = ({ type, times }) => window.rig.count(type) >= times;
    await waitUntil(this.page, `${times} "${type}"`, enough, { type, times });
  }

  async stop() {
    await this.page.evaluate(() => window.rig.stop());
  }
}

/** Two pages, a proxy for each, and one call after the other between them. */
export class Calls {
  #browser;
  #pages;
  #number = 0;
  #addresses = [];
  users = [];

  /** With pages that reach the first of `addresses` that takes their connection. */
  static async start(addresses, pageOptions = {}) {
    const calls = new Calls();
    calls.#addresses = addresses;
    calls.#pages = await startPages();
    calls.#browser = await startBrowser();
    calls.tokens = calls.#pages.tokens;
    const open = async () => {
      const proxy = await startProxy(...addresses);
      const page = await calls.#browser.newPage('about:blank');
      if (pageOptions.script) await page.addInitScript(pageOptions.script);
      await page.goto(calls.#pages.address);
      await waitUntil(page, 'the page', () => window.rig?.isReady);
      return new Side(page, proxy);
    };
    [calls.alice, calls.bob] = [await open(), await open()];
    return calls;
  }

  get sides() {
    return [this.alice, this.bob];
  }

  /** Ends the call before, and repairs the proxies. */
  async clear() {
    for (const side of this.sides) {
      side.proxy.watch(undefined);
      side.proxy.delay(0);
      side.proxy.mend();
      side.proxy.use(...this.#addresses);
      await side.stop();
      side.proxy.reset();
    }
    Object.assign(this.tokens, { failures: new Map(), delay: 0, asked: new Map() });
  }

  /** Both connect and are matched. `options` are the client's; `routes` the servers of each side, in order. */
  async match({ seconds = 3_600, options = {}, isClear = false, routes = [] } = {}) {
    if (!isClear) await this.clear();
    routes.forEach((addresses, index) => this.sides[index].proxy.use(...addresses));
    this.#number += 1;
    const users = this.users = [`alice-${process.pid}-${this.#number}`, `bob-${process.pid}-${this.#number}`];
    await Promise.all(this.sides.map(async ({ page, proxy }, index) => {
      const url = `${proxy.address}/ws/signaling`;
      const started = { url, user: users[index], seconds, options: { ...IMPATIENT, ...options } };
      await page.evaluate((started) => window.rig.start(started), started);
      await waitUntil(page, 'the connection to the server', () => window.rig.client.state === 'open');
    }));
    const response = await fetch(`${this.#addresses[0]}/api/sessions`, {
      method: 'POST',
      headers: { 'Authorization': `Bearer ${SECRETS.SIGNALING_API_KEY}`, 'Content-Type': 'application/json' },
      body: JSON.stringify({ initiatorId: users[0], partnerId: users[1] }),
      signal: AbortSignal.timeout(PATIENCE),
    });
    assert.equal(response.status, 201);
  }

  async connected() {
    for (const { page } of this.sides) {
      await waitUntil(page, 'pictures and messages of the partner', () => window.rig.isConnected());
    }
  }

  /** Starts the measurement. */
  async begin() {
    for (const { page } of this.sides) await page.evaluate(() => window.rig.begin());
  }

  /** A call with pictures and messages, measured from now. */
  async call(settings) {
    await this.match(settings);
    await this.connected();
    await this.begin();
  }

  /** Waits until both sides say that all is well, watches a little longer, and reports. */
  async recovered(watched = WATCHED) {
    for (const { page } of this.sides) {
      const isWell = () => window.rig.client.state === 'open' && window.rig.session?.state === 'active';
      await waitUntil(page, 'an open connection and an active session', isWell);
    }
    await this.connected();
    await new Promise((resolve) => setTimeout(resolve, watched));
    for (const { page } of this.sides) await page.evaluate(() => (window.rig.isQuiet = true));
    const [sentByAlice, sentByBob] = await Promise.all(
      this.sides.map(({ page }) => page.evaluate(() => window.rig.report().channels.at(-1).sent)),
    );
    const arrived = (count) => window.rig.report().channels.at(-1).arrived >= count;
    await waitUntil(this.bob.page, `${sentByAlice} messages of Alice`, arrived, sentByAlice);
    await waitUntil(this.alice.page, `${sentByBob} messages of Bob`, arrived, sentByBob);
    for (const { page } of this.sides) await page.evaluate(() => (window.rig.isQuiet = false));
    return Promise.all(this.sides.map((side) => side.report()));
  }

  /** Waits until each side has applied as many signals as the other sent: a dead connection may not be noticed yet. */
  async settled() {
    const counts = () => Promise.all(this.sides.map(({ page }) => page.evaluate(() => window.rig.signals())));
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      const [alice, bob] = await counts();
      if (alice.sent.length === bob.applied.length && bob.sent.length === alice.applied.length) return;
      assert.ok(Date.now() < deadline, `signals are missing after ${PATIENCE / 1_000} s`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Each signal has arrived once and in order. */
  async assertSignals(what) {
    await this.settled();
    const [alice, bob] = await Promise.all(this.sides.map(({ page }) => page.evaluate(() => window.rig.signals())));
    assert.deepEqual(bob.applied, alice.sent, `${what}: Alice's signals`);
    assert.deepEqual(alice.applied, bob.sent, `${what}: Bob's signals`);
    return [alice, bob];
  }

  /** The call has gone on as if nothing had happened. */
  async assertUnharmed(what, reports, { offers = 0 } = {}) {
    const row = reports.map(({ peers, offers, gap }) => `${peers} new, ${offers} offers, ${gap} ms`);
    console.log(`${what}: alice ${row[0]}; bob ${row[1]}`);
    reports.forEach((report, index) => {
      const whose = `${['Alice', 'Bob'][index]}: ${JSON.stringify(report)}`;
      assert.equal(report.peers, 0, whose);
      assert.ok(report.offers <= offers, whose);
      assert.ok(report.gap < MAX_GAP, whose);
      assert.equal(report.channels.length, 1, whose);
      const [{ state, disorder, arrived }] = report.channels;
      assert.deepEqual([state, disorder], ['open', null], whose);
      assert.ok(arrived > 0, whose);
    });
  }

  /** What both pages have told so far, for a test that failed. */
  async describe() {
    const told = this.sides.map(async ({ page }, index) => {
      const events = page.evaluate(() => {
        const { events, wire } = window.rig;
        return [JSON.stringify(events), JSON.stringify(window.rig.from && window.rig.report()), ...wire].join('\n    ');
      });
      const text = await within(CLOSING, 'the page', events).catch((error) => error.message);
      return [['Alice', 'Bob'][index], text, ...page.failures.map(String), ...page.said.slice(-10)].join('\n  ');
    });
    return (await Promise.all(told)).join('\n');
  }

  async stop() {
    for (const { proxy } of this.sides) proxy.stop();
    this.#pages.stop();
    await this.#browser.close();
  }
}
