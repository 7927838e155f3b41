// A negotiation that goes on over several connections. No browser, no network, a mocked clock.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock } from 'node:test';
import {
  FakePeerConnection,
  FakeWebSocket,
  advance,
  audio,
  install,
  makeClient,
  makeMatchedClient,
  makeOpenClient,
  settle,
  stream,
  uninstall,
  video,
} from './fakes.js';
import { it } from './limits.js';

const SIGNALS = ['offer', 'answer', 'ice-candidate'];
const lineOf = (mid) => ({ candidate: `candidate:1 1 udp 1 192.0.2.1 9 typ host`, sdpMid: mid, sdpMLineIndex: 0 });
const N1 = '00000000000000a1';
const N2 = '00000000000000a2';

const signals = (socket) => socket.sent.filter(({ type }) => SIGNALS.includes(type));
const seqs = (socket) => signals(socket).map(({ seq }) => seq);
const continued = (partnerConnected = true) => ({
  type: 'continued', sessionId: 's1', negotiation: N1, partnerConnected,
});
const received = (seq, negotiation = N1) => ({ type: 'received', sessionId: 's1', negotiation, seq });
const answer = (pc, seq, negotiation = N1) => ({
  type: 'answer', sessionId: 's1', negotiation, seq, sdp: `answer 0 to ${pc.localDescription.sdp}`,
});
const matchFound = (negotiation, isInitiator = true) => ({
  type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator, negotiation,
});

/** What a page offers the client: events of the window, and the network's kind. */
let page;
let network;
beforeEach(() => {
  install();
  page = new EventTarget();
  network = Object.assign(new EventTarget(), { type: 'wifi' });
  globalThis.addEventListener ??= () => {};
  mock.method(globalThis, 'addEventListener', (...args) => page.addEventListener(...args));
  Object.defineProperty(globalThis, 'navigator', { value: { connection: network }, configurable: true });
});
afterEach(() => {
  delete globalThis.navigator;
  uninstall();
});

const makeCaller = (options) => makeMatchedClient({ isInitiator: true, negotiation: N1, ...options });

/** The next connection is made and accepted, and has said nothing yet. */
async function reconnect(socket, code = 1006) {
  socket.end(code);
  await advance(4_001);
  const next = FakeWebSocket.last;
  assert.notEqual(next, socket, 'no new connection');
  next.accept();
  return next;
}

/** A call whose peer connection is connected. */
async function makeCall(options) {
  const made = await makeCaller(options);
  made.socket.say(answer(made.pc, 1));
  await settle();
  made.pc.turn('connected');
  return made;
}

