// One call: perfect negotiation on both sides, candidates, restarts, refusals. Fake peer connections, mocked clock.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe } from 'node:test';
import {
  FakePeerConnection,
  FakeWebSocket,
  advance,
  audio,
  install,
  makeMatchedClient,
  makeOpenClient,
  settle,
  stream,
  uninstall,
  video,
} from './fakes.js';
import { it } from './limits.js';

const SIGNALS = ['offer', 'answer', 'ice-candidate'];
const signals = (socket) => socket.sent.filter(({ type }) => SIGNALS.includes(type));
const lineOf = (mid) => ({ candidate: `candidate:1 1 udp 1 192.0.2.1 9 typ host`, sdpMid: mid, sdpMLineIndex: 0 });

beforeEach(install);
afterEach(uninstall);

/** What a partner's offer looks like to a client that has not offered. */
async function receiveOffer(socket, sdp = 'offer x') {
  socket.say({ type: 'offer', sessionId: 's1', sdp });
  await settle();
}

/** Two clients and a relay that the test moves by hand. */
async function makePair() {
  const alice = await makeMatchedClient({ isInitiator: true });
  const bob = await makeMatchedClient({ isInitiator: false });
  for (const side of [alice, bob]) side.relayed = 0;
  const pass = async (from, to, count = Infinity) => {
    for (let passed = 0; passed < count && from.relayed < signals(from.socket).length; passed += 1) {
      to.socket.say(signals(from.socket)[from.relayed++]);
      await settle();
    }
  };
  const passAll = async () => {
    while (alice.relayed < signals(alice.socket).length || bob.relayed < signals(bob.socket).length) {
      await pass(alice, bob);
      await pass(bob, alice);
    }
  };
  const settled = () => {
    for (const { pc, of } of [alice, bob]) {
      assert.equal(pc.signalingState, 'stable');
      assert.deepEqual(of('error'), []);
    }
    const [a, b] = [alice.pc, bob.pc];
    assert.equal(a.localDescription.sdp, b.remoteDescription.sdp);
    assert.equal(b.localDescription.sdp, a.remoteDescription.sdp);
  };
  return { alice, bob, pass, passAll, settled };
}

describe('the first offer', () => {
  it('comes from the initiator, with the local tracks, as plain text', async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: true });
    assert.deepEqual(pc.getSenders().map(({ track }) => track.kind), ['audio', 'video']);
    const [offer] = signals(socket);
    assert.deepEqual(offer, { type: 'offer', sdp: pc.localDescription.sdp, sessionId: 's1' });
    assert.equal(typeof offer.sdp, 'string');
  });

  it('of a responder is held back until the initiator has offered', async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: false });
    await advance(5_000);
    assert.deepEqual(signals(socket), []);
    assert.equal(pc.signalingState, 'stable');

    await receiveOffer(socket);
    assert.deepEqual(signals(socket).map(({ type }) => type), ['answer']);
    pc.restartIce();
    await settle();
    assert.deepEqual(signals(socket).map(({ type }) => type), ['answer', 'offer']);
  });

  it('of a responder is held back anew after every match', async () => {
    const { client, socket } = await makeMatchedClient({ isInitiator: false });
    await receiveOffer(socket);
    socket.say({ type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: false });
    await settle();
    const before = signals(socket).length;
    client.setLocalStream(stream(audio('other'), video('other'), { kind: 'text' }));
    await settle();
    assert.equal(signals(socket).length, before);
  });

  it('waits for local media', async () => {
    const { client, socket } = await makeMatchedClient({ isInitiator: true, media: null });
    assert.deepEqual(signals(socket), []);
    client.setLocalStream(stream(audio()));
    await settle();
    assert.deepEqual(signals(socket).map(({ type }) => type), ['offer']);
  });

  it('uses the ICE servers of the application', async () => {
    const iceServers = [{ urls: 'stun:stun.example' }];
    const { pc } = await makeMatchedClient({
      isInitiator: true,
      iceServers,
      rtcConfiguration: { iceTransportPolicy: 'relay' },
    });
    assert.deepEqual(pc.configuration, { iceServers, iceTransportPolicy: 'relay' });
  });
});

