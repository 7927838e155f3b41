// Every wait and every test ends: with what was waited for, or with an error that names it.

import { it as nodeIt } from 'node:test';

/** The real clock: tests may replace the global functions. */
const { setTimeout, clearTimeout } = globalThis;

/** Milliseconds for what ends a test: closing pages, browsers and servers. */
export const CLOSING = 5_000;
/** Milliseconds that a test without a browser may take. */
const UNIT_LIMIT = 5_000;

/** What `promise` gives, or after `ms` an error that says what was waited for. */
export async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms / 1_000} s for ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A test with a limit of its own. A promise that never settles would otherwise end the whole file. */
export function it(name, run) {
  nodeIt(name, () => within(UNIT_LIMIT, 'the end of the test', (async () => run())()));
}