describe('a negotiation', () => {
  it('numbers what is sent', async () => {
    const { socket, pc } = await makeCaller();
    pc.find({ toJSON: () => lineOf('0') });
    pc.find(null);
    assert.deepEqual(signals(socket).map(({ type, negotiation, seq }) => [type, negotiation, seq]), [
      ['offer', N1, 1],
      ['ice-candidate', N1, 2],
      ['ice-candidate', N1, 3],
    ]);
  });

  it('takes each signal of the partner once, in order, and none of another negotiation', async () => {
    const { socket, pc, of } = await makeMatchedClient({ isInitiator: false, negotiation: N1 });
    const candidate = (seq, mid, negotiation = N1) => ({
      type: 'ice-candidate', sessionId: 's1', negotiation, seq, candidate: lineOf(mid),
    });
    socket.say({ type: 'offer', sessionId: 's1', negotiation: N1, seq: 1, sdp: 'offer x' });
    socket.say(candidate(2, 'a'));
    socket.say(candidate(2, 'a'));
    socket.say(candidate(4, 'too early'));
    socket.say(candidate(3, 'of another', N2));
    socket.say({ type: 'ice-candidate', sessionId: 's1', candidate: lineOf('without') });
    socket.say(candidate(3, 'b'));
    socket.say(candidate(1, 'a'));
    await settle();
    assert.deepEqual(pc.candidates.map(({ sdpMid }) => sdpMid), ['a', 'b']);
    assert.equal(signals(socket).length, 1, 'one answer');
    assert.deepEqual(of('error'), []);
  });

  it('is continued on the next connection, which says how far it came', async () => {
    const { socket, pc, session, of } = await makeCall();
    socket.say({ type: 'ice-candidate', sessionId: 's1', negotiation: N1, seq: 2, candidate: lineOf('0') });
    const next = await reconnect(socket);
    assert.deepEqual(next.url.searchParams.getAll('continue'), [`s1~${N1}~2`]);
    assert.equal(session.state, 'offline');
    next.say(continued());
    assert.equal(session.state, 'active');
    assert.deepEqual(of('continued').map(({ session: { id }, partnerConnected }) => [id, partnerConnected]), [
      ['s1', true],
    ]);
    next.say(received(1));
    await settle();
    assert.equal(session.peerConnection, pc);
    assert.equal(FakePeerConnection.all.length, 1);
    assert.deepEqual(signals(next), []);
    assert.equal(of('match').length, 1);
  });

  it('is not continued if it was received nothing from the server that knows it', async () => {
    const { socket } = await makeMatchedClient({ isInitiator: true });
    const next = await reconnect(socket);
    assert.deepEqual(next.url.searchParams.getAll('continue'), []);
  });

  it('is continued with percent-encoded ids, one for each session, 64 at most', async () => {
    const { client, socket } = await makeCaller();
    for (let n = 2; n <= 70; n += 1) {
      socket.say({ ...matchFound(N2), sessionId: `s:${n}` });
    }
    client.leave('s:2');
    const next = await reconnect(socket);
    const positions = next.url.searchParams.getAll('continue');
    assert.equal(positions.length, 64);
    assert.deepEqual(positions.slice(0, 2), [`s1~${N1}~0`, `s:3~${N2}~0`]);
    assert.match(next.url.search, /continue=s%3A3%7E/);
    client.close();
  });

  it('sends again what the partner lacks, and only then what is new', async () => {
    const { socket, pc } = await makeCaller();
    pc.find({ toJSON: () => lineOf('0') });
    const sent = signals(socket);
    const next = await reconnect(socket);
    pc.find({ toJSON: () => lineOf('1') });
    next.say(continued());
    pc.find({ toJSON: () => lineOf('2') });
    assert.deepEqual(signals(next), [], 'sent before it was known how far the partner is');
    next.say(received(1));
    assert.deepEqual(seqs(next), [2, 3, 4]);
    assert.deepEqual(signals(next)[0], sent[1]);
    pc.find(null);
    assert.deepEqual(seqs(next), [2, 3, 4, 5]);
  });

  it('goes on with the partner away, and waits for it', async () => {
    const { socket, pc, session, of } = await makeCaller();
    const next = await reconnect(socket);
    next.say(continued(false));
    assert.equal(session.state, 'partner-away');
    assert.deepEqual(of('continued').map(({ partnerConnected }) => partnerConnected), [false]);
    pc.find({ toJSON: () => lineOf('0') });
    assert.deepEqual(signals(next), []);
    next.say({ type: 'partner-reconnected', sessionId: 's1', negotiation: N1 });
    assert.equal(session.state, 'active');
    next.say(received(0));
    assert.deepEqual(seqs(next), [1, 2]);
  });

  it('gives up a partner that does not come back after a continuation', async () => {
    const { client, socket, of } = await makeCaller({ ackTimeout: 1e9 });
    const next = await reconnect(socket);
    next.say(continued(false));
    await advance(60_000, 10_000);
    assert.deepEqual(of('ended').map(({ reason }) => reason), ['abandoned']);
    client.close();
  });

  it('goes on when the partner reconnects', async () => {
    const { socket, pc, session, of } = await makeCall({ ackTimeout: 1e9 });
    socket.say({ type: 'partner-disconnected', sessionId: 's1', reason: 'lost' });
    assert.equal(session.state, 'partner-away');
    pc.find({ toJSON: () => lineOf('0') });
    assert.deepEqual(seqs(socket), [1]);
    socket.say({ type: 'partner-reconnected', sessionId: 's1', negotiation: N1 });
    assert.equal(session.state, 'active');
    assert.equal(session.partnerReason, undefined);
    assert.deepEqual(of('partner-reconnected').map(({ session: { id } }) => id), ['s1']);
    socket.say(received(1));
    assert.deepEqual(seqs(socket), [1, 2]);
    await advance(61_000, 10_000);
    assert.equal(session.state, 'active', 'the partner that is back was given up');
    assert.equal(FakePeerConnection.all.length, 1);
  });

  it('keeps what was refused because the partner is away', async () => {
    const { socket, pc, session, of } = await makeCaller();
    socket.say({ type: 'error', code: 'partner-absent', message: 'away', sessionId: 's1' });
    assert.equal(session.state, 'partner-away');
    assert.deepEqual(of('error'), []);
    pc.find({ toJSON: () => lineOf('0') });
    socket.say({ type: 'partner-reconnected', sessionId: 's1', negotiation: N1 });
    socket.say(received(0));
    assert.deepEqual(seqs(socket), [1, 1, 2]);
  });

  it('ignores what the server says of another negotiation', async () => {
    const { socket, session, of } = await makeCaller();
    socket.say({ type: 'partner-disconnected', sessionId: 's1', reason: 'lost' });
    socket.say({ type: 'partner-reconnected', sessionId: 's1', negotiation: N2 });
    socket.say({ ...continued(), negotiation: N2 });
    socket.say(received(0, N2));
    assert.equal(session.state, 'partner-away');
    assert.deepEqual([...of('continued'), ...of('partner-reconnected')], []);
    assert.deepEqual(seqs(socket), [1]);
  });

  it('sends a loss between servers again at once, and the same loss later and later', async () => {
    mock.method(Math, 'random', () => 0.5);
    const { socket, pc } = await makeCaller();
    for (const mid of ['0', '1', '2']) pc.find({ toJSON: () => lineOf(mid) });
    socket.say(received(2));
    assert.deepEqual(seqs(socket).slice(4), [3, 4]);
    socket.say(received(2));
    socket.say(received(2));
    assert.equal(seqs(socket).length, 6);
    await advance(1_500);
    assert.deepEqual(seqs(socket).slice(6), [3, 4]);
    socket.say(received(2));
    await advance(2_500);
    assert.equal(seqs(socket).length, 8);
    await advance(500);
    assert.deepEqual(seqs(socket).slice(8), [3, 4]);
    socket.say(received(2));
    socket.say(received(3));
    assert.deepEqual(seqs(socket).slice(10), [4]);
    await advance(5_000);
    socket.acknowledge();
    assert.equal(seqs(socket).length, 11, 'what helped is not repeated');
    socket.say(received(3));
    await advance(1_500);
    assert.deepEqual(seqs(socket).slice(11), [4], 'the wait begins anew');
    socket.say(received(4));
    await advance(5_000);
    assert.equal(seqs(socket).length, 12);
  });

  it('sends a refused signal again, with the same number', async () => {
    const { socket, pc } = await makeCall();
    pc.find({ toJSON: () => lineOf('0') });
    pc.restartIce();
    await settle();
    pc.find({ toJSON: () => lineOf('1') });
    socket.say({ type: 'error', code: 'rate-limited', message: 'slow down', sessionId: 's1' });
    assert.equal(seqs(socket).length, 4);
    await advance(2_001);
    assert.deepEqual(seqs(socket).slice(4), [3, 4], 'the current round');
  });

  it('with too much to keep starts over at the next connection', async () => {
    const { socket, pc } = await makeCall();
    for (let n = 2; n <= 512; n += 1) pc.find({ toJSON: () => lineOf('0') });
    const second = await reconnect(socket);
    assert.equal(second.url.searchParams.getAll('continue').length, 1, '512 signals are kept');
    second.say(continued());
    second.say(received(512));
    pc.find({ toJSON: () => lineOf('0') });
    assert.deepEqual(seqs(second), [513], 'it is still sent');
    const third = await reconnect(second);
    assert.deepEqual(third.url.searchParams.getAll('continue'), []);
    third.say(matchFound(N2));
    await settle();
    assert.equal(pc.closed, false);
    assert.equal(signals(third)[0].negotiation, N2);
    assert.equal(signals(third)[0].seq, 1);
  });

  it('with long signals starts over too', async () => {
    const { socket, pc } = await makeCaller();
    pc.find({ toJSON: () => ({ candidate: 'x'.repeat(2 * 1024 * 1024) }) });
    const next = await reconnect(socket);
    assert.deepEqual(next.url.searchParams.getAll('continue'), []);
  });

  it('of which the partner lacks what is no longer kept starts over at once', async () => {
    const { client, socket, pc } = await makeCall();
    for (let n = 2; n <= 520; n += 1) pc.find({ toJSON: () => lineOf('0') });
    socket.say(received(520));
    await settle();
    assert.equal(FakeWebSocket.all.length, 1, 'the partner has everything');
    socket.say(received(100));
    await settle();
    assert.equal(FakeWebSocket.all.length, 2);
    assert.deepEqual(FakeWebSocket.last.url.searchParams.getAll('continue'), []);
    assert.equal(socket.readyState, 1);
    client.close();
  });
});