describe('ICE servers of the server', () => {
  const turn = (username) => [{ urls: ['turn:turn.example'], username, credential: 'c' }];
  const found = (iceServers) => ({
    type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: true, ...(iceServers && { iceServers }),
  });
  const rtcConfiguration = { bundlePolicy: 'max-bundle', iceServers: [{ urls: 'stun:stun.example' }] };

  it('come in the place of the application\'s, match by match', async () => {
    const { socket } = await makeOpenClient({ rtcConfiguration });
    for (const iceServers of [turn('1:ann'), turn('2:ann'), undefined]) {
      socket.say(found(iceServers));
      await settle();
      assert.deepEqual(FakePeerConnection.last.configuration, {
        bundlePolicy: 'max-bundle', iceServers: iceServers ?? rtcConfiguration.iceServers,
      });
    }
  });

  it('are used by the next ICE restart when there are new ones', async () => {
    const { socket, pc, of } = await makeMatchedClient({ isInitiator: true, rtcConfiguration });
    socket.say({ type: 'ice-servers', sessionId: 's1', iceServers: turn('2:ann') });
    socket.say({ type: 'ice-servers', sessionId: 'strange', iceServers: turn('3:ann') });
    assert.deepEqual(pc.configuration, { bundlePolicy: 'max-bundle', iceServers: turn('2:ann') });
    assert.equal(FakePeerConnection.last, pc, 'the call goes on');
    pc.turn('failed');
    await advance(1);
    assert.equal(pc.restarts, 1);
    assert.deepEqual(of('error'), []);
  });

  it('that no browser takes are an error, and the call goes on', async () => {
    const { socket, session, pc, of } = await makeMatchedClient({ isInitiator: true });
    pc.setConfiguration = () => {
      throw new SyntaxError('no URL');
    };
    socket.say({ type: 'ice-servers', sessionId: 's1', iceServers: [{ urls: ['x'] }] });
    assert.deepEqual(of('error').map(({ code, sessionId }) => [code, sessionId]), [['negotiation-failed', 's1']]);
    assert.equal(session.state, 'active');
  });

  it('are for sessions that go on', async () => {
    const { client, socket, of } = await makeMatchedClient({ isInitiator: true });
    client.leave();
    socket.say({ type: 'ice-servers', sessionId: 's1', iceServers: turn('2:ann') });
    assert.deepEqual(of('error'), []);
  });
});

