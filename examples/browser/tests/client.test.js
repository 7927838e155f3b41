// The socket to the server: reconnecting, heartbeats, tokens, leaving. No browser, no network, a mocked clock.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock } from 'node:test';
import { closeAdvice, reconnectDelay } from '../signaling-client.js';
import {
  FakePeerConnection,
  FakeWebSocket,
  advance,
  install,
  makeClient,
  makeMatchedClient,
  makeOpenClient,
  settle,
  uninstall,
} from './fakes.js';
import { it } from './limits.js';

const LIMITS = { backoffBase: 1_000, backoffMax: 15_000, goingAwayJitter: 3_000 };
const ALMOST_ONE = 1 - Number.EPSILON;

beforeEach(install);
afterEach(uninstall);

describe('delays', () => {
  const range = (advice, attempt) => [
    reconnectDelay(advice, attempt, LIMITS, () => 0),
    Math.round(reconnectDelay(advice, attempt, LIMITS, () => ALMOST_ONE)),
  ];

  it('follow the advice and stay within their bounds', () => {
    assert.deepEqual(range('reconnect', 0), [0, 1_000]);
    assert.deepEqual(range('reconnect', 2), [0, 4_000]);
    assert.deepEqual(range('backoff', 0), [500, 1_000]);
    assert.deepEqual(range('backoff', 3), [4_000, 8_000]);
    assert.deepEqual(range('jitter', 0), [0, 3_000]);
    assert.deepEqual(range('jitter', 3), [0, 8_000]);
    assert.deepEqual(range('token', 0), [0, 0]);
    assert.deepEqual(range('token', 1), [1_000, 2_000]);
  });

  it('never exceed the maximum, however many attempts failed', () => {
    for (const attempt of [4, 10, 2_000]) {
      assert.deepEqual(range('backoff', attempt), [7_500, 15_000]);
      assert.deepEqual(range('reconnect', attempt), [0, 15_000]);
    }
  });

  it('differ between clients', () => {
    const delays = new Set(Array.from({ length: 50 }, () => reconnectDelay('jitter', 0, LIMITS)));
    assert.ok(delays.size > 40, `only ${delays.size} different delays`);
  });
});