describe('a session that the server does not know', () => {
  const unknown = { type: 'error', code: 'unknown-session', message: 'unknown', sessionId: 's1' };
  /** On a new connection, with `times` answers that it is unknown. */
  const lose = async (made, times = 1) => {
    const next = await reconnect(made.socket);
    next.say(unknown);
    for (let asked = 1; asked < times; asked += 1) {
      await advance(1_000);
      next.acknowledge();
      next.say(unknown);
    }
    return next;
  };

  it('goes on with its media when the server knows it again', async () => {
    const made = await makeCall();
    const next = await lose(made, 5);
    assert.ok(next.of('heartbeat').filter(({ sessionId }) => sessionId === 's1').length >= 5);
    next.say(continued());
    next.say(received(1));
    await advance(9_000);
    next.acknowledge();
    assert.equal(made.session.state, 'active');
    next.say(unknown);
    assert.equal(made.session.state, 'active', 'the ten seconds begin anew');
    assert.deepEqual([...made.of('ended'), ...made.of('error')], []);
    assert.equal(made.pc.closed, false);
  });

  it('is asked for until the server says something about it', async () => {
    const made = await makeCall();
    const next = await reconnect(made.socket);
    next.acknowledge();
    const asked = () => next.of('heartbeat').length;
    const before = asked();
    for (let turn = 1; turn <= 3; turn += 1) {
      await advance(1_000);
      next.acknowledge();
      assert.equal(asked(), before + turn);
    }
    next.say(continued());
    await advance(5_000);
    assert.equal(asked(), before + 3);
    next.say({ type: 'move', afterMs: 0 });
    await advance(1, 1);
    FakeWebSocket.last.accept();
    FakeWebSocket.last.say({ type: 'heartbeat-ack', id: 0 });
    await advance(7_000);
    FakeWebSocket.last.acknowledge();
    await advance(2_500);
    FakeWebSocket.last.say(unknown);
    assert.deepEqual(made.of('ended'), []);
    await advance(1_000);
    FakeWebSocket.last.say(unknown);
    assert.deepEqual(made.of('ended').map(({ reason }) => reason), ['gone'], 'ten seconds after the connection');
  });

  it('ends after ten seconds', async () => {
    const made = await makeCall();
    await lose(made, 10);
    assert.deepEqual(made.of('ended'), []);
    await advance(1_000);
    FakeWebSocket.last.say(unknown);
    assert.deepEqual(made.of('ended').map(({ reason }) => reason), ['gone']);
    assert.ok(made.pc.closed);
  });

  it('has ten seconds on each connection', async () => {
    const made = await makeCall();
    const next = await lose(made, 10);
    await reconnect(next);
    FakeWebSocket.last.say(unknown);
    assert.deepEqual(made.of('ended'), []);
  });

  it('ends at once when it has no media', async () => {
    const made = await makeCall();
    made.pc.turn('failed');
    await lose(made);
    assert.deepEqual(made.of('ended').map(({ reason }) => reason), ['gone']);
  });

  for (const reason of ['left', 'ended']) {
    it(`ends at once when the server has said "${reason}"`, async () => {
      const made = await makeCall();
      made.socket.say({ type: 'partner-disconnected', sessionId: 's1', reason });
      made.socket.say(unknown);
      assert.deepEqual(made.of('ended').map(({ reason: why }) => why), ['gone']);
    });
  }

  it('may be left meanwhile', async () => {
    const made = await makeCall();
    const next = await lose(made);
    made.client.leave();
    next.say(unknown);
    const { length } = next.of('heartbeat');
    await advance(2_000);
    assert.equal(next.of('heartbeat').length, length);
    assert.deepEqual(made.of('ended').map(({ reason }) => reason), ['left']);
  });
});