describe('two clients', () => {
  it('agree on one offer and one answer', async () => {
    const { alice, bob, passAll, settled } = await makePair();
    await passAll();
    settled();
    assert.deepEqual(signals(alice.socket).map(({ type }) => type), ['offer']);
    assert.deepEqual(signals(bob.socket).map(({ type }) => type), ['answer']);
  });

  it('let either side renegotiate afterwards', async () => {
    const { alice, bob, passAll, settled } = await makePair();
    await passAll();
    for (const side of [bob, alice, bob]) {
      side.pc.restartIce();
      await settle();
      await passAll();
      settled();
    }
    assert.equal(signals(bob.socket).filter(({ type }) => type === 'offer').length, 2);
  });

  it('resolve a collision in favour of the initiator, and the responder still gets its turn', async () => {
    const { alice, bob, pass, passAll, settled } = await makePair();
    await passAll();
    alice.pc.restartIce();
    bob.pc.restartIce();
    await settle();
    assert.equal(alice.pc.signalingState, 'have-local-offer');
    assert.equal(bob.pc.signalingState, 'have-local-offer');

    await pass(bob, alice, 1);
    assert.equal(alice.pc.signalingState, 'have-local-offer', 'the initiator gave way');
    await pass(alice, bob, 1);
    assert.equal(bob.pc.signalingState, 'stable', 'the responder did not give way');
    await passAll();
    settled();
  });

  it('resolve it alike when the offers cross the other way round', async () => {
    const { alice, bob, pass, passAll, settled } = await makePair();
    await passAll();
    alice.pc.restartIce();
    bob.pc.restartIce();
    await settle();
    await pass(alice, bob, 1);
    await pass(bob, alice, 1);
    await passAll();
    settled();
  });

  it('resolve it while an offer is still being made', async () => {
    const { alice, bob, passAll, settled } = await makePair();
    await passAll();
    bob.pc.restartIce();
    await settle();
    const offer = signals(bob.socket)[bob.relayed++];
    alice.pc.onnegotiationneeded({});
    alice.socket.say(offer);
    await settle();
    assert.equal(alice.pc.signalingState, 'have-local-offer', 'the initiator took the offer in');
    await passAll();
    settled();
  });

  it('forgive the candidates of an offer that lost, and no others', async () => {
    const { alice, bob, pass, passAll } = await makePair();
    await passAll();
    alice.socket.say({ type: 'ice-candidate', sessionId: 's1', candidate: { candidate: 'misfit', sdpMid: '0' } });
    await settle();
    assert.deepEqual(alice.of('error').map(({ code }) => code), ['negotiation-failed']);

    alice.pc.restartIce();
    bob.pc.restartIce();
    await settle();
    await pass(bob, alice, 1);
    alice.socket.say({ type: 'ice-candidate', sessionId: 's1', candidate: { candidate: 'misfit', sdpMid: '0' } });
    await settle();
    assert.equal(alice.of('error').length, 1);
  });
});

describe('candidates', () => {
  it('are sent as objects, and their end as null', async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: true });
    pc.find({ toJSON: () => lineOf('0') });
    pc.find(null);
    assert.deepEqual(socket.of('ice-candidate'), [
      { type: 'ice-candidate', candidate: lineOf('0'), sessionId: 's1' },
      { type: 'ice-candidate', candidate: null, sessionId: 's1' },
    ]);
  });

  it('that arrive before the description wait for it, in order', async () => {
    const { socket, pc, of } = await makeMatchedClient({ isInitiator: false });
    for (const mid of ['0', '1', '2']) socket.say({ type: 'ice-candidate', sessionId: 's1', candidate: lineOf(mid) });
    await settle();
    assert.deepEqual(pc.candidates, []);
    await receiveOffer(socket);
    assert.deepEqual(pc.candidates.map(({ sdpMid }) => sdpMid), ['0', '1', '2']);
    assert.deepEqual(of('error'), []);
  });

  it('right behind a description are not lost while it is applied', async () => {
    const { socket, pc, of } = await makeMatchedClient({ isInitiator: false });
    socket.say({ type: 'offer', sessionId: 's1', sdp: 'offer x' });
    socket.say({ type: 'ice-candidate', sessionId: 's1', candidate: lineOf('0') });
    await settle();
    assert.equal(pc.candidates.length, 1);
    assert.deepEqual(of('error'), []);
  });

  it('before the description are bounded', async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: false });
    for (let n = 0; n < 300; n += 1) socket.say({ type: 'ice-candidate', sessionId: 's1', candidate: lineOf('0') });
    await receiveOffer(socket);
    for (let turn = 0; turn < 100; turn += 1) await settle();
    assert.equal(pc.candidates.length, 256);
  });

  const text = 'candidate:1 1 udp 1 192.0.2.1 9 typ host';
  const forms = {
    'an object': [lineOf('1'), lineOf('1')],
    'an object without an m-line': [{ candidate: text }, { candidate: text, sdpMLineIndex: 0 }],
    'a line of text': [text, { candidate: text, sdpMLineIndex: 0 }],
    'JSON in a string': [JSON.stringify(lineOf('1')), lineOf('1')],
    'null': [null, null],
    'an empty string': ['', null],
    'an object with an empty candidate': [{ candidate: '', sdpMid: '0' }, null],
  };
  for (const [form, [given, added]] of Object.entries(forms)) {
    it(`may come as ${form}`, async () => {
      const { socket, pc, of } = await makeMatchedClient({ isInitiator: false });
      await receiveOffer(socket);
      socket.say({ type: 'ice-candidate', sessionId: 's1', candidate: given });
      await settle();
      assert.deepEqual(pc.candidates, [added]);
      assert.deepEqual(of('error'), []);
    });
  }
});