describe('after a close', () => {
  const table = {
    1000: 'stop', 1001: 'jitter', 1002: 'stop', 1006: 'reconnect', 1007: 'stop', 1008: 'stop', 1009: 'stop',
    1011: 'backoff', 4400: 'stop', 4401: 'token', 4403: 'stop',
    4408: 'reconnect', 4409: 'stop', 4413: 'reconnect', 4429: 'backoff', 4503: 'backoff', 1012: 'backoff',
  };
  const longest = { jitter: 3_000, reconnect: 1_000, backoff: 1_000, token: 0 };
  const soonest = { jitter: 0, reconnect: 0, backoff: 500, token: 0 };

  for (const [code, advice] of Object.entries(table)) {
    it(`${code} means ${advice}`, async () => {
      assert.equal(closeAdvice(Number(code)), advice);
      const { client, of, socket } = await makeOpenClient({ token: () => 'jwt' });
      socket.end(Number(code), 'because');
      await settle();

      if (advice === 'stop') {
        assert.equal(client.state, 'closed');
        assert.deepEqual(
          of('closed').map(({ code: told, reason, local }) => [told, reason, local]),
          [[Number(code), 'because', false]],
        );
        await advance(120_000, 10_000);
        assert.equal(FakeWebSocket.all.length, 1, 'a stopped client connected again');
        return;
      }
      const { state, code: told, reason, retryIn } = of('state').at(-1);
      assert.deepEqual([state, told, reason], ['reconnecting', Number(code), 'because']);
      assert.ok(retryIn >= soonest[advice] && retryIn <= longest[advice], `retry in ${retryIn} ms`);
      await advance(longest[advice] + 1);
      assert.equal(FakeWebSocket.all.length, 2);
    });
  }

  it('the wait grows with every failure in a row, and a connection that lasted ends the row', async () => {
    mock.method(Math, 'random', () => 0.5);
    const { of } = await makeOpenClient();
    const waits = () => of('state').filter(({ state }) => state === 'reconnecting').map(({ retryIn }) => retryIn);
    for (let failures = 0; failures < 6; failures += 1) {
      FakeWebSocket.last.end(4503);
      await advance(waits().at(-1));
    }
    assert.deepEqual(waits(), [750, 1_500, 3_000, 6_000, 11_250, 11_250]);

    FakeWebSocket.last.accept();
    FakeWebSocket.last.acknowledge();
    await advance(9_000);
    FakeWebSocket.last.end(4503);
    assert.equal(waits().at(-1), 11_250, 'nine seconds are not enough to trust the server');

    await advance(11_250);
    FakeWebSocket.last.accept();
    FakeWebSocket.last.acknowledge();
    await advance(10_000);
    FakeWebSocket.last.end(4503);
    assert.equal(waits().at(-1), 750);
  });

  it('a client that was closed by the application stays closed, whatever happens to the old socket', async () => {
    const { client, socket, of } = await makeOpenClient();
    client.close();
    socket.end(1006);
    await advance(60_000, 10_000);
    assert.equal(socket.closedWith, 1000);
    assert.equal(FakeWebSocket.all.length, 1);
    assert.deepEqual(of('closed').map(({ local }) => local), [true]);
  });

  it('closing while a reconnect waits, even from within its event, cancels it', async () => {
    const { client, socket } = await makeOpenClient();
    client.addEventListener('state', ({ detail }) => detail.state === 'reconnecting' && client.close());
    socket.end(1006);
    await advance(60_000, 10_000);
    assert.equal(client.state, 'closed');
    assert.equal(FakeWebSocket.all.length, 1);
  });

  it('a closed client can be connected again', async () => {
    const { client, socket } = await makeOpenClient();
    client.addEventListener('closed', () => client.connect(), { once: true });
    socket.end(1000);
    await settle();
    FakeWebSocket.last.accept();
    FakeWebSocket.last.acknowledge();
    assert.equal(FakeWebSocket.all.length, 2);
    assert.equal(client.state, 'open');
  });

  it('a client that is connected again has forgotten its failures', async () => {
    mock.method(Math, 'random', () => 0.5);
    const { client, of } = await makeOpenClient({ token: () => 'jwt' });
    for (const code of [4503, 4401, 1000, 4503, 4401]) {
      if (client.state === 'closed') client.connect();
      await settle();
      FakeWebSocket.last.end(code);
      await advance(of('state').at(-1).retryIn ?? 0);
      await settle();
      mock.timers.tick(1);
      await settle();
    }
    const waits = of('state').filter(({ state }) => state === 'reconnecting').map(({ retryIn }) => retryIn);
    assert.deepEqual(waits, [750, 0, 750, 0]);
  });
});

describe('heartbeats', () => {
  it('start with the connection and follow every ten seconds, each with its own id', async () => {
    const { socket } = await makeOpenClient();
    assert.deepEqual(socket.sent, [{ type: 'heartbeat', id: 1 }]);
    for (let beat = 2; beat <= 4; beat += 1) {
      await advance(9_999, 9_999);
      assert.equal(socket.sent.length, beat - 1);
      await advance(1);
      assert.deepEqual(socket.sent.at(-1), { type: 'heartbeat', id: beat });
      socket.acknowledge();
    }
  });

  it('are timed by the answer, for a hidden page runs chained timers once a minute only', async () => {
    const { client, socket } = await makeOpenClient();
    const intervals = mock.method(globalThis, 'setInterval').mock;
    await advance(10_000);
    assert.equal(socket.sent.length, 2);
    await advance(8_000);
    socket.acknowledge();
    await advance(9_500);
    assert.equal(socket.sent.length, 2, 'the next heartbeat did not wait for the answer');
    await advance(500);
    assert.equal(socket.sent.length, 3);
    socket.say({ type: 'error', code: 'rate-limited', message: 'slow down' });
    await advance(10_000);
    assert.equal(socket.sent.length, 4, 'whatever the server says shows that it is there');
    assert.equal(client.state, 'open');
    assert.equal(intervals.callCount(), 0);
  });

  it('name every open session', async () => {
    const { socket } = await makeMatchedClient({ isInitiator: true });
    socket.say({ type: 'match-found', sessionId: 's2', partnerId: 'eve', isInitiator: false });
    const before = socket.of('heartbeat').length;
    await advance(10_000);
    assert.deepEqual(
      socket.of('heartbeat').slice(before).map(({ sessionId }) => sessionId),
      ['s1', 's2'],
    );
  });

  it('replace a server that does not answer', async () => {
    const { client, of, socket } = await makeOpenClient();
    await advance(10_000);
    await advance(9_500);
    assert.equal(client.state, 'open');
    await advance(500);
    assert.equal(client.state, 'reconnecting');
    assert.equal(of('state').at(-1).code, 1006);
    await advance(1_000);
    assert.equal(FakeWebSocket.all.length, 2);
    assert.equal(socket.readyState, 1, 'the server may still hear us there: the new connection replaces it');
    await advance(9_500);
    assert.ok(socket.readyState >= 2, 'the dead socket is still open');
  });

  it('take any message for an answer', async () => {
    const { client, socket } = await makeOpenClient();
    await advance(15_000);
    socket.say({ type: 'error', code: 'rate-limited', message: 'slow down' });
    await advance(7_000);
    assert.equal(client.state, 'open');
  });

  it('go on at the same pace after a reconnect', async () => {
    const { socket } = await makeOpenClient();
    socket.end(1006);
    await advance(1_000);
    FakeWebSocket.last.accept();
    FakeWebSocket.last.acknowledge();
    await advance(10_000);
    assert.equal(FakeWebSocket.last.of('heartbeat').length, 2);
  });

  it('stop with the connection', async () => {
    const { client, socket } = await makeOpenClient();
    client.close();
    const { length } = socket.sent;
    await advance(30_000, 10_000);
    assert.equal(socket.sent.length, length);
  });

  it('ask again before they blame the server for a sleep of this page', async () => {
    const { client, socket } = await makeOpenClient();
    await advance(10_000);
    const before = socket.sent.length;
    mock.timers.setTime(Date.now() + 3_600_000);
    await advance(1);
    assert.equal(client.state, 'open');
    assert.ok(socket.sent.length > before, 'no heartbeat after the sleep');
    await advance(3_000);
    assert.equal(FakeWebSocket.all.length, 2, 'the second silence makes the socket suspect');
    await advance(7_000);
    assert.equal(client.state, 'connecting', 'the second silence counts');
  });
});