describe('a new negotiation', () => {
  const frames = (pc) => Object.assign(pc, { receives: ['audio', 'video'] });

  it('keeps the connected peer connection until its own is connected and shows a picture', async () => {
    const { socket, pc, session, of, client } = await makeCall();
    socket.say(matchFound(N2));
    await settle();
    const next = frames(FakePeerConnection.last);
    assert.notEqual(next, pc);
    assert.equal(session.peerConnection, pc);
    assert.equal(pc.closed, false);
    assert.deepEqual(of('peerconnection').map(({ peerConnection }) => peerConnection), [pc, next]);
    assert.deepEqual(of('match').map(({ again }) => again), [false, true]);
    assert.deepEqual(next.getSenders().map(({ track }) => track.kind), ['audio', 'video']);
    assert.deepEqual(signals(socket).at(-1), {
      type: 'offer', sessionId: 's1', negotiation: N2, seq: 1, sdp: next.localDescription.sdp,
    });

    next.ontrack({ track: video(), streams: ['new'], receiver: {}, transceiver: {} });
    next.turn('connecting');
    next.turn('connected');
    await advance(500, 50);
    assert.equal(session.peerConnection, pc, 'swapped before there was a picture');
    assert.deepEqual(of('track'), []);
    assert.deepEqual(of('connectionstate').map(({ connectionState }) => connectionState), ['connected']);
    next.framesDecoded = 1;
    await advance(50, 50);
    assert.equal(session.peerConnection, next);
    assert.deepEqual(of('track').map(({ streams }) => streams), [['new']]);
    assert.equal(of('connectionstate').length, 2);
    assert.equal(pc.closed, false, 'the partner may still need it');
    await advance(2_000);
    assert.ok(pc.closed);
    assert.equal(session.state, 'active');
    client.close();
    assert.ok(next.closed);
  });

  it('without video swaps when it is connected', async () => {
    const { socket, pc, session } = await makeCall();
    socket.say(matchFound(N2));
    await settle();
    FakePeerConnection.last.turn('connected');
    await settle();
    assert.notEqual(session.peerConnection, pc);
  });

  it('does not wait for a picture for more than two seconds', async () => {
    const { socket, pc, session } = await makeCall();
    socket.say(matchFound(N2));
    await settle();
    frames(FakePeerConnection.last).turn('connected');
    await advance(1_900, 50);
    assert.equal(session.peerConnection, pc);
    await advance(150, 50);
    assert.notEqual(session.peerConnection, pc);
  });

  it('swaps after 15 seconds at the latest', async () => {
    const { socket, pc, session } = await makeCall({ ackTimeout: 1e9 });
    socket.say(matchFound(N2));
    await advance(14_500);
    assert.equal(session.peerConnection, pc);
    await advance(500);
    assert.equal(session.peerConnection, FakePeerConnection.last);
    assert.notEqual(session.peerConnection, pc);
  });

  it('swaps when the old peer connection has failed', async () => {
    const { socket, pc, session, of } = await makeCall();
    socket.say(matchFound(N2));
    await settle();
    pc.turn('disconnected');
    assert.equal(session.peerConnection, pc, 'it may recover');
    pc.turn('failed');
    assert.notEqual(session.peerConnection, pc);
    assert.equal(pc.restarts, 0);
    assert.equal(of('connectionstate').at(-1).connectionState, 'failed');
  });

  it('replaces a peer connection that carries nothing at once', async () => {
    const { socket, pc, session } = await makeCall();
    pc.turn('failed');
    socket.say(matchFound(N2));
    assert.ok(pc.closed);
    assert.equal(session.peerConnection, FakePeerConnection.last);
  });

  it('that is followed by another one leaves the first peer connection in use', async () => {
    const { socket, pc, session } = await makeCall();
    socket.say(matchFound(N2));
    await settle();
    const second = FakePeerConnection.last;
    frames(second).turn('connected');
    socket.say(matchFound('00000000000000a3'));
    await advance(3_000, 50);
    assert.ok(second.closed);
    assert.equal(session.peerConnection, pc);
    FakePeerConnection.last.turn('connected');
    await settle();
    assert.equal(session.peerConnection, FakePeerConnection.last);
  });

  it('sends nothing of the old peer connection, whose media follows the application', async () => {
    const { client, socket, pc } = await makeCall();
    socket.say(matchFound(N2));
    await settle();
    const before = signals(socket).length;
    assert.equal(pc.onicecandidate, null);
    client.setLocalStream(stream(audio('other'), video('other')));
    pc.restartIce();
    await settle();
    assert.deepEqual(pc.getSenders().map(({ track }) => track.id), ['other', 'other']);
    assert.deepEqual(FakePeerConnection.last.getSenders().map(({ track }) => track.id), ['other', 'other']);
    assert.equal(signals(socket).length, before);
  });

  it('that is left closes every peer connection', async () => {
    const { client, socket } = await makeCall();
    socket.say(matchFound(N2));
    await settle();
    FakePeerConnection.last.turn('connected');
    await settle();
    socket.say(matchFound('00000000000000a3'));
    await settle();
    assert.equal(FakePeerConnection.all.length, 3);
    client.leave();
    assert.ok(FakePeerConnection.all.every(({ closed }) => closed));
    await advance(20_000, 5_000);
  });
});

