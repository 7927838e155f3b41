// The server under test and the browsers that call through it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

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

/** Starts the server and waits for the line that says where it listens. */
export async function startServer(binary, args = [], env = {}) {
  const server = spawn(binary, ['--dev', '--listen', '127.0.0.1:0', ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = new Promise((resolve) => server.once('exit', resolve));
  const limit = AbortSignal.timeout(PATIENCE);
  const address = await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`the server ended with code ${code} before it listened`)));
    limit.onabort = () => reject(new Error('the server never said where it listens'));
    createInterface(server.stdout).on('line', (line) => {
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(line);
      if (found) resolve(found[0]);
    });
  }).catch((error) => {
    server.kill('SIGKILL');
    throw error;
  });
  limit.onabort = null;
  return {
    address,
    async stop() {
      if (server.exitCode !== null || server.signalCode !== null) return;
      server.kill('SIGKILL');
      await exited;
    },
  };
}

/** A browser process of its own, so that it can be killed like one. */
export async function startBrowser() {
  const process_ = await chromium.launchServer({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: FLAGS,
    host: '127.0.0.1',
  });
  const browser = await chromium.connect(process_.wsEndpoint());
  return {
    /** A page with a storage of its own: another person. */
    async newPage(url, options = {}) {
      const context = await browser.newContext({ viewport: { width: 1100, height: 800 }, ...options });
      const page = await context.newPage();
      page.setDefaultTimeout(PATIENCE);
      const failures = [];
      page.on('pageerror', (error) => failures.push(error));
      page.failures = failures;
      await page.addInitScript(() => {
        window.sockets = [];
        window.WebSocket = class extends WebSocket {
          constructor(...args) {
            super(...args);
            window.sockets.push(this);
          }
        };
      });
      await page.goto(url);
      return page;
    },
    close: () => process_.close(),
    /** SIGKILL to the browser and its helpers: no unload handler, no close frame. */
    kill: () => process_.kill(),
  };
}

export async function join(page, name) {
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Find a partner' }).click();
}

export async function waitForState(page, ...states) {
  const selector = states.map((state) => `#app[data-state="${state}"]`).join(',');
  await page.waitForSelector(selector, { timeout: PATIENCE });
}

/** Both see each other: the state says so, and pictures of the partner are decoded now, not only once. */
export async function waitForCall(...pages) {
  for (const page of pages) await waitForState(page, 'connected');
  for (const page of pages) {
    const before = await page.evaluate(() => window.demo.framesDecoded());
    await page.waitForFunction(
      async (seen) => (await window.demo.framesDecoded()) > seen + 5,
      before,
      { timeout: PATIENCE, polling: 100 },
    );
  }
}

export function assertNoFailures(...pages) {
  for (const page of pages) assert.deepEqual(page.failures, []);
}