describe('a connection', () => {
  it('is open when the server has answered, not before', async () => {
    const { client } = makeClient();
    assert.equal(client.state, 'idle');
    client.connect();
    await settle();
    FakeWebSocket.last.accept();
    assert.equal(client.state, 'connecting');
    FakeWebSocket.last.acknowledge();
    assert.equal(client.state, 'open');
  });

  it('that hangs is replaced', async () => {
    const { client } = makeClient();
    client.connect();
    await settle();
    await advance(9_500);
    assert.equal(client.state, 'connecting');
    await advance(1_500);
    assert.equal(FakeWebSocket.all.length, 2);
    assert.ok(FakeWebSocket.all[0].readyState >= 2);
  });

  const impossible = {
    'there is no WebSocket': new ReferenceError('WebSocket is not defined'),
    'the address is none of a WebSocket': new DOMException('invalid scheme', 'SyntaxError'),
    'the page is secure and the address is not': new DOMException('insecure', 'SecurityError'),
    'what is thrown is no error': null,
  };
  for (const [why, thrown] of Object.entries(impossible)) {
    it(`is not tried again when ${why}`, async () => {
      globalThis.WebSocket = class {
        constructor() {
          throw thrown;
        }
      };
      let asked = 0;
      const { client, of } = makeClient({ token: () => `t${(asked += 1)}` });
      client.connect();
      await settle();
      assert.equal(client.state, 'closed');
      assert.deepEqual(of('error').map(({ code, cause }) => [code, cause]), [['connect-failed', thrown]]);
      const [{ code, reason, local }] = of('closed');
      assert.deepEqual([code, local], [1006, false]);
      assert.match(reason, new RegExp(`a WebSocket cannot be made: ${thrown?.message ?? thrown}`));
      await advance(120_000, 10_000);
      assert.equal(asked, 1);
    });
  }

  it('that was made once is tried again, with another token', async () => {
    const asked = [];
    const { client, socket, of } = await makeMatchedClient({
      isInitiator: true,
      auth: 'subprotocol',
      token: ({ refused }) => {
        asked.push(refused);
        return 'jwt';
      },
    });
    mock.method(globalThis, 'WebSocket', class {
      constructor() {
        throw new DOMException('invalid subprotocol', 'SyntaxError');
      }
    });
    socket.end(1006);
    await advance(1_000);
    assert.equal(client.sessions.get('s1').state, 'offline', 'the call was ended');
    assert.equal(of('error').at(-1).code, 'connect-failed');
    mock.restoreAll();
    globalThis.WebSocket = FakeWebSocket;
    await advance(2_000);
    assert.equal(FakeWebSocket.all.length, 2);
    assert.deepEqual(asked, [false, false, true]);
  });

  it('carries the token in the query, beside what the address has there', async () => {
    const { client } = makeClient({ url: 'https://host.example/ws?room=1', token: 'a.b.c' });
    client.connect();
    await settle();
    assert.equal(FakeWebSocket.last.url.href, 'wss://host.example/ws?room=1&token=a.b.c');
    assert.deepEqual(FakeWebSocket.last.protocols, ['signaling.v1']);
  });

  it('carries the token as a subprotocol if asked to', async () => {
    const { client } = makeClient({ token: 'a.b.c', auth: 'subprotocol' });
    client.connect();
    await settle();
    assert.equal(FakeWebSocket.last.url.href, 'wss://host.example/ws/signaling');
    assert.deepEqual(FakeWebSocket.last.protocols, ['signaling.v1', 'bearer.a.b.c']);
  });
});

