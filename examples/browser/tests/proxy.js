// A TCP proxy between a page and the servers, which breaks connections in the ways that networks do.

import { connect, createServer } from 'node:net';
import { CLOSING, within } from './limits.js';

const SIGNAL = /"type":"(match-found|continued|received|offer|answer|ice-candidate)"/;

/**
 * Cuts a stream of WebSocket frames (RFC 6455, section 5.2) into frames, with the text of each.
 * Only what this project sends: no fragments, and no more than 64 KiB a frame.
 */
class Frames {
  #rest = Buffer.alloc(0);
  #upgraded = false;

  push(chunk) {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const frames = [];
    for (let frame = this.#next(); frame; frame = this.#next()) frames.push(frame);
    return frames;
  }

  #next() {
    if (!this.#upgraded) {
      const end = this.#rest.indexOf('\r\n\r\n');
      if (end < 0) return undefined;
      this.#upgraded = true;
      return { bytes: this.#take(end + 4), text: '' };
    }
    if (this.#rest.length < 4) return undefined;
    const [flags, second] = this.#rest;
    const isMasked = second > 127;
    const short = second & 127;
    const start = (short === 126 ? 4 : 2) + (isMasked ? 4 : 0);
    const length = short === 126 ? this.#rest.readUInt16BE(2) : short;
    if (this.#rest.length < start + length) return undefined;
    const bytes = this.#take(start + length);
    if ((flags & 15) !== 1) return { bytes, text: '' };
    const payload = Buffer.from(bytes.subarray(start));
    if (isMasked) payload.forEach((byte, index) => (payload[index] = byte ^ bytes[start - 4 + (index & 3)]));
    return { bytes, text: payload.toString() };
  }

  #take(count) {
    const bytes = this.#rest.subarray(0, count);
    this.#rest = this.#rest.subarray(count);
    return bytes;
  }
}

/** Both halves of one connection through the proxy. */
class Pair {
  isSwallowed = false;
  #near;
  #far;

  constructor(near, far, options, closed) {
    this.#near = near;
    this.#far = far;
    for (const [from, to] of [[near, far], [far, near]]) {
      const frames = new Frames();
      const forward = (chunk) => {
        if (!this.isSwallowed && !to.destroyed) to.write(chunk);
      };
      // Chunks that wait, so that none overtakes another when the delay changes.
      let waiting = Promise.resolve();
      let isWaiting = 0;
      const forwardLater = async (chunk, delay) => {
        isWaiting += 1;
        const due = new Promise((resolve) => setTimeout(resolve, delay));
        waiting = waiting.then(() => due).then(() => forward(chunk));
        await waiting;
        isWaiting -= 1;
      };
      from.on('data', (chunk) => {
        const { delay, watch } = options;
        if (watch) {
          for (const { bytes, text } of frames.push(chunk)) {
            forward(bytes);
            if (SIGNAL.test(text)) watch(this, text);
          }
        } else if (delay > 0 || isWaiting > 0) {
          forwardLater(chunk, delay);
        } else {
          forward(chunk);
        }
      });
      from.on('end', () => !this.isSwallowed && to.end());
      from.on('error', () => {});
      from.on('close', () => {
        closed();
        if (!this.isSwallowed) to.destroy();
      });
    }
  }

  destroy() {
    this.#near.destroy();
    this.#far.destroy();
  }

  /** FIN to both, without a close frame. */
  finish() {
    this.#near.end();
    this.#far.end();
  }

  /** RST to both. Not on a socket that was ended: Node 20 then never gets out of its own exit. */
  reset() {
    for (const end of [this.#near, this.#far]) {
      if (end.writableEnded || end.destroyed) end.destroy();
      else end.resetAndDestroy();
    }
  }
}

/** A proxy to the first of `addresses` that takes the connection. */
export async function startProxy(...addresses) {
  const pairs = new Set();
  const options = { delay: 0, watch: undefined };
  let targets = addresses;
  let isWhole = true;

  const dial = (near, rest) => {
    const [address, ...others] = rest;
    if (!address || near.destroyed) {
      near.destroy();
      return;
    }
    const { hostname, port } = new URL(address);
    const far = connect({ host: hostname, port, noDelay: true });
    const refused = () => dial(near, others);
    far.once('error', refused);
    far.once('connect', () => {
      far.off('error', refused);
      if (!isWhole) {
        near.destroy();
        far.destroy();
        return;
      }
      const pair = new Pair(near, far, options, () => pairs.delete(pair));
      pairs.add(pair);
      near.resume();
    });
  };
  const proxy = createServer({ noDelay: true, pauseOnConnect: true, allowHalfOpen: false }, (near) => {
    near.on('error', () => {});
    if (isWhole) dial(near, targets);
    else near.destroy();
  });
  await within(CLOSING, 'a port', new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve)));

  const all = (act) => [...pairs].forEach(act);
  return {
    address: `http://127.0.0.1:${proxy.address().port}`,
    /** Where new connections go. */
    use: (...others) => (targets = others),
    reset: () => all((pair) => pair.reset()),
    finish: () => all((pair) => pair.finish()),
    /** The connections stay open and carry nothing any more. */
    swallow: () => all((pair) => (pair.isSwallowed = true)),
    /** Milliseconds that each chunk takes, in connections of now and later. */
    delay: (ms) => (options.delay = ms),
    /** Calls `watch` with the connection and the text of each signal that has just passed. For connections to come. */
    watch: (watch) => (options.watch = watch),
    /** Ends all connections without a close frame, and new ones too until `mend`. */
    cut() {
      isWhole = false;
      all((pair) => pair.destroy());
    },
    mend: () => (isWhole = true),
    stop() {
      isWhole = false;
      all((pair) => pair.destroy());
      proxy.close();
    },
  };
}
