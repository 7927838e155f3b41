// Stand-ins for the browser's WebSocket and RTCPeerConnection, as strict about order as the real ones.

import { mock } from 'node:test';
import { SignalingClient } from '../signaling-client.js';

/** Lets everything that is ready run. `setImmediate` is never mocked here. */
export async function settle() {
  for (let turn = 0; turn < 6; turn += 1) await new Promise(setImmediate);
}

/** Moves the mocked clock, letting promises run at every step so that chained timers start in time. */
export async function advance(ms, step = 500) {
  for (let left = ms; left > 0; left -= step) {
    mock.timers.tick(Math.min(step, left));
    await settle();
  }
}

export class FakeWebSocket {
  static all = [];
  static get last() {
    return FakeWebSocket.all.at(-1);
  }

  readyState = 0;
  sent = [];
  closedWith = undefined;

  constructor(url, protocols) {
    this.url = new URL(url);
    this.protocols = protocols;
    FakeWebSocket.all.push(this);
  }

  send(text) {
    if (this.readyState !== 1) throw new Error('sent on a socket that is not open');
    this.sent.push(JSON.parse(text));
  }

  close(code) {
    this.readyState = 2;
    this.closedWith = code ?? 1005;
  }

  /** The server accepts the upgrade. */
  accept() {
    this.readyState = 1;
    this.onopen?.({});
  }

  /** The server says something. */
  say(message) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  /** The server answers every heartbeat so far. */
  acknowledge() {
    for (const { type, id } of [...this.sent]) if (type === 'heartbeat') this.say({ type: 'heartbeat-ack', id });
  }

  /** The connection ends. */
  end(code, reason = '') {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  of(type) {
    return this.sent.filter((message) => message.type === type);
  }
}

class FakeSender {
  constructor(track) {
    this.track = track;
  }

  async replaceTrack(track) {
    this.track = track;
  }
}

/** Follows the specification's operations chain, signaling states and negotiation-needed flag. */
export class FakePeerConnection {
  static all = [];
  static get last() {
    return FakePeerConnection.all.at(-1);
  }
  static #descriptions = 0;

  signalingState = 'stable';
  connectionState = 'new';
  localDescription = null;
  remoteDescription = null;
  candidates = [];
  restarts = 0;
  closed = false;
  #chain = Promise.resolve();
  #busy = 0;
  #needed = false;
  #offered = false;
  #restartsOffered = 0;
  #senders = [];

  constructor(configuration) {
    this.configuration = configuration;
    FakePeerConnection.all.push(this);
  }

  setConfiguration(configuration) {
    if (this.closed) throw new Error('the peer connection is closed');
    if (configuration.bundlePolicy !== this.configuration.bundlePolicy) throw new Error('bundlePolicy changed');
    this.configuration = configuration;
  }

  getSenders() {
    return [...this.#senders];
  }

  /** Kinds of media that the partner sends, and whether a picture of it was decoded. */
  receives = [];
  framesDecoded = 0;

  getReceivers() {
    return this.receives.map((kind) => ({ track: { kind } }));
  }

  async getStats() {
    const { framesDecoded } = this;
    return new Map([['in', { type: 'inbound-rtp', kind: 'video', framesDecoded }]]);
  }

  addTrack(track) {
    this.#senders.push(new FakeSender(track));
    this.#need();
  }

  removeTrack(sender) {
    sender.track = null;
    this.#need();
  }

  restartIce() {
    if (this.closed) throw new Error('the peer connection is closed');
    this.restarts += 1;
    this.#need();
  }

  setLocalDescription(description) {
    return this.#queue(() => {
      if (description?.type === 'rollback') {
        this.#require('have-local-offer');
        this.#become('stable');
        return;
      }
      const type = this.signalingState === 'have-remote-offer' ? 'answer' : 'offer';
      const number = (FakePeerConnection.#descriptions += 1);
      const sdp = type === 'offer' ? `offer ${number}` : `answer ${number} to ${this.remoteDescription.sdp}`;
      this.localDescription = { type, sdp };
      if (type === 'offer') [this.#offered, this.#restartsOffered] = [true, this.restarts];
      else this.#needed = false;
      this.#become(type === 'offer' ? 'have-local-offer' : 'stable');
    });
  }

  setRemoteDescription({ type, sdp }) {
    return this.#queue(() => {
      if (typeof sdp !== 'string') throw new TypeError('sdp is no string');
      if (type === 'answer') {
        this.#require('have-local-offer');
        if (!sdp.endsWith(` to ${this.localDescription.sdp}`)) throw new Error(`"${sdp}" answers another offer`);
        if (this.#offered) this.#needed = this.restarts > this.#restartsOffered;
      }
      this.#offered = false;
      this.remoteDescription = { type, sdp };
      this.#become(type === 'answer' ? 'stable' : 'have-remote-offer');
    });
  }