describe('a suspect connection', () => {
  const suspicions = {
    'the network is back': () => page.dispatchEvent(new Event('online')),
    'the network is of another kind': () => {
      network.type = 'cellular';
      network.dispatchEvent(new Event('change'));
    },
    'the server asks to move': (socket) => socket.say({ type: 'move', afterMs: 0 }),
  };
  for (const [what, suspect] of Object.entries(suspicions)) {
    it(`is replaced when ${what}, and dropped only afterwards`, async () => {
      const { client, socket, session, pc, of } = await makeCall();
      suspect(socket);
      await advance(1, 1);
      assert.equal(FakeWebSocket.all.length, 2);
      const next = FakeWebSocket.last;
      assert.deepEqual(next.url.searchParams.getAll('continue'), [`s1~${N1}~1`]);
      next.accept();
      assert.equal(next.of('heartbeat').length, 1);
      pc.find({ toJSON: () => lineOf('0') });
      assert.deepEqual(seqs(socket), [1, 2], 'the first connection is used until the second answers');
      socket.say({ type: 'ice-candidate', sessionId: 's1', negotiation: N1, seq: 2, candidate: lineOf('0') });
      assert.equal(socket.readyState, 1);

      next.say(continued());
      assert.equal(socket.readyState, 1, 'the server closes it');
      pc.find(null);
      assert.equal(signals(socket).length, 2);
      assert.equal(next.of('heartbeat').at(-1).sessionId, 's1', 'the server is asked whether it knows the session');
      next.say(received(1));
      assert.deepEqual(seqs(next), [2, 3]);
      socket.say(matchFound(N2));
      socket.end(4409, 'replaced');
      await advance(12_000);
      next.acknowledge();
      assert.equal(client.state, 'open');
      assert.equal(FakeWebSocket.all.length, 2);
      assert.deepEqual(of('state').map(({ state }) => state), ['connecting', 'open']);
      assert.deepEqual(of('sessionstate').map(({ state }) => state), ['active']);
      assert.equal(session.peerConnection, pc);
    });
  }

  it('is not one of which only the estimates change', async () => {
    await makeCall();
    network.dispatchEvent(new Event('change'));
    await settle();
    assert.equal(FakeWebSocket.all.length, 1);
  });

  it('that the server does not close is closed ten seconds after it was replaced', async () => {
    const { socket } = await makeCall();
    page.dispatchEvent(new Event('online'));
    await settle();
    FakeWebSocket.last.accept();
    FakeWebSocket.last.say(continued());
    await advance(9_500);
    FakeWebSocket.last.acknowledge();
    assert.equal(socket.readyState, 1);
    await advance(500);
    assert.equal(socket.closedWith, 1000);
  });

  it('is closed with the client, and so is its successor', async () => {
    for (const answered of [false, true]) {
      const { client, socket } = await makeCall();
      page.dispatchEvent(new Event('online'));
      await settle();
      const next = FakeWebSocket.last;
      next.accept();
      if (answered) next.say(continued());
      client.close();
      assert.equal(socket.closedWith, 1000);
      assert.equal(next.closedWith, 1000);
    }
  });

  it('closed with 4409 before the second one has answered was replaced by it', async () => {
    const { client, socket, of } = await makeCall();
    page.dispatchEvent(new Event('online'));
    await settle();
    socket.end(4409, 'replaced');
    assert.equal(client.state, 'open');
    const next = FakeWebSocket.last;
    next.accept();
    next.say(continued());
    next.say(received(1));
    await advance(12_000);
    assert.equal(client.state, 'open');
    assert.equal(FakeWebSocket.all.length, 2);
    assert.deepEqual(of('closed'), []);
  });

  it('closed with 4409 after its second one broke was replaced by that, and is no reason to stop', async () => {
    const { client, socket } = await makeCall();
    page.dispatchEvent(new Event('online'));
    await settle();
    FakeWebSocket.last.accept();
    FakeWebSocket.last.end(1006);
    socket.end(4409, 'replaced');
    assert.equal(client.state, 'reconnecting');
    await advance(1_000);
    assert.equal(FakeWebSocket.all.length, 3);
  });

  it('that the server still holds, and therefore refuses another one, is waited for', async () => {
    mock.method(Math, 'random', () => 0.5);
    const { client, socket, session } = await makeCall();
    socket.end(1006);
    const lostAt = Date.now();
    let attempts = 0;
    while (client.state !== 'closed' && Date.now() < lostAt + 60_000) {
      await advance(500);
      if (FakeWebSocket.last.readyState > 1) continue;
      assert.equal(session.state, 'offline');
      FakeWebSocket.last.accept();
      FakeWebSocket.last.end(4409, 'already connected');
      attempts += 1;
    }
    const given = Date.now() - lostAt;
    assert.ok(given >= 30_000 && given < 50_000, `given up after ${given} ms`);
    assert.ok(attempts >= 4 && attempts <= 9, `${attempts} attempts`);
  });

  it('refused with 4409 at first is one of somebody else', async () => {
    const { client } = makeClient();
    for (let turn = 0; turn < 2; turn += 1) {
      client.connect();
      await settle();
      FakeWebSocket.last.accept();
      if (turn === 0) FakeWebSocket.last.acknowledge();
      FakeWebSocket.last.end(4409, 'already connected');
      assert.equal(client.state, 'closed');
    }
  });

  it('closed with 4409 long afterwards was replaced by somebody else', async () => {
    const { client, socket } = await makeCall();
    page.dispatchEvent(new Event('online'));
    await settle();
    FakeWebSocket.last.end(1006);
    for (let turn = 0; turn < 6; turn += 1) {
      socket.acknowledge();
      await advance(5_000);
    }
    assert.equal(FakeWebSocket.all.length, 2, 'the first connection has answered');
    socket.end(4409, 'replaced');
    assert.equal(client.state, 'closed');
  });

  it('that breaks leaves the call to the second one', async () => {
    const { client, socket, session, of } = await makeCall();
    page.dispatchEvent(new Event('online'));
    await settle();
    socket.end(1006);
    assert.equal(client.state, 'connecting');
    assert.equal(session.state, 'offline');
    FakeWebSocket.last.accept();
    FakeWebSocket.last.say(continued());
    assert.equal(client.state, 'open');
    assert.equal(session.state, 'active');
    assert.equal(FakeWebSocket.all.length, 2);
    const states = of('state').map(({ state }) => state);
    assert.deepEqual(states, ['connecting', 'open', 'reconnecting', 'connecting', 'open']);
  });

  it('that breaks does not leave the call to a second one that hangs', async () => {
    const { client, socket } = await makeCall();
    page.dispatchEvent(new Event('online'));
    await settle();
    socket.end(1006);
    await advance(10_000);
    assert.equal(client.state, 'reconnecting');
    await advance(2_000);
    assert.equal(FakeWebSocket.all.length, 3);
  });

  it('that is told to stop takes the second one with it', async () => {
    const { client, socket } = await makeCall();
    page.dispatchEvent(new Event('online'));
    await settle();
    socket.end(4403, 'revoked');
    assert.equal(client.state, 'closed');
    assert.ok(FakeWebSocket.last.readyState >= 2);
  });

  it('survives a second one that fails, in each way', async () => {
    const ways = [
      () => FakeWebSocket.last.end(4503),
      () => FakeWebSocket.last.end(4409, 'already connected'),
      () => advance(10_000),
    ];
    for (const fail of ways) {
      const { client, socket } = await makeCall({ ackTimeout: 1e9 });
      const count = FakeWebSocket.all.length;
      page.dispatchEvent(new Event('online'));
      await settle();
      assert.equal(FakeWebSocket.all.length, count + 1);
      await fail();
      assert.ok(FakeWebSocket.last.readyState >= 2);
      await advance(5_000);
      assert.equal(client.state, 'open');
      assert.equal(socket.readyState, 1);
      client.close();
    }
  });

  it('that does not answer has another second one tried, with backoff from the last suspicion on', async () => {
    mock.method(Math, 'random', () => 0.5);
    await makeCall();
    const tryAgain = async (wait) => {
      const count = FakeWebSocket.all.length;
      FakeWebSocket.last.end(1006);
      await advance(wait - 1, wait - 1);
      assert.equal(FakeWebSocket.all.length, count);
      await advance(1);
      assert.equal(FakeWebSocket.all.length, count + 1);
    };
    page.dispatchEvent(new Event('online'));
    await settle();
    await tryAgain(750);
    await tryAgain(1_500);
    page.dispatchEvent(new Event('online'));
    await settle();
    await tryAgain(750);
  });

  it('survives a second one for which there is no token', async () => {
    let fail = false;
    const token = () => {
      if (fail) throw new Error('no network');
      return 'jwt';
    };
    const { client, of } = await makeCall({ token });
    fail = true;
    page.dispatchEvent(new Event('online'));
    await settle();
    assert.equal(client.state, 'open');
    assert.deepEqual(of('error').map(({ code }) => code), ['connect-failed']);
  });

  it('has a second one on the newest network only', async () => {
    const { socket } = await makeCall();
    page.dispatchEvent(new Event('online'));
    await settle();
    const first = FakeWebSocket.last;
    page.dispatchEvent(new Event('online'));
    await settle();
    assert.ok(first.readyState >= 2);
    assert.equal(FakeWebSocket.all.length, 3);
    assert.equal(socket.readyState, 1);
  });

  it('has no second one while the token for it is asked for after a close', async () => {
    let give;
    let asked = 0;
    const token = () => ((asked += 1) === 1 ? 'jwt' : new Promise((resolve) => (give = resolve)));
    const { client } = await makeCall({ token });
    page.dispatchEvent(new Event('online'));
    await settle();
    client.close();
    give('late');
    await settle();
    assert.equal(FakeWebSocket.all.length, 1);
  });

  it('says again what was left when it is replaced', async () => {
    const { client, socket } = await makeCall();
    client.leave();
    page.dispatchEvent(new Event('online'));
    await settle();
    const next = FakeWebSocket.last;
    next.accept();
    assert.deepEqual(next.url.searchParams.getAll('continue'), []);
    next.say(matchFound(N2));
    assert.equal(client.sessions.size, 0, 'the call came back');
    assert.deepEqual(next.of('leave'), [{ type: 'leave', sessionId: 's1' }]);
    assert.equal(socket.of('leave').length, 1);
  });
});