for (const [form, sdp] of Object.entries({
  'text': 'offer x',
  'an object': { type: 'offer', sdp: 'offer x' },
  'JSON in a string': '{"type":"offer","sdp":"offer x"}',
})) {
  it(`a description may come as ${form}`, async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: false });
    await receiveOffer(socket, sdp);
    assert.deepEqual(pc.remoteDescription, { type: 'offer', sdp: 'offer x' });
    assert.match(signals(socket)[0].sdp, /^answer \d+ to offer x$/);
  });
}

describe('a repeated match', () => {
  it('starts over with a new peer connection and a new offer', async () => {
    const { socket, pc, of, session } = await makeMatchedClient({ isInitiator: true });
    socket.say({ type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: true });
    await settle();
    assert.ok(pc.closed);
    assert.notEqual(session.peerConnection, pc);
    assert.deepEqual(of('match').map(({ again }) => again), [false, true]);
    assert.deepEqual(session.peerConnection.getSenders().map(({ track }) => track.kind), ['audio', 'video']);
    assert.deepEqual(signals(socket).map(({ sdp }) => sdp).at(-1), session.peerConnection.localDescription.sdp);
  });

  it('lets nothing of the old peer connection through', async () => {
    const { socket, pc, of } = await makeMatchedClient({ isInitiator: true });
    const { onicecandidate, onconnectionstatechange } = pc;
    pc.restartIce();
    socket.say({ type: 'answer', sessionId: 's1', sdp: `answer 0 to ${pc.localDescription.sdp}` });
    socket.say({ type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: true });
    await settle();
    assert.equal(signals(socket).length, 2);
    assert.equal(FakePeerConnection.last.remoteDescription, null, 'the old answer was applied to the new connection');
    assert.deepEqual(of('error'), []);
    assert.equal(pc.onicecandidate, null);
    assert.ok(onicecandidate && onconnectionstatechange);
  });

  it('after a lost connection of our own resumes the session; in between nothing is sent', async () => {
    const { client, socket, session, pc } = await makeMatchedClient({ isInitiator: true });
    socket.end(1006);
    assert.equal(session.state, 'offline');
    await advance(1_000);
    const next = FakeWebSocket.last;
    next.accept();
    next.acknowledge();
    pc.find({ toJSON: () => lineOf('0') });
    pc.restartIce();
    await settle();
    assert.deepEqual(signals(next), [], 'the old peer connection spoke to the new partner connection');
    next.say({ type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: true });
    await settle();
    assert.equal(client.sessions.get('s1').state, 'active');
    assert.deepEqual(signals(next).map(({ type }) => type), ['offer']);
  });

  it('of another session is another call', async () => {
    const { client, socket, pc } = await makeMatchedClient({ isInitiator: true });
    socket.say({ type: 'match-found', sessionId: 's2', partnerId: 'eve', isInitiator: true });
    await settle();
    assert.equal(pc.closed, false);
    assert.notEqual(client.sessions.get('s2').peerConnection, pc);
    assert.deepEqual(signals(socket).map(({ sessionId }) => sessionId), ['s1', 's2']);
  });
});