  addIceCandidate(candidate) {
    return this.#queue(() => {
      if (!this.remoteDescription) throw new Error('candidate before the description');
      if (candidate && candidate.sdpMid == null && candidate.sdpMLineIndex == null) throw new TypeError('no m-line');
      if (candidate?.candidate === 'misfit') throw new Error('unknown ufrag');
      this.candidates.push(candidate);
    });
  }

  close() {
    this.closed = true;
  }

  /** What the browser does when it finds a candidate, or (`null`) no more. */
  find(candidate) {
    this.onicecandidate?.({ candidate });
  }

  turn(connectionState) {
    this.connectionState = connectionState;
    this.onconnectionstatechange?.({});
  }

  #require(state) {
    if (this.signalingState !== state) throw new Error(`wrong state: ${this.signalingState}`);
  }

  #become(state) {
    this.signalingState = state;
    if (state === 'stable' && this.#needed) this.#need();
  }

  #need() {
    this.#needed = true;
    setImmediate(() => {
      if (this.#needed && this.#busy === 0 && this.signalingState === 'stable') this.onnegotiationneeded?.({});
    });
  }

  #queue(operation) {
    this.#busy += 1;
    const done = this.#chain
      .then(() => new Promise(setImmediate))
      .then(() => {
        if (this.closed) throw new Error('the peer connection is closed');
        operation();
      });
    const after = () => {
      this.#busy -= 1;
      if (this.#needed && this.#busy === 0) this.#need();
    };
    this.#chain = done.then(after, after);
    return done;
  }
}

export const audio = (id = 'a') => ({ kind: 'audio', id });
export const video = (id = 'v') => ({ kind: 'video', id });
export const stream = (...tracks) => ({ getTracks: () => tracks });

/** Replaces the browser and the clock. Call in `beforeEach`. */
export function install() {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  globalThis.WebSocket = FakeWebSocket;
  globalThis.RTCPeerConnection = FakePeerConnection;
  FakeWebSocket.all = [];
  FakePeerConnection.all = [];
}

/** Call in `afterEach`. */
export function uninstall() {
  mock.timers.reset();
  mock.restoreAll();
}

const EVENTS = [
  'state', 'match', 'sessionstate', 'peerconnection', 'track', 'connectionstate', 'partner-disconnected', 'ended',
  'error', 'closed', 'continued', 'partner-reconnected',
];

/** A client whose events are recorded, on a socket that the test plays the server of. */
export function makeClient(options = {}) {
  const client = new SignalingClient({ url: 'wss://host.example/ws/signaling', token: 'jwt', ...options });
  const events = [];
  for (const type of EVENTS) client.addEventListener(type, ({ detail }) => events.push({ type, ...detail }));
  return { client, events, of: (type) => events.filter((event) => event.type === type) };
}

/** The same, connected and acknowledged. */
export async function makeOpenClient(options) {
  const made = makeClient(options);
  made.client.connect();
  await settle();
  const socket = FakeWebSocket.last;
  socket.accept();
  socket.acknowledge();
  await settle();
  return { ...made, socket };
}

/** The same, matched; by a server with continuity if there is a `negotiation`. */
export async function makeMatchedClient({ isInitiator, negotiation, media = stream(audio(), video()), ...options }) {
  const made = await makeOpenClient(options);
  made.client.setLocalStream(media);
  made.socket.say({ type: 'match-found', sessionId: 's1', partnerId: 'bob', isInitiator, negotiation });
  await settle();
  const session = made.client.sessions.get('s1');
  return { ...made, session, pc: session.peerConnection };
}