describe('a server that goes away', () => {
  it('is left when it says, and asked again with backoff until another takes the connection', async () => {
    mock.method(Math, 'random', () => 0.5);
    const { client, socket, of } = await makeCall({ ackTimeout: 1e9 });
    socket.say({ type: 'move', afterMs: 2_000 });
    await advance(1_999, 1_999);
    assert.equal(FakeWebSocket.all.length, 1);
    await advance(1);
    assert.equal(FakeWebSocket.all.length, 2);
    FakeWebSocket.last.end(1001);
    await advance(749, 749);
    assert.equal(FakeWebSocket.all.length, 2);
    await advance(1);
    assert.equal(FakeWebSocket.all.length, 3);
    FakeWebSocket.last.end(1001);
    await advance(1_499, 1_499);
    assert.equal(FakeWebSocket.all.length, 3);
    await advance(1);
    assert.equal(FakeWebSocket.all.length, 4);
    FakeWebSocket.last.accept();
    FakeWebSocket.last.say(continued());
    socket.end(1001);
    await advance(5_000);
    assert.equal(FakeWebSocket.all.length, 4);
    assert.equal(client.state, 'open');
    assert.deepEqual(of('state').map(({ state }) => state), ['connecting', 'open']);

    page.dispatchEvent(new Event('online'));
    await settle();
    FakeWebSocket.last.end(1006);
    FakeWebSocket.all[3].acknowledge();
    await advance(5_000);
    assert.equal(FakeWebSocket.all.length, 5, 'nobody asks to move any more');
  });

  it('may name another time', async () => {
    const { socket } = await makeCall();
    socket.say({ type: 'move', afterMs: 1_000 });
    socket.say({ type: 'move', afterMs: 5_000 });
    await advance(4_999, 4_999);
    assert.equal(FakeWebSocket.all.length, 1);
    await advance(1);
    assert.equal(FakeWebSocket.all.length, 2);
  });

  it('that refuses the token has the next one asked for', async () => {
    const asked = [];
    const { socket } = await makeCall({ token: (context) => `t${asked.push(context.refused)}`, ackTimeout: 1e9 });
    socket.say({ type: 'move', afterMs: 0 });
    await advance(1, 1);
    FakeWebSocket.last.end(4401);
    await advance(1_001);
    assert.deepEqual(asked, [false, false, true]);
  });

  it('that closes first is left the usual way', async () => {
    const { client, socket } = await makeCall();
    socket.say({ type: 'move', afterMs: 60_000 });
    socket.end(1001);
    await advance(3_001);
    FakeWebSocket.last.accept();
    FakeWebSocket.last.say(continued());
    for (let turn = 0; turn < 13; turn += 1) {
      await advance(5_000);
      FakeWebSocket.last.acknowledge();
    }
    assert.equal(FakeWebSocket.all.length, 2);
    client.close();
  });
});