describe('tokens', () => {
  it('are fetched for every connection, and the function learns that one was refused', async () => {
    const asked = [];
    const token = async ({ refused }) => `t${asked.push(refused)}`;
    const { socket } = await makeOpenClient({ token });
    assert.equal(socket.url.searchParams.get('token'), 't1');
    socket.end(1006);
    await advance(1_000);
    FakeWebSocket.last.end(4401);
    await advance(1);
    assert.deepEqual(asked, [false, false, true]);
    assert.equal(FakeWebSocket.last.url.searchParams.get('token'), 't3');
  });

  it('that are refused again and again are asked for with backoff', async () => {
    const { client, of } = makeClient({ token: () => 'bad' });
    client.connect();
    await settle();
    for (let refusals = 0; refusals < 3; refusals += 1) {
      FakeWebSocket.last.accept();
      FakeWebSocket.last.end(4401);
      await advance(4_001);
    }
    const waits = of('state').filter(({ state }) => state === 'reconnecting').map(({ retryIn }) => retryIn);
    assert.equal(waits[0], 0);
    assert.ok(waits[1] >= 1_000 && waits[1] <= 2_000, `second wait ${waits[1]}`);
    assert.ok(waits[2] >= 2_000 && waits[2] <= 4_000, `third wait ${waits[2]}`);
  });

  it('that were accepted in between are fetched at once again', async () => {
    const { of } = await makeOpenClient({ token: () => 'jwt' });
    for (let expiries = 0; expiries < 3; expiries += 1) {
      FakeWebSocket.last.end(4401);
      await advance(1);
      FakeWebSocket.last.accept();
      FakeWebSocket.last.acknowledge();
    }
    const waits = of('state').filter(({ state }) => state === 'reconnecting').map(({ retryIn }) => retryIn);
    assert.deepEqual(waits, [0, 0, 0]);
  });

  it('that are fixed and refused stop the client', async () => {
    const { client, socket, of } = await makeOpenClient({ token: 'fixed' });
    socket.end(4401, 'token expired');
    assert.equal(client.state, 'closed');
    assert.equal(of('closed')[0].code, 4401);
  });

  it('that cannot be fetched are reported and tried again', async () => {
    let calls = 0;
    const token = async () => {
      calls += 1;
      if (calls === 1) throw new Error('no network');
      return 'jwt';
    };
    const { client, of } = makeClient({ token });
    client.connect();
    await settle();
    assert.equal(of('error')[0].code, 'connect-failed');
    assert.equal(of('error')[0].cause.message, 'no network');
    await advance(1_001);
    assert.equal(FakeWebSocket.all.length, 1);
  });

  it('that never come are given up after the connect timeout and asked for again', async () => {
    const asked = [];
    const token = ({ refused }) => {
      asked.push(refused);
      return asked.length === 2 ? new Promise(() => {}) : 'jwt';
    };
    const { client, of, socket } = await makeOpenClient({ token });
    socket.end(4401);
    await advance(1);
    await advance(9_999);
    assert.equal(client.state, 'connecting');
    await advance(1);
    assert.equal(client.state, 'reconnecting');
    assert.deepEqual(of('error').map(({ code }) => code), ['connect-failed']);
    assert.match(of('error')[0].cause.message, /token function took more than 10000 ms/);
    await advance(1_001);
    assert.deepEqual(asked, [false, true, true], 'the refusal was forgotten');
    assert.equal(FakeWebSocket.all.length, 2);
  });

  it('that come in time leave the server its own time', async () => {
    const token = () => new Promise((resolve) => setTimeout(resolve, 9_000, 'jwt'));
    const { client, of } = makeClient({ token });
    client.connect();
    await advance(18_500);
    assert.equal(FakeWebSocket.all.length, 1);
    assert.deepEqual(of('state').map(({ state }) => state), ['connecting']);
    await advance(500);
    assert.equal(of('state')[1].state, 'reconnecting');
  });

  for (const none of [undefined, null, '', 7]) {
    it(`that are ${JSON.stringify(none) ?? none} are no tokens`, async () => {
      let given = none;
      const { client, of } = makeClient({ token: async () => given });
      client.connect();
      await settle();
      assert.equal(FakeWebSocket.all.length, 0);
      assert.deepEqual(of('error').map(({ code }) => code), ['connect-failed']);
      given = 'jwt';
      await advance(1_001);
      assert.equal(FakeWebSocket.all.length, 1);
      assert.throws(() => makeClient({ token: none }), TypeError);
    });
  }

  it('that arrive after close() open nothing', async () => {
    let give;
    const { client } = makeClient({ token: () => new Promise((resolve) => (give = resolve)) });
    client.connect();
    client.close();
    give('late');
    await settle();
    assert.equal(FakeWebSocket.all.length, 0);
  });
});

