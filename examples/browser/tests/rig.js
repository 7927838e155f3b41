// Runs in a page: one side of a call, and what is measured of it. `window.rig` is what the tests use.

import { SignalingClient } from '/signaling-client.js';

/** Milliseconds between two looks at the decoded pictures, and between two messages on the data channel. */
const SAMPLE = 100;
const CHATTER = 20;

const peers = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  /** What was applied of the partner's signals, in order. */
  applied = [];

  constructor(...args) {
    super(...args);
    peers.push(this);
  }

  setRemoteDescription(description) {
    this.applied.push(description.sdp);
    return super.setRemoteDescription(description);
  }

  addIceCandidate(candidate) {
    this.applied.push(candidate?.candidate ?? '');
    return super.addIceCandidate(candidate);
  }
};

/** The last messages of all sockets, for a test that failed. */
const MAX_WIRE = 120;
const wire = [];
const brief = ({ type, negotiation = '', seq = '', id = '', code = '', partnerConnected = '' }) =>
  [type, negotiation, seq, id, code, partnerConnected].filter((each) => each !== '').join(' ');

const sockets = [];
/** Signals by negotiation and number, as they were sent first. */
const sent = new Map();
window.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    const target = new URL(url);
    if (rig.isForgetful) target.searchParams.delete('continue');
    super(target, protocols);
    sockets.push(this);
    const number = sockets.length;
    this.note = (what) => {
      wire.push(`${Date.now() % 1e6} socket ${number} ${what}`);
      if (wire.length > MAX_WIRE) wire.shift();
    };
    this.note(`made ${target.searchParams.getAll('continue')}`);
    this.addEventListener('open', () => this.note('open'));
    this.addEventListener('close', ({ code, reason }) => this.note(`closed ${code} ${reason}`));
    this.addEventListener('message', ({ data }) => this.note(`< ${brief(JSON.parse(data))}`));
  }

  send(text) {
    const message = JSON.parse(text);
    const { type, negotiation, seq } = message;
    this.note(`> ${brief(message)}`);
    if (['offer', 'answer', 'ice-candidate'].includes(type)) sent.set(`${negotiation} ${seq}`, message);
    super.send(text);
  }
};

const events = [];
const TYPES = ['state', 'sessionstate', 'match', 'continued', 'partner-disconnected', 'partner-reconnected', 'ended',
  'error', 'closed', 'connectionstate'];

let client;
let session;
let stream;
/** The data channels, and of each: numbered messages sent and arrived, and the first that arrived out of order. */
const channels = [];

function chat(channel, isFirst) {
  const told = { sent: 0, arrived: 0, disorder: null, channel };
  channels.push(told);
  channel.onmessage = ({ data }) => {
    if (Number(data) === told.arrived + 1) told.arrived += 1;
    else told.disorder ??= `${data} after ${told.arrived}`;
  };
  // Chromium may lose what the second one sends before it has received anything.
  const mayTalk = () => channel.readyState === 'open' && (isFirst || told.arrived > 0) && !rig.isQuiet;
  const talk = () => {
    if (mayTalk()) channel.send(String((told.sent += 1)));
    if (channel.readyState !== 'closed') setTimeout(talk, CHATTER);
  };
  talk();
}

/** The longest time without a new picture, and what it takes to measure it. */
const pictures = { gap: 0, since: 0, last: null, count: -1 };

async function sample() {
  const current = session?.peerConnection;
  if (current && current.connectionState !== 'closed') {
    const report = await current.getStats();
    const inbound = [...report.values()].find(({ type, kind }) => type === 'inbound-rtp' && kind === 'video');
    const count = inbound?.framesDecoded ?? 0;
    const now = performance.now();
    if ((current === pictures.last && count > pictures.count) || (current !== pictures.last && count > 0)) {
      Object.assign(pictures, { since: now, last: current, count });
    } else if (pictures.last) {
      pictures.gap = Math.max(pictures.gap, now - pictures.since);
    }
  }
  setTimeout(sample, SAMPLE);
}

const rig = (window.rig = {
  isQuiet: false,
  /** Whether new connections do not continue. */
  isForgetful: false,
  events,
  peers,
  wire,
  get client() {
    return client;
  },
  get session() {
    return session;
  },

  async start({ url, user, seconds, options }) {
    stream ??= await navigator.mediaDevices.getUserMedia({
      audio: true, video: { width: 160, height: 120, frameRate: 30 },
    });
    const token = async () => {
      const response = await fetch(`/token?${new URLSearchParams({ user, seconds })}`);
      if (!response.ok) throw new Error(`status ${response.status}`);
      return response.text();
    };
    client = new SignalingClient({ url, token, ...options });
    for (const type of TYPES) {
      client.addEventListener(type, ({ detail }) => {
        if (detail.session) session = detail.session;
        const { state, reason, code, connectionState, partnerConnected } = detail;
        events.push({ type, at: Date.now(), state, reason, code, connectionState, partnerConnected });
      });
    }
    client.addEventListener('peerconnection', ({ detail }) => {
      session = detail.session;
      const { peerConnection } = detail;
      if (session.isInitiator) chat(peerConnection.createDataChannel('chat'), true);
      else peerConnection.ondatachannel = ({ channel }) => chat(channel, false);
    });
    client.addEventListener('track', ({ detail }) => {
      document.querySelector('video').srcObject = detail.streams[0];
    });
    client.setLocalStream(stream);
    client.connect();
  },

  /** Ends the call and forgets all that was measured. */
  stop() {
    client?.leave();
    client?.close();
    client = session = undefined;
    for (const list of [peers, sockets, events, channels, wire]) list.length = 0;
    sent.clear();
    Object.assign(pictures, { gap: 0, since: 0, last: null, count: -1 });
    rig.isQuiet = rig.isForgetful = false;
  },

  isConnected() {
    return pictures.last === session?.peerConnection && channels.at(-1)?.arrived > 3;
  },

  /** Starts the measurement: what it counts is counted from now. */
  begin() {
    Object.assign(pictures, { gap: 0, since: performance.now() });
    rig.from = { peers: peers.length, offers: rig.offers(), events: events.length, sockets: sockets.length };
  },

  offers() {
    return [...sent.values()].filter(({ type }) => type === 'offer').length;
  },

  /** How many times each event has come since `begin`. */
  count(type) {
    return events.slice(rig.from?.events ?? 0).filter((event) => event.type === type).length;
  },

  report() {
    const since = events.slice(rig.from.events);
    return {
      peers: peers.length - rig.from.peers,
      offers: rig.offers() - rig.from.offers,
      sockets: sockets.length - rig.from.sockets,
      gap: Math.round(pictures.gap),
      channels: channels.map(({ sent, arrived, disorder, channel }) => ({
        sent, arrived, disorder, state: channel.readyState,
      })),
      told: since.filter(({ type }) => type !== 'state').map(({ type, state }) => (state ? `${type} ${state}` : type)),
      state: session?.state,
      client: client?.state,
    };
  },

  /** What was sent in the current negotiation, and what was applied of the partner's. */
  signals() {
    const contents = ({ sdp, candidate }) => sdp ?? candidate?.candidate ?? '';
    const { applied = [] } = peers.at(-1) ?? {};
    return { sent: [...sent.values()].map(contents), applied, peers: peers.length, offers: rig.offers() };
  },
});

sample();
rig.isReady = true;