describe('a token that expires', () => {
  const expiring = { type: 'token-expiring', inMs: 60_000 };
  const makeHolder = (answers) => {
    const asked = [];
    const token = (context) => {
      asked.push(context);
      const given = asked.length === 1 ? 'first' : answers.shift();
      if (given instanceof Error) throw given;
      return given;
    };
    return makeOpenClient({ token, ackTimeout: 10_000 }).then((made) => ({ ...made, asked }));
  };

  it('is replaced on the open connection', async () => {
    const { client, socket, asked, of } = await makeHolder(['second', 'third']);
    socket.say(expiring);
    await settle();
    assert.deepEqual(socket.of('refresh'), [{ type: 'refresh', token: 'second' }]);
    assert.deepEqual(asked, [{ refused: false, expiring: false }, { refused: false, expiring: true }]);
    socket.say({ type: 'refreshed', expiresInMs: 600_000 });
    await advance(9_000);
    socket.acknowledge();
    socket.say({ type: 'error', code: 'unavailable', message: 'something else' });
    await advance(9_000);
    assert.equal(socket.of('refresh').length, 1);
    socket.say(expiring);
    await settle();
    assert.equal(socket.of('refresh')[1].token, 'third');
    assert.equal(FakeWebSocket.all.length, 1);
    assert.equal(client.state, 'open');
    assert.deepEqual(of('error').map(({ code }) => code), ['unavailable']);
  });

  it('that is a text cannot be replaced', async () => {
    const { socket } = await makeOpenClient({ token: 'fixed' });
    socket.say(expiring);
    await advance(5_000);
    assert.deepEqual(socket.of('refresh'), []);
  });

  it('is asked for again with backoff when the function fails or is slow', async () => {
    mock.method(Math, 'random', () => 0.5);
    const { client, socket, asked, of } = await makeHolder([
      new Error('no'), new Promise(() => {}), 'second', new Error('no'), 'third',
    ]);
    socket.say(expiring);
    await settle();
    assert.deepEqual(of('error').map(({ code, cause }) => [code, cause.message]), [['refresh-failed', 'no']]);
    await advance(750, 750);
    assert.equal(asked.length, 3);
    socket.acknowledge();
    await advance(10_000);
    socket.acknowledge();
    assert.equal(of('error').length, 2);
    await advance(1_500);
    socket.acknowledge();
    assert.deepEqual(socket.of('refresh'), [{ type: 'refresh', token: 'second' }]);
    assert.equal(client.state, 'open');

    socket.say({ type: 'refreshed', expiresInMs: 600_000 });
    socket.say(expiring);
    await settle();
    assert.equal(asked.length, 5);
    await advance(750, 750);
    assert.equal(asked.length, 6, 'the failures before are forgotten');
  });

  it('is asked for again when the server refused the new one or could not judge it', async () => {
    mock.method(Math, 'random', () => 0.5);
    const { socket, asked, of } = await makeHolder(['second', 'third', 'fourth']);
    socket.say(expiring);
    await settle();
    socket.say({ type: 'error', code: 'unavailable', message: 'a signal', sessionId: 's1' });
    await advance(1_000);
    assert.equal(asked.length, 2);
    socket.say({ type: 'error', code: 'token-refused', message: 'not later' });
    await advance(750);
    assert.deepEqual(asked.at(-1), { refused: true, expiring: true });
    socket.say({ type: 'error', code: 'unavailable', message: 'not now' });
    await advance(1_500);
    assert.deepEqual(asked.at(-1), { refused: false, expiring: true });
    assert.deepEqual(socket.of('refresh').map(({ token }) => token), ['second', 'third', 'fourth']);
    assert.deepEqual(of('error').map(({ code }) => code), ['unavailable', 'token-refused', 'unavailable']);
  });

  it('is sent again when the server does not answer', async () => {
    const { socket } = await makeHolder(['second', 'third']);
    socket.say(expiring);
    await settle();
    await advance(9_000);
    socket.acknowledge();
    await advance(2_100);
    assert.deepEqual(socket.of('refresh').map(({ token }) => token), ['second', 'third']);
  });

  it('is given up when the old one ends first', async () => {
    const { socket, asked } = await makeHolder(Array(9).fill(new Error('no')));
    socket.say({ type: 'token-expiring', inMs: 1_600 });
    await advance(9_000);
    assert.ok(asked.length >= 2 && asked.length <= 4, `asked ${asked.length} times`);
  });

  it('has nothing to do with other errors', async () => {
    const { socket, asked } = await makeHolder(['second', 'third']);
    socket.say({ type: 'error', code: 'unavailable', message: 'not now' });
    socket.say({ type: 'error', code: 'token-refused', message: 'no' });
    await advance(5_000);
    assert.equal(asked.length, 1);
  });

  it('is not refreshed on a later connection', async () => {
    let give;
    const { socket } = await makeHolder([new Promise((resolve) => (give = resolve)), 'third']);
    socket.say(expiring);
    const next = await reconnect(socket);
    give('second');
    await settle();
    next.say({ type: 'heartbeat-ack' });
    await advance(5_000);
    assert.deepEqual(next.of('refresh'), []);
    assert.equal(next.url.searchParams.get('token'), 'third');
  });
});