describe('waking up', () => {
  let page;
  let signals;
  beforeEach(() => {
    page = new EventTarget();
    signals = [];
    mock.method(globalThis, 'addEventListener', (type, listener, options) => {
      signals.push(options.signal);
      page.addEventListener(type, listener, options);
    });
    globalThis.document = { visibilityState: 'visible' };
  });
  afterEach(() => {
    delete globalThis.document;
  });
  globalThis.addEventListener ??= () => {};

  it('connects at once when the network is back', async () => {
    mock.method(Math, 'random', () => ALMOST_ONE);
    const { socket } = await makeOpenClient();
    socket.end(1006);
    await settle();
    page.dispatchEvent(new Event('online'));
    await settle();
    assert.equal(FakeWebSocket.all.length, 2);
    await advance(2_000);
    assert.equal(FakeWebSocket.all.length, 2, 'the wait that was cut short still ran out');
  });

  it('asks at once for a token that could not be fetched', async () => {
    const asked = [];
    const token = ({ refused }) => {
      asked.push(refused);
      if (asked.length > 1 && asked.length < 8) throw new Error('no network');
      return 'jwt';
    };
    mock.method(Math, 'random', () => ALMOST_ONE);
    const { client, socket } = await makeOpenClient({ token });
    socket.end(4401);
    await advance(10_000);
    assert.equal(client.state, 'reconnecting');
    for (let woken = asked.length; woken < 8; woken += 1) {
      page.dispatchEvent(new Event('online'));
      await settle();
    }
    assert.equal(FakeWebSocket.all.length, 2);
    assert.deepEqual(asked, [false, ...Array(7).fill(true)]);
  });

  it('connects a hidden page too when the network is back', async () => {
    globalThis.document.visibilityState = 'hidden';
    const { socket } = await makeOpenClient();
    socket.end(1006);
    page.dispatchEvent(new Event('online'));
    await settle();
    assert.equal(FakeWebSocket.all.length, 2);
  });

  it('does not cut short a wait that the server asked for', async () => {
    const { socket } = await makeOpenClient();
    socket.end(4503);
    page.dispatchEvent(new Event('online'));
    await settle();
    assert.equal(FakeWebSocket.all.length, 1);
  });

  for (const type of ['visibilitychange', 'pageshow', 'offline']) {
    it(`checks an open connection at ${type} and opens a second one after three seconds of silence`, async () => {
      const { client, socket } = await makeOpenClient();
      page.dispatchEvent(new Event(type));
      assert.equal(socket.of('heartbeat').length, 2);
      await advance(2_500);
      assert.equal(FakeWebSocket.all.length, 1);
      await advance(500);
      assert.equal(FakeWebSocket.all.length, 2);
      assert.equal(client.state, 'open');
    });
  }

  it('leaves a connection alone that answers', async () => {
    const { client, socket } = await makeOpenClient();
    page.dispatchEvent(new Event('pageshow'));
    await advance(2_500);
    socket.acknowledge();
    await advance(5_000);
    assert.equal(FakeWebSocket.all.length, 1);
    assert.equal(client.state, 'open');
  });

  it('does not leave the server the rest of a longer wait', async () => {
    await makeOpenClient();
    await advance(10_000);
    page.dispatchEvent(new Event('pageshow'));
    await advance(3_000);
    assert.equal(FakeWebSocket.all.length, 2);
  });

  it('gives up a connection that stays silent while no second one can be made', async () => {
    const { client, of } = await makeOpenClient();
    page.dispatchEvent(new Event('pageshow'));
    await advance(3_000);
    for (let left = 6_500; left > 0; left -= 500) {
      FakeWebSocket.last.end(1006);
      await advance(500);
    }
    assert.ok(FakeWebSocket.all.length > 3, 'no other one was tried');
    assert.equal(client.state, 'open');
    await advance(500);
    assert.notEqual(client.state, 'open');
    assert.equal(of('state').find(({ state }) => state === 'reconnecting').reason, 'the server does not answer');
  });

  it('means nothing while the page is hidden or the client closed', async () => {
    const { client, socket } = await makeOpenClient();
    globalThis.document.visibilityState = 'hidden';
    page.dispatchEvent(new Event('visibilitychange'));
    assert.equal(socket.of('heartbeat').length, 1);
    globalThis.document.visibilityState = 'visible';
    client.close();
    page.dispatchEvent(new Event('online'));
    await settle();
    assert.equal(FakeWebSocket.all.length, 1);
    assert.ok(signals.length > 0 && signals.every(({ aborted }) => aborted), 'a closed client still listens');
  });
});

