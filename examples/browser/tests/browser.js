// The server under test and the browsers that call through it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';
import { CLOSING, within } from './limits.js';

const FLAGS = [
  '--no-sandbox',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  '--disable-features=WebRtcHideLocalIpsWithMdns',
  '--autoplay-policy=no-user-gesture-required',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--allow-loopback-in-peer-connection',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Milliseconds within which anything that is expected to happen has happened, on a slow machine too. */
export const PATIENCE = 20_000;
/** Characters of a server's log that are kept: its end. */
const MAX_LOG = 64 * 1024;

/** Starts the server and waits for the line that says where it listens. Its output goes to `log()` only. */
export async function startServer(binary, args = [], env = {}) {
  const port = args.includes('--listen') ? [] : ['--listen', '127.0.0.1:0'];
  const server = spawn(binary, ['--dev', ...port, ...args], {
    // The server warns of variables that it does not know, and this one is the tests'.
    env: { ...process.env, SIGNALING_SERVER: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  const exited = new Promise((resolve) => server.once('close', resolve));
  const listening = new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('close', (code) => reject(new Error(`the server ended with code ${code} before it listened`)));
    createInterface(server.stdout).on('line', (line) => {
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(line);
      if (found) resolve(found[0]);
    });
  });
  for (const output of [server.stdout, server.stderr]) {
    output.setEncoding('utf8').on('data', (text) => (log = (log + text).slice(-MAX_LOG)));
  }
  /** Resolves when the process has ended. */
  const kill = async (signal = 'SIGKILL', limit = CLOSING) => {
    server.kill(signal);
    await within(limit, 'the end of the server', exited);
  };
  const address = await within(PATIENCE, 'the address of the server', listening).catch(async (error) => {
    if (server.pid) await kill();
    throw new Error(`${error.message}\n${log}`, { cause: error });
  });
  return { address, log: () => log, kill, stop: () => kill() };
}

/** A browser process of its own, so that it can be killed like one. */
export async function startBrowser() {
  const process_ = await chromium.launchServer({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: FLAGS,
    host: '127.0.0.1',
    timeout: PATIENCE,
  });
  const kill = () => within(CLOSING, 'the end of the killed browser', process_.kill());
  const browser = await chromium.connect(process_.wsEndpoint(), { timeout: PATIENCE }).catch(async (error) => {
    await kill();
    throw error;
  });
  return {
    isConnected: () => browser.isConnected(),
    /** A page with a storage of its own: another person. */
    async newPage(url, options = {}) {
      const context = await browser.newContext({ viewport: { width: 1100, height: 800 }, ...options });
      const page = await context.newPage();
      page.setDefaultTimeout(PATIENCE);
      page.failures = [];
      page.said = [];
      page.on('pageerror', (error) => page.failures.push(error));
      page.on('console', (message) => page.said.push(message.text()));
      await page.addInitScript(() => {
        window.sockets = [];
        window.WebSocket = class extends WebSocket {
          constructor(...args) {
            super(...args);
            window.sockets.push(this);
          }
        };
      });
      await page.goto(url).catch(async (error) => {
        await context.close();
        throw error;
      });
      return page;
    },
    close: () => within(CLOSING, 'the end of the browser', process_.close()).catch(kill),
    /** SIGKILL to the browser and its helpers: no unload handler, no close frame. */
    kill,
  };
}

export async function join(page, name) {
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Find a partner' }).click();
}

/** As {@link join}, and the server has put them into its queue. */
export async function joinAndWait(page, name) {
  const queued = page.waitForResponse(
    (response) => response.url().endsWith('/demo/queue') && response.request().method() === 'POST',
  );
  await Promise.all([queued, join(page, name)]);
  await waitForState(page, 'searching');
}

export async function waitForState(page, ...states) {
  const selector = states.map((state) => `#app[data-state="${state}"]`).join(',');
  await page.waitForSelector(selector, { timeout: PATIENCE });
}

/** Waits until `condition(argument)` holds in the page. */
export async function waitUntil(page, what, condition, argument) {
  await page.waitForFunction(condition, argument, { timeout: PATIENCE, polling: 100 }).catch((cause) => {
    throw new Error(`waited ${PATIENCE / 1_000} s for ${what}`, { cause });
  });
}

/** Both see each other: the state says so, and pictures of the partner are decoded now, not only once. */
export async function waitForCall(...pages) {
  for (const page of pages) await waitForState(page, 'connected');
  for (const page of pages) await waitForPictures(page);
}

/** Pictures of the partner are decoded now. */
export async function waitForPictures(page) {
  const before = await page.evaluate(() => window.demo.framesDecoded());
  const condition = async (seen) => (await window.demo.framesDecoded()) > seen + 5;
  await waitUntil(page, `pictures of the partner, after ${before}`, condition, before);
}

/**
 * Listens in the page for the client's next event of a type, surely from when this returns. What it returns waits for
 * the event and gives its reason and its time.
 */
export async function listen(page, type) {
  await page.evaluate((type) => {
    window.heard ??= {};
    window.heard[type] = new Promise((resolve) => {
      const told = ({ detail }) => resolve({ reason: detail.reason, at: Date.now() });
      window.demo.client.addEventListener(type, told, { once: true });
    });
  }, type);
  return () => within(PATIENCE, `the event "${type}"`, page.evaluate((type) => window.heard[type], type));
}

/** What a page shows, for the report of a test that failed. */
export async function describePage(page) {
  const shown = page.evaluate(() => {
    const text = (id) => document.getElementById(id)?.textContent;
    const state = document.getElementById('app')?.dataset.state;
    return `${document.getElementById('name')?.value}: ${state}, "${text('status')}", "${text('link')}"`;
  });
  const what = await within(CLOSING, 'the page', shown).catch((error) => error.message);
  return [`page of ${what}`, ...page.failures.map(String), ...page.said.slice(-20)].join('\n  ');
}

export function assertNoFailures(...pages) {
  for (const page of pages) assert.deepEqual(page.failures, []);
}
