// A test with real pages: its own server, its own pages, its own limit. What one leaves behind no other sees.

import { after, it } from 'node:test';
import { describePage, joinAndWait, join, startBrowser, startServer, waitForCall } from './browser.js';
import { CLOSING, within } from './limits.js';

export const binary = process.env.SIGNALING_SERVER;
/** Why tests with pages are skipped, if they are. */
export const skip = !binary && 'SIGNALING_SERVER names no server';

/** Milliseconds that a test with pages may take; most take 3,000. */
const LIMIT = 60_000;

/** The browser that all tests of a file share. One that died is replaced for the next test. */
let shared;
async function sharedBrowser() {
  if (!shared?.isConnected()) shared = await startBrowser();
  return shared;
}
after(() => shared?.close());

/** What one test uses. What it opens here is closed at its end, however it ends. */
class Stage {
  #cleanups = [];
  #closed = false;
  #pages = [];
  #servers = [];

  /** Closes what `opening` gives at the end of the test: at once, if the test has ended meanwhile. */
  keep = async (opening, close) => {
    const thing = await opening;
    this.#cleanups.push(() => close(thing));
    if (this.#closed) await this.close();
    return thing;
  };

  startServer = async (args, env) => {
    const server = await this.keep(startServer(binary, args, env), (each) => each.stop());
    this.#servers.push(server);
    return server;
  };

  /** A browser of this test's own, to be killed. */
  startBrowser = () => this.keep(startBrowser(), (each) => each.kill());

  /** Where the test's first server is. */
  get address() {
    return this.#servers[0].address;
  }

  /** A page of somebody new. */
  open = async (options = {}, address = this.address, browser = undefined) => {
    const opening = (browser ?? (await sharedBrowser())).newPage(address, options);
    const page = await this.keep(opening, (each) => each.context().close());
    this.#pages.push(page);
    return page;
  };

  /** Alice and Bob in a call. */
  call = async (address) => {
    const [alice, bob] = [await this.open({}, address), await this.open({}, address)];
    await joinAndWait(alice, 'Alice');
    await join(bob, 'Bob');
    await waitForCall(alice, bob);
    return [alice, bob];
  };

  /** `error` with what the pages show and what the servers said. */
  async explain(error) {
    const pages = await Promise.all(this.#pages.map(describePage));
    const logs = this.#servers.map((server) => `server's log:\n${server.log()}`);
    const explained = new Error(error.message);
    explained.stack = [error.stack, ...pages, ...logs].join('\n');
    return explained;
  }

  async close() {
    this.#closed = true;
    for (const cleanup of this.#cleanups.splice(0).reverse()) {
      await within(CLOSING, 'the end of what a test used', cleanup()).catch(() => {});
    }
  }
}

/** Runs `test` with a {@link Stage} that has a server. */
export function scenario(name, test) {
  it(name, async () => {
    const stage = new Stage();
    const run = async () => {
      await stage.startServer();
      await test(stage);
    };
    try {
      await within(LIMIT, 'the end of the test', run());
    } catch (error) {
      throw await stage.explain(error);
    } finally {
      await stage.close();
    }
  });
}