describe('leaving', () => {
  it('tells the server, ends the session and keeps the connection', async () => {
    const { client, socket, of, pc } = await makeMatchedClient({ isInitiator: true });
    client.leave('s1');
    assert.deepEqual(socket.of('leave'), [{ type: 'leave', sessionId: 's1' }]);
    assert.equal(of('ended')[0].reason, 'left');
    assert.equal(client.sessions.size, 0);
    assert.ok(pc.closed);
    assert.equal(client.state, 'open');
  });

  it('is made up for when the connection broke first', async () => {
    const { client, socket } = await makeMatchedClient({ isInitiator: true });
    socket.end(1006);
    client.leave();
    await advance(1_000);
    FakeWebSocket.last.accept();
    FakeWebSocket.last.say({ type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: true });
    assert.deepEqual(FakeWebSocket.last.of('leave'), [{ type: 'leave', sessionId: 's1' }]);
    assert.equal(client.sessions.size, 0, 'the call came back from the dead');
  });

  it('is repeated with backoff until the server no longer knows the session', async () => {
    const { client, socket, of } = await makeMatchedClient({ isInitiator: true });
    client.leave();
    socket.acknowledge();
    socket.say({ type: 'error', code: 'unavailable', message: 'try again', sessionId: 's1' });
    await advance(499);
    assert.equal(socket.of('leave').length, 1);
    await advance(502);
    assert.equal(socket.of('leave').length, 2);
    await advance(2_000);
    assert.equal(socket.of('leave').length, 3);
    socket.say({ type: 'error', code: 'unknown-session', message: 'unknown', sessionId: 's1' });
    socket.acknowledge();
    await advance(8_000);
    assert.equal(socket.of('leave').length, 3);
    assert.deepEqual(of('error'), []);
  });

  it('makes void what the server said before it read it', async () => {
    const { client, socket } = await makeMatchedClient({ isInitiator: true });
    client.leave();
    socket.say({ type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: true });
    assert.equal(client.sessions.size, 0);
  });

  it('does not spoil the same id when it is matched anew', async () => {
    const { client, socket } = await makeMatchedClient({ isInitiator: true });
    client.leave();
    socket.acknowledge();
    socket.say({ type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: true });
    assert.equal(client.sessions.size, 1);
    await advance(5_000);
    assert.equal(socket.of('leave').length, 1, 'the new session was left');
  });

  it('rests while the client is closed', async () => {
    const { client } = await makeMatchedClient({ isInitiator: true });
    client.leave();
    client.close();
    const timers = mock.method(globalThis, 'setTimeout').mock;
    await advance(30_000, 10_000);
    assert.equal(timers.callCount(), 0);
    timers.restore();
    client.connect();
    await settle();
    FakeWebSocket.last.accept();
    FakeWebSocket.last.acknowledge();
    assert.equal(FakeWebSocket.last.of('leave').length, 1);
  });

  it('begins anew, once, on a new connection', async () => {
    mock.method(Math, 'random', () => 0.5);
    const { client, socket } = await makeMatchedClient({ isInitiator: true, ackTimeout: 1e9 });
    client.leave();
    await advance(750);
    socket.end(1006);
    await advance(500);
    FakeWebSocket.last.accept();
    FakeWebSocket.last.acknowledge();
    assert.equal(FakeWebSocket.last.of('leave').length, 1);
    await advance(11_500, 250);
    assert.equal(FakeWebSocket.last.of('leave').length, 5, 'after 0, 0.75, 2.25, 5.25 and 11.25 seconds');
  });

  it('ends everything that was still planned for the call', async () => {
    const { client, socket, pc } = await makeMatchedClient({ isInitiator: true });
    pc.turn('failed');
    socket.say({ type: 'error', code: 'unavailable', message: 'try again', sessionId: 's1' });
    client.leave();
    socket.say({ type: 'error', code: 'unknown-session', message: 'unknown', sessionId: 's1' });
    const before = socket.of('offer').length;
    await advance(5_000);
    assert.equal(pc.restarts, 0);
    assert.equal(socket.of('offer').length, before);
  });

  it('of one session leaves the others alone', async () => {
    const { client, socket } = await makeMatchedClient({ isInitiator: true });
    socket.say({ type: 'match-found', sessionId: 's2', partnerId: 'eve', isInitiator: false });
    client.leave('s1');
    assert.deepEqual([...client.sessions.keys()], ['s2']);
    assert.deepEqual(FakePeerConnection.all.map(({ closed }) => closed), [true, false]);
  });
});