describe('a failed peer connection', () => {
  it('is restarted at once, then with backoff, until it is connected', async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: true });
    const answer = async () => {
      socket.say({ type: 'answer', sessionId: 's1', sdp: `answer 0 to ${pc.localDescription.sdp}` });
      await settle();
    };
    await answer();
    pc.turn('failed');
    await advance(1);
    assert.equal(pc.restarts, 1);
    assert.equal(socket.of('offer').length, 2);
    await answer();
    pc.turn('failed');
    await advance(499);
    assert.equal(pc.restarts, 1);
    await advance(502);
    assert.equal(pc.restarts, 2);
    await answer();
    pc.turn('connected');
    pc.turn('failed');
    await advance(1);
    assert.equal(pc.restarts, 3);
  });

  it('withdraws an offer that nobody answered', async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: true });
    assert.equal(pc.signalingState, 'have-local-offer');
    pc.turn('failed');
    await advance(1);
    assert.equal(socket.of('offer').length, 2);
    assert.notEqual(socket.of('offer')[0].sdp, socket.of('offer')[1].sdp);
  });

  it('is left alone while the partner is away', async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: true });
    socket.say({ type: 'partner-disconnected', sessionId: 's1' });
    pc.turn('failed');
    await advance(5_000);
    assert.equal(pc.restarts, 0);
    assert.equal(socket.of('offer').length, 1);
  });

  it('is left alone when it recovers before its turn', async () => {
    const { pc } = await makeMatchedClient({ isInitiator: true });
    pc.turn('failed');
    await advance(1);
    pc.turn('failed');
    pc.turn('connected');
    await advance(5_000);
    assert.equal(pc.restarts, 1);
  });

  it('may be one whose answer fits an older offer: a new round is begun', async () => {
    const { socket, of } = await makeMatchedClient({ isInitiator: true });
    socket.say({ type: 'answer', sessionId: 's1', sdp: 'answer 0 to offer 0' });
    await settle();
    await advance(1);
    assert.equal(of('error')[0].code, 'negotiation-failed');
    assert.equal(socket.of('offer').length, 2);
  });

  it('reports its states', async () => {
    const { pc, of } = await makeMatchedClient({ isInitiator: true });
    pc.turn('connecting');
    pc.turn('connected');
    assert.deepEqual(of('connectionstate').map(({ connectionState }) => connectionState), ['connecting', 'connected']);
  });
});