describe('the media path', () => {
  it('is restarted on the same peer connection after three seconds without it', async () => {
    const { socket, pc } = await makeCall();
    pc.turn('disconnected');
    await advance(2_500);
    assert.equal(pc.restarts, 0);
    await advance(501);
    assert.equal(pc.restarts, 1);
    assert.equal(socket.of('offer').length, 2);
    assert.equal(FakePeerConnection.all.length, 1);
  });

  it('is left alone when it recovers in time', async () => {
    const { pc } = await makeCall();
    pc.turn('disconnected');
    await advance(2_500);
    pc.turn('connected');
    await advance(5_000);
    assert.equal(pc.restarts, 0);
  });

  for (const [state, wait] of [['failed', 0], ['disconnected', 3_000]]) {
    it(`that is ${state} is restarted when server and partner are back`, async () => {
      const { socket, pc } = await makeCall();
      socket.say(received(1));
      pc.turn(state);
      socket.end(1006);
      await advance(5_000);
      assert.equal(pc.restarts, 0);
      const next = FakeWebSocket.last;
      next.accept();
      next.say(continued(false));
      await advance(wait + 1);
      next.acknowledge();
      next.say({ type: 'partner-reconnected', sessionId: 's1', negotiation: N1 });
      await advance(1);
      assert.equal(pc.restarts, 0, 'the partner is not known to hear us');
      next.say(received(1));
      await advance(1);
      assert.equal(pc.restarts, 1);
      assert.deepEqual(signals(next).map(({ type, seq }) => [type, seq]), [['offer', 2]]);
    });
  }

  it('is left to the initiator for two seconds', async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: false, negotiation: N1 });
    const offer = (seq, sdp) => ({ type: 'offer', sessionId: 's1', negotiation: N1, seq, sdp });
    socket.say(offer(1, 'offer x'));
    await settle();
    pc.turn('connected');
    pc.turn('failed');
    await advance(1_500);
    socket.say(offer(2, 'offer y'));
    await settle();
    await advance(1_000);
    assert.equal(pc.restarts, 0, 'the offer was there in time');
    pc.turn('connecting');
    await advance(3_000);
    assert.equal(pc.restarts, 0);
    pc.turn('connected');
    pc.turn('failed');
    await advance(2_001);
    assert.equal(pc.restarts, 1, 'an initiator that does not notice');
  });

  it('is restarted after an offer that is still to be answered, not instead of it', async () => {
    const { socket, pc } = await makeCall();
    pc.restartIce();
    await settle();
    assert.equal(pc.signalingState, 'have-local-offer');
    pc.turn('failed');
    await advance(1);
    assert.equal(socket.of('offer').length, 2);
    socket.say(answer(pc, 2));
    await settle();
    assert.equal(socket.of('offer').length, 3);
  });
});