describe('the state of a session', () => {
  const changes = (of) => of('sessionstate').map(({ previous, state }) => [previous, state]);
  const match = { type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: true };

  it('is told at every change, once, when it can be read', async () => {
    const { client, of, socket } = await makeOpenClient();
    const seen = [];
    client.addEventListener('sessionstate', ({ detail: { session, state } }) => {
      assert.equal(session.state, state);
      seen.push([state, client.sessions.has('s1'), session.peerConnection !== null]);
    });
    socket.say(match);
    socket.say(match);
    socket.say({ type: 'partner-disconnected', sessionId: 's1', reason: 'lost' });
    socket.say({ type: 'error', code: 'partner-absent', message: 'away', sessionId: 's1' });
    assert.equal(client.sessions.get('s1').partnerReason, 'lost');
    socket.say(match);
    assert.equal(client.sessions.get('s1').partnerReason, undefined);
    socket.end(1006);
    await advance(1_000);
    FakeWebSocket.last.accept();
    FakeWebSocket.last.say(match);
    client.leave();
    assert.deepEqual(changes(of), [
      [null, 'active'],
      ['active', 'partner-away'],
      ['partner-away', 'active'],
      ['active', 'offline'],
      ['offline', 'active'],
      ['active', 'ended'],
    ]);
    assert.deepEqual(seen, [
      ['active', true, true],
      ['partner-away', true, true],
      ['active', true, true],
      ['offline', true, true],
      ['active', true, true],
      ['ended', false, false],
    ]);
  });

  it('is told before the event that explains it', async () => {
    const { events, socket } = await makeMatchedClient({ isInitiator: true });
    socket.say({ type: 'partner-disconnected', sessionId: 's1', reason: 'left' });
    socket.say({ type: 'error', code: 'unknown-session', message: 'unknown', sessionId: 's1' });
    const told = events.filter(({ session }) => session).map(({ type, state }) => state ?? type);
    assert.deepEqual(told, [
      'peerconnection', 'active', 'match', 'partner-away', 'partner-disconnected', 'ended', 'ended',
    ]);
    assert.equal(events.at(-1).session.partnerReason, 'left');
  });

  it('may be answered by closing the client or by leaving', async () => {
    for (const [state, act] of [['offline', 'close'], ['active', 'leave'], ['partner-away', 'leave']]) {
      const { client, of, socket } = await makeOpenClient();
      client.addEventListener('sessionstate', ({ detail }) => detail.state === state && client[act]());
      socket.say(match);
      socket.say({ type: 'partner-disconnected', sessionId: 's1', reason: 'lost' });
      if (state === 'offline') socket.end(1006);
      await advance(61_000, 10_000);
      assert.equal(client.sessions.size, 0);
      assert.equal(of('ended').length, 1);
      assert.equal(of('match').length, state === 'active' ? 0 : 1);
      assert.equal(client.state === 'closed', state === 'offline');
      assert.ok(FakePeerConnection.all.every(({ closed }) => closed));
      client.close();
    }
  });

  it('is ended when there can be no peer connection, and the partner need not wait', async () => {
    const { client, of, socket } = await makeOpenClient();
    const thrown = new ReferenceError('RTCPeerConnection is not defined');
    globalThis.RTCPeerConnection = class {
      constructor() {
        throw thrown;
      }
    };
    socket.say(match);
    assert.deepEqual(of('error').map(({ code, sessionId, cause }) => [code, sessionId, cause]), [
      ['negotiation-failed', 's1', thrown],
    ]);
    assert.deepEqual(of('ended').map(({ reason }) => reason), ['failed']);
    assert.deepEqual(of('match'), []);
    assert.equal(socket.of('leave').length, 1);
    assert.equal(client.state, 'open');
  });
});