describe('a refusal', () => {
  const refuse = (socket, code) => socket.say({ type: 'error', code, message: code, sessionId: 's1' });

  it('unavailable: the offer and its candidates are said again, a little later', async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: true });
    pc.find({ toJSON: () => lineOf('0') });
    const said = signals(socket);
    refuse(socket, 'unavailable');
    refuse(socket, 'unavailable');
    await advance(499);
    assert.equal(signals(socket).length, 2);
    await advance(502);
    assert.deepEqual(signals(socket), [...said, ...said]);
    await advance(5_000);
    assert.equal(signals(socket).length, 4, 'two refusals made two repetitions');
  });

  it('unavailable: an offer that was answered meanwhile is not said again', async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: true });
    pc.find({ toJSON: () => lineOf('0') });
    refuse(socket, 'unavailable');
    socket.say({ type: 'answer', sessionId: 's1', sdp: `answer 0 to ${pc.localDescription.sdp}` });
    await advance(1_001);
    assert.deepEqual(signals(socket).map(({ type }) => type), ['offer', 'ice-candidate', 'ice-candidate']);
  });

  it('unavailable: what belongs to an earlier round is not said again', async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: true });
    socket.say({ type: 'answer', sessionId: 's1', sdp: `answer 0 to ${pc.localDescription.sdp}` });
    await settle();
    pc.restartIce();
    await settle();
    refuse(socket, 'unavailable');
    await advance(1_001);
    const [first, second, repeated, ...more] = socket.of('offer');
    assert.notEqual(first.sdp, second.sdp);
    assert.equal(repeated.sdp, second.sdp);
    assert.deepEqual(more, []);
  });

  it('unavailable again: the pause grows', async () => {
    const { socket } = await makeMatchedClient({ isInitiator: true });
    refuse(socket, 'unavailable');
    await advance(1_001);
    refuse(socket, 'unavailable');
    await advance(999);
    assert.equal(socket.of('offer').length, 2);
    await advance(1_002);
    assert.equal(socket.of('offer').length, 3);
  });

  it('rate-limited: the pause is longer', async () => {
    const { socket } = await makeMatchedClient({ isInitiator: true });
    refuse(socket, 'rate-limited');
    await advance(999);
    assert.equal(socket.of('offer').length, 1);
    await advance(1_002);
    assert.equal(socket.of('offer').length, 2);
  });

  it('partner-absent: nothing is sent until the next match', async () => {
    const { socket, session, pc } = await makeMatchedClient({ isInitiator: true });
    refuse(socket, 'partner-absent');
    assert.equal(session.state, 'partner-away');
    pc.find({ toJSON: () => lineOf('0') });
    assert.equal(signals(socket).length, 1);
    socket.say({ type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: true });
    await settle();
    assert.equal(signals(socket).length, 2);
  });

  it('not-initiator: the next offer waits for the initiator, whose offer is then answered', async () => {
    const { socket, pc } = await makeMatchedClient({ isInitiator: false });
    await receiveOffer(socket);
    pc.restartIce();
    await settle();
    refuse(socket, 'not-initiator');
    const before = socket.of('offer').length;
    pc.onnegotiationneeded({});
    await settle();
    assert.equal(socket.of('offer').length, before);
    await receiveOffer(socket, 'offer y');
    assert.match(socket.of('answer').at(-1).sdp, /to offer y$/);
  });

  it('unknown-session: the call is over', async () => {
    const { socket, of, pc } = await makeMatchedClient({ isInitiator: true });
    refuse(socket, 'unknown-session');
    assert.equal(of('ended')[0].reason, 'gone');
    assert.ok(pc.closed);
  });

  it('a repeated answer does no harm', async () => {
    const { socket, pc, of } = await makeMatchedClient({ isInitiator: true });
    const answer = { type: 'answer', sessionId: 's1', sdp: `answer 0 to ${pc.localDescription.sdp}` };
    socket.say(answer);
    socket.say(answer);
    await settle();
    assert.equal(pc.signalingState, 'stable');
    assert.deepEqual(of('error'), []);
  });

  it('signals of a session that is not ours are dropped', async () => {
    const { socket, of } = await makeOpenClient();
    socket.say({ type: 'offer', sessionId: 'other', sdp: 'offer x' });
    socket.say({ type: 'partner-disconnected', sessionId: 'other' });
    await settle();
    assert.equal(FakePeerConnection.all.length, 0);
    assert.deepEqual(of('partner-disconnected'), []);
  });
});

describe('local media', () => {
  it('are exchanged in place where a track of the kind is sent already', async () => {
    const { client, socket, pc } = await makeMatchedClient({ isInitiator: true });
    client.setLocalStream(stream(audio('new'), video('new')));
    await settle();
    assert.deepEqual(pc.getSenders().map(({ track }) => track.id), ['new', 'new']);
    assert.equal(socket.of('offer').length, 1);
  });

  it('are no longer sent when they are taken away', async () => {
    const { client, pc } = await makeMatchedClient({ isInitiator: true });
    client.setLocalStream(stream(audio()));
    assert.deepEqual(pc.getSenders().map(({ track }) => track?.kind), ['audio', undefined]);
    client.setLocalStream(null);
    assert.deepEqual(pc.getSenders().map(({ track }) => track), [null, null]);
  });

  it('of the partner are announced', async () => {
    const { pc, of } = await makeMatchedClient({ isInitiator: true });
    pc.ontrack({ track: video(), streams: ['stream'], receiver: {}, transceiver: {} });
    assert.deepEqual(of('track').map(({ track, streams }) => [track.kind, streams]), [['video', ['stream']]]);
  });

  it('may be replaced by transceivers and data channels of the application, made before the offer', async () => {
    const { client, socket } = await makeOpenClient();
    client.addEventListener('peerconnection', ({ detail }) => detail.peerConnection.addTrack(audio('own')));
    socket.say({ type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator: true });
    await settle();
    assert.equal(socket.of('offer').length, 1);
  });
});