describe('a partner that is gone', () => {
  it('is told at once, and the server is asked whether it may come back', async () => {
    const { socket, of, session, pc } = await makeMatchedClient({ isInitiator: true });
    socket.say({ type: 'partner-disconnected', sessionId: 's1' });
    assert.equal(of('partner-disconnected').length, 1);
    assert.equal(session.state, 'partner-away');
    assert.equal(pc.closed, false, 'media may still flow');
    assert.equal(socket.sent.at(-1).type, 'heartbeat');
    assert.equal(socket.sent.at(-1).sessionId, 's1');
  });

  it('is told with its reason', async () => {
    const { socket, of } = await makeMatchedClient({ isInitiator: true });
    for (const reason of ['left', 'lost', 'timeout', 'replaced', 'ended']) {
      socket.say({ type: 'partner-disconnected', sessionId: 's1', reason });
      assert.equal(of('partner-disconnected').at(-1).reason, reason);
      socket.say({ type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: true });
    }
  });

  it('has left for good when the server no longer knows the session', async () => {
    const { client, socket, of, pc } = await makeMatchedClient({ isInitiator: true });
    socket.say({ type: 'partner-disconnected', sessionId: 's1' });
    socket.say({ type: 'error', code: 'unknown-session', message: 'unknown session', sessionId: 's1' });
    assert.deepEqual(of('ended').map(({ reason }) => reason), ['gone']);
    assert.equal(client.sessions.size, 0);
    assert.ok(pc.closed);
  });

  it('has left, also if our own connection breaks before the session ends', async () => {
    const { socket, of } = await makeMatchedClient({ isInitiator: true });
    socket.say({ type: 'partner-disconnected', sessionId: 's1', reason: 'left' });
    socket.end(1006);
    await advance(1_000);
    FakeWebSocket.last.accept();
    FakeWebSocket.last.say({ type: 'error', code: 'unknown-session', message: 'unknown', sessionId: 's1' });
    assert.deepEqual(of('ended').map(({ reason, session }) => [reason, session.partnerReason]), [['gone', 'left']]);
  });

  it('is waited for sixty seconds', async () => {
    const { socket, of } = await makeMatchedClient({ isInitiator: true, ackTimeout: 1e9 });
    socket.say({ type: 'partner-disconnected', sessionId: 's1' });
    await advance(59_900, 9_000);
    assert.deepEqual(of('ended'), []);
    await advance(100);
    assert.deepEqual(of('ended').map(({ reason }) => reason), ['abandoned']);
  });

  it('that comes back in time is not given up', async () => {
    const { client, socket } = await makeMatchedClient({ isInitiator: true, ackTimeout: 1e9 });
    socket.say({ type: 'partner-disconnected', sessionId: 's1' });
    await advance(30_000, 10_000);
    socket.say({ type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: true });
    await advance(60_000, 10_000);
    assert.equal(client.sessions.get('s1').state, 'active');
  });
});

it('reports the errors that the server sends', async () => {
  const { socket, of } = await makeOpenClient();
  socket.say({ type: 'error', code: 'too-large', message: 'too large' });
  assert.deepEqual(of('error').map(({ code, message }) => [code, message]), [['too-large', 'too large']]);
});

it('ignores message types of a later protocol', async () => {
  const { client, socket } = await makeOpenClient();
  socket.say({ type: 'news' });
  assert.equal(client.state, 'open');
});
