/**
 * Browser client of the signaling protocol: one WebSocket that mends itself and, for every session that the
 * server opens, peer connections that are negotiated, renegotiated and restarted without the application.
 *
 * Top to bottom: timing rules (pure), `Link` (the socket), `Peer` (one peer connection), `Session` (one call),
 * `SignalingClient` (what an application uses). Public types and their docs: `signaling-client.d.ts`.
 */

/** Milliseconds after which a connection was good enough to forget the failures before it. */
const STABLE_AFTER = 10_000;
/** Milliseconds that the server has to answer when the page has just woken up. */
const PROBE_TIMEOUT = 5_000;
/** Milliseconds. A timer later than this means that the page slept: its silence says nothing about the server. */
const SLEPT = 2_000;
/** Candidates kept before the first description at most; real ones bring a few dozen. */
const MAX_EARLY_CANDIDATES = 256;

const DEFAULTS = Object.freeze({
  auth: 'query',
  heartbeatInterval: 10_000,
  ackTimeout: 10_000,
  connectTimeout: 10_000,
  backoffBase: 1_000,
  backoffMax: 15_000,
  goingAwayJitter: 3_000,
  abandonAfter: 60_000,
});

const ADVICE = {
  1000: 'stop', 1002: 'stop', 1007: 'stop', 1008: 'stop', 1009: 'stop', 4400: 'stop', 4403: 'stop', 4409: 'stop',
  1001: 'jitter',
  1006: 'reconnect', 4408: 'reconnect', 4413: 'reconnect',
  1011: 'backoff', 4429: 'backoff', 4503: 'backoff',
  4401: 'token',
};

/** What a close code advises. Codes that the protocol does not name (a proxy's 1012, say) count as overload. */
export function closeAdvice(code) {
  return ADVICE[code] ?? 'backoff';
}

/**
 * Milliseconds to wait before the next connection. `attempt` counts the failures in a row before this one.
 *
 * - `reconnect` spreads over the whole range from zero, so that the first attempt is usually quick;
 * - `jitter` spreads the clients of a server that went away over at least `goingAwayJitter`;
 * - `backoff` never comes sooner than half the range: the server asked for time;
 * - `token` is immediate once, then `backoff`: a server that refuses fresh tokens is not hammered.
 */
export function reconnectDelay(advice, attempt, limits = DEFAULTS, random = Math.random) {
  const range = Math.min(limits.backoffMax, limits.backoffBase * 2 ** attempt);
  if (advice === 'reconnect') return random() * range;
  if (advice === 'jitter') return random() * Math.max(limits.goingAwayJitter, range);
  if (advice === 'token' && attempt === 0) return 0;
  return (0.5 + random() / 2) * range;
}

/** The result of `promise`, or an error if it has not settled after `ms`. */
function settled(promise, ms, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Partners send descriptions and candidates as text, as an object, or as that object's JSON. */
function parsed(value) {
  return typeof value === 'string' && value.startsWith('{') ? JSON.parse(value) : value;
}

/** A partner's candidate as `addIceCandidate` takes it; `null` is the end of candidates. */
function candidateOf(value) {
  const given = parsed(value);
  const candidate = typeof given === 'string' ? { candidate: given } : given;
  if (!candidate?.candidate) return null;
  // The API requires an m-line; with BUNDLE all share the first.
  const { sdpMid = null, sdpMLineIndex = null } = candidate;
  return sdpMid === null && sdpMLineIndex === null ? { ...candidate, sdpMLineIndex: 0 } : candidate;
}

/** The socket to the server: authenticates, heartbeats, notices silence, reconnects as advised. */
class Link {
  state = 'idle';
  #options;
  #hooks;
  #socket = null;
  /** Which attempt to connect is the current one; an older one that is still awaiting its token gives up. */
  #turn = 0;
  #attempt = 0;
  #refusals = 0;
  #openedAt = 0;
  /** What the next attempt tells the token function, and whether `wake` may start it early. */
  #refused = false;
  #wakeable = true;
  /** Whether a socket was ever made. If so, only the token can be the reason when the next one cannot be made. */
  #made = false;
  #lastBeat = 0;
  #beatTimer;
  #watchdog;
  #retryTimer;

  constructor(options, hooks) {
    this.#options = options;
    this.#hooks = hooks;
  }

  open() {
    if (this.state !== 'idle' && this.state !== 'closed') return;
    this.#attempt = this.#refusals = 0;
    this.#connect(false);
  }

  close(code, reason, local) {
    if (this.state === 'closed') return;
    this.#drop(1000);
    this.#become('closed', { code, reason, local });
  }

  /** Whether the message was handed to an open socket. */
  send(message) {
    if (this.#socket?.readyState !== 1) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Sends a heartbeat for each session (or one that names none) and returns the last one's id. */
  beat(timeout = this.#options.ackTimeout) {
    this.#beatTimer = clearTimeout(this.#beatTimer);
    const sessions = this.#hooks.sessionIds();
    for (const sessionId of sessions.length > 0 ? sessions : [undefined]) {
      if (!this.send({ type: 'heartbeat', id: this.#lastBeat + 1, sessionId })) break;
      this.#lastBeat += 1;
    }
    if (this.state === 'open' && !this.#watchdog) this.#watch(timeout);
    return this.#lastBeat;
  }

  /** The network is back or the page is visible again: no reason to wait any longer, or to trust the socket. */
  wake() {
    if (this.state === 'open') {
      this.#unwatch();
      this.beat(PROBE_TIMEOUT);
    } else if (this.state === 'reconnecting' && this.#wakeable) {
      clearTimeout(this.#retryTimer);
      this.#connect(this.#refused);
    }
  }

  async #connect(refused) {
    const turn = ++this.#turn;
    this.#become('connecting');
    const { token, auth, url, connectTimeout } = this.#options;
    let jwt = token;
    if (typeof token === 'function') {
      try {
        const asked = new Promise((resolve) => resolve(token({ refused })));
        jwt = await settled(asked, connectTimeout, 'the token function');
        if (typeof jwt !== 'string' || jwt === '') throw new TypeError('the token function gave no token');
      } catch (cause) {
        if (turn === this.#turn) this.#failed('there is no token', cause, refused);
        return;
      }
    }
    if (turn !== this.#turn) return;
    const target = new URL(url);
    if (auth === 'query') target.searchParams.set('token', jwt);
    let socket;
    try {
      socket = new WebSocket(target, ['signaling.v1', ...(auth === 'query' ? [] : [`bearer.${jwt}`])]);
    } catch (cause) {
      this.#failed('a WebSocket cannot be made', cause, true, !this.#made);
      return;
    }
    this.#made = true;
    this.#socket = socket;
    // A refused token is told by a close after the upgrade, so only an answer proves that the server took us.
    socket.onopen = () => this.beat();
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#ended(code, reason);
    this.#watch(connectTimeout);
  }

  /** There is no socket. What is `permanent` is not tried again: the same page and address would fail the same way. */
  #failed(message, cause, refused, permanent = false) {
    const turn = this.#turn;
    this.#hooks.error({ code: 'connect-failed', message, cause });
    if (turn !== this.#turn) return;
    if (permanent) this.close(1006, `${message}: ${cause?.message ?? cause}`, false);
    else this.#retry(reconnectDelay('backoff', this.#attempt++, this.#options), { refused });
  }

  #receive(data) {
    this.#unwatch();
    if (this.state === 'connecting') {
      this.#openedAt = Date.now();
      this.#refusals = 0;
      this.#become('open');
    }
    if (this.state !== 'open') return;
    // Started here, and not by the last heartbeat's timer: in hidden pages browsers run chained timers once a minute.
    this.#beatTimer ??= setTimeout(() => this.beat(), this.#options.heartbeatInterval);
    this.#hooks.message(JSON.parse(data));
  }

  /** Gives the server `timeout` ms to say anything at all. */
  #watch(timeout) {
    const due = Date.now() + timeout;
    this.#watchdog = setTimeout(() => {
      this.#watchdog = undefined;
      if (this.state === 'open' && Date.now() - due > SLEPT) this.beat(PROBE_TIMEOUT);
      else this.#ended(1006, 'the server does not answer');
    }, timeout);
  }

  #unwatch() {
    this.#watchdog = clearTimeout(this.#watchdog);
  }

  #ended(code, reason) {
    const advice = closeAdvice(code);
    if (this.state === 'open' && Date.now() - this.#openedAt >= STABLE_AFTER) this.#attempt = 0;
    this.#drop();
    if (advice === 'stop' || (advice === 'token' && typeof this.#options.token !== 'function')) {
      this.close(code, reason, false);
      return;
    }
    const attempt = advice === 'token' ? this.#refusals++ : this.#attempt++;
    const retryIn = reconnectDelay(advice, attempt, this.#options);
    this.#retry(retryIn, { code, reason, refused: advice === 'token', wakeable: advice !== 'backoff' });
  }

  #retry(retryIn, { refused, wakeable = true, ...why }) {
    this.#refused = refused;
    this.#wakeable = wakeable;
    this.#retryTimer = setTimeout(() => this.#connect(refused), retryIn);
    this.#become('reconnecting', { ...why, retryIn });
  }

  /** Forgets the socket and every timer. A dead socket's own close may take minutes, so nobody waits for it. */
  #drop(code) {
    this.#turn += 1;
    this.#unwatch();
    this.#beatTimer = clearTimeout(this.#beatTimer);
    clearTimeout(this.#retryTimer);
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    if (socket.readyState < 2) socket.close(code);
  }

  #become(state, detail) {
    const previous = this.state;
    this.state = state;
    this.#hooks.state({ state, previous, ...detail });
  }
}

/**
 * One peer connection from a match to the next: perfect negotiation (W3C WebRTC 1.0, section 10.7), with the
 * responder as the polite side. `live` is false while nothing may be sent: partner or server are away.
 */
class Peer {
  live = true;
  #session;
  #options;
  #hooks;
  #closed = false;
  /** The server refuses a responder's offer until the initiator's first one has passed. */
  #mayOffer;
  #makingOffer = false;
  /** The last offer lost a collision, so its candidates fit nothing here. */
  #ignoring = false;
  #early = [];
  /** Messages are applied one after another, so that no check is outrun by the next message. */
  #inbox = Promise.resolve();
  /** The last description sent and the candidates since: what is repeated when the server refused a part of it. */
  #round = [];
  #repeats = 0;
  #repeatTimer;
  #recoveries = 0;
  #recoveryTimer;

  constructor(session, options, hooks) {
    this.#session = session;
    this.#options = options;
    this.#hooks = hooks;
    this.#mayOffer = session.isInitiator;
    const pc = new RTCPeerConnection(this.#configuration());
    pc.onnegotiationneeded = () => this.#offer();
    pc.onicecandidate = ({ candidate }) => this.#signal({ type: 'ice-candidate', candidate });
    pc.onconnectionstatechange = () => this.#connectionChanged();
    pc.ontrack = ({ track, streams, receiver, transceiver }) =>
      hooks.emit('track', { session, track, streams, receiver, transceiver });
    this.connection = pc;
  }

  /** The server's STUN and TURN servers, where it names any, come in the place of the application's. */
  #configuration() {
    const { iceServers } = this.#session;
    return { ...this.#options.rtcConfiguration, ...(iceServers && { iceServers }) };
  }

  /** The session has other ICE servers now: they are used from the next ICE restart on (W3C WebRTC 1.0, 4.4.1.6). */
  configure() {
    try {
      this.connection.setConfiguration(this.#configuration());
    } catch (cause) {
      this.#failed('ICE servers', cause);
    }
  }

  /** Sends this stream's tracks and no others, by replacing tracks where that avoids a negotiation. */
  useStream(stream) {
    const pc = this.connection;
    const tracks = stream?.getTracks() ?? [];
    for (const sender of pc.getSenders()) {
      if (sender.track && !tracks.some(({ kind }) => kind === sender.track.kind)) pc.removeTrack(sender);
    }
    for (const track of tracks) {
      const sender = pc.getSenders().find((each) => each.track?.kind === track.kind);
      if (!sender) pc.addTrack(track, stream);
      else if (sender.track !== track) sender.replaceTrack(track);
    }
  }

  receive(message) {
    this.#inbox = this.#inbox
      .then(() => this.#apply(message))
      .catch((cause) => this.#failed(message.type, cause));
  }

  /** The server refused something of ours; its error does not say which message. */
  refused(code) {
    if (code === 'not-initiator') this.#mayOffer = false;
    if (code === 'unavailable') this.#repeatRound(0);
    if (code === 'rate-limited') this.#repeatRound(1);
  }

  /** The partner or the server is away. Media may still flow, so the peer connection stays. */
  pause() {
    this.live = false;
    clearTimeout(this.#repeatTimer);
    clearTimeout(this.#recoveryTimer);
  }

  close() {
    this.#closed = true;
    const pc = this.connection;
    pc.onnegotiationneeded = pc.onicecandidate = pc.onconnectionstatechange = pc.ontrack = null;
    pc.close();
  }

  #offer() {
    if (!this.#mayOffer) return;
    this.#makingOffer = true;
    this.#describe()
      .catch((cause) => this.#failed('local offer', cause))
      .finally(() => (this.#makingOffer = false));
  }

  async #apply({ type, sdp, candidate }) {
    const pc = this.connection;
    if (type === 'ice-candidate') {
      if (pc.remoteDescription) await this.#addCandidate(candidate);
      else if (this.#early.length < MAX_EARLY_CANDIDATES) this.#early.push(candidate);
      return;
    }
    if (type === 'offer') {
      this.#mayOffer = true;
      const collision = this.#makingOffer || pc.signalingState !== 'stable';
      this.#ignoring = collision && this.#session.isInitiator;
      if (this.#ignoring) return;
    } else if (pc.signalingState !== 'have-local-offer') {
      return; // A repeated answer: the first one has done its work.
    }
    const remote = parsed(sdp);
    await pc.setRemoteDescription({ type, sdp: remote?.sdp ?? remote });
    for (const early of this.#early.splice(0)) await this.#addCandidate(early);
    if (type === 'offer' && !this.#closed) await this.#describe();
  }

  async #addCandidate(candidate) {
    try {
      await this.connection.addIceCandidate(candidateOf(candidate));
    } catch (cause) {
      if (!this.#ignoring) this.#failed('ice-candidate', cause);
    }
  }

  /** Sets and sends the local description that the signaling state calls for. */
  async #describe() {
    await this.connection.setLocalDescription();
    if (this.#closed) return;
    const { type, sdp } = this.connection.localDescription;
    this.#round = [];
    this.#repeats = 0;
    this.#signal({ type, sdp });
  }

  #signal(message) {
    if (!this.live) return;
    this.#round.push({ ...message, sessionId: this.#session.id });
    this.#hooks.send(this.#round.at(-1));
  }

  #repeatRound(patience) {
    if (this.#repeatTimer || !this.live) return;
    const delay = reconnectDelay('backoff', patience + this.#repeats++, this.#options);
    this.#repeatTimer = setTimeout(() => {
      this.#repeatTimer = undefined;
      const answered = this.#round[0]?.type === 'offer' && this.connection.signalingState === 'stable';
      for (const message of this.#round.slice(answered ? 1 : 0)) this.#hooks.send(message);
    }, delay);
  }

  #connectionChanged() {
    const { connectionState } = this.connection;
    if (connectionState === 'failed') this.#recover();
    if (connectionState === 'connected') {
      this.#recoveries = 0;
      this.#recoveryTimer = clearTimeout(this.#recoveryTimer);
    }
    this.#hooks.emit('connectionstate', { session: this.#session, connectionState });
  }

  /** A fresh offer with an ICE restart: at once for the first failure in a row, then with backoff. */
  #recover() {
    if (!this.#mayOffer || this.#recoveryTimer || !this.live) return;
    const failures = this.#recoveries++;
    const delay = failures === 0 ? 0 : reconnectDelay('backoff', failures - 1, this.#options);
    this.#recoveryTimer = setTimeout(async () => {
      this.#recoveryTimer = undefined;
      const pc = this.connection;
      try {
        if (pc.signalingState === 'have-local-offer') await pc.setLocalDescription({ type: 'rollback' });
        pc.restartIce();
      } catch (cause) {
        this.#failed('ICE restart', cause);
      }
    }, delay);
  }

  #failed(what, cause) {
    if (this.#closed) return;
    const sessionId = this.#session.id;
    this.#hooks.emit('error', { code: 'negotiation-failed', message: `could not apply: ${what}`, sessionId, cause });
    // An answer that does not fit belongs to an older offer; only a new round gets out of that.
    if (what === 'answer') this.#recover();
  }
}

/** One call with one partner, over as many peer connections as it takes. */
class Session {
  partnerId;
  isInitiator;
  iceServers;
  state = null;
  partnerReason;
  peer = null;
  #options;
  #hooks;
  #abandonTimer;

  constructor(id, options, hooks) {
    this.id = id;
    this.#options = options;
    this.#hooks = hooks;
  }

  get peerConnection() {
    return this.peer?.connection ?? null;
  }

  /** A match, first or repeated: whatever was negotiated before is void. */
  begin({ partnerId, isInitiator, iceServers }, stream) {
    const previous = this.state;
    this.#drop();
    Object.assign(this, { partnerId, isInitiator, iceServers, state: 'active', partnerReason: undefined });
    const peer = (this.peer = new Peer(this, this.#options, this.#hooks));
    this.#hooks.emit('peerconnection', { session: this, peerConnection: this.peerConnection });
    if (this.peer !== peer) return;
    peer.useStream(stream);
    this.#changed(previous);
  }

  /** The server names other ICE servers: those of before are about to expire, or there were none. */
  useIceServers(iceServers) {
    this.iceServers = iceServers;
    this.peer?.configure();
  }

  /** Partner or server are away (`partner-away`, `offline`): only the next match goes on from here. */
  pause(state, reason = this.partnerReason) {
    const previous = this.state;
    this.peer?.pause();
    clearTimeout(this.#abandonTimer);
    Object.assign(this, { state, partnerReason: reason });
    if (state === 'partner-away') {
      this.#abandonTimer = setTimeout(() => this.#hooks.abandoned(this), this.#options.abandonAfter);
    }
    this.#changed(previous);
  }

  end() {
    const previous = this.state;
    this.#drop();
    this.state = 'ended';
    this.#changed(previous);
  }

  #drop() {
    clearTimeout(this.#abandonTimer);
    this.peer?.pause();
    this.peer?.close();
    this.peer = null;
  }

  #changed(previous) {
    const { state } = this;
    if (state !== previous) this.#hooks.emit('sessionstate', { session: this, state, previous });
  }
}

/**
 * The application's side: connects, keeps the connection, and turns every match into a {@link Session}.
 * Every event is a `CustomEvent`; `signaling-client.d.ts` lists them with their details.
 */
export class SignalingClient extends EventTarget {
  #options;
  #link;
  #stream = null;
  #sessions = new Map();
  /** Sessions that we left: when to say so again, and which heartbeat's answer shows that the server has read it. */
  #leaving = new Map();
  #acknowledged = 0;
  #sessionHooks = {
    send: (message) => this.#link.send(message),
    emit: (type, detail) => this.#emit(type, detail),
    abandoned: (session) => this.#end(session, 'abandoned'),
  };
  /** Ends the listening for signs that the network or the page is back. */
  #listening = new AbortController();

  constructor(options) {
    super();
    const { token } = options;
    if (typeof token !== 'function' && (typeof token !== 'string' || token === '')) {
      throw new TypeError('`token` is neither a token nor a function');
    }
    const { iceServers, rtcConfiguration, ...rest } = options;
    const url = new URL(options.url, globalThis.location?.href);
    url.protocol = url.protocol.replace('http', 'ws');
    const configuration = { ...rtcConfiguration, ...(iceServers && { iceServers }) };
    this.#options = { ...DEFAULTS, ...rest, url, rtcConfiguration: configuration };
    this.#link = new Link(this.#options, {
      state: (detail) => this.#stateChanged(detail),
      error: (detail) => this.#emit('error', detail),
      message: (message) => this.#receive(message),
      sessionIds: () => [...this.#sessions.keys()],
    });
  }

  get state() {
    return this.#link.state;
  }

  get sessions() {
    return new Map(this.#sessions);
  }

  /** Connects and stays connected until {@link close} or a close code that says stop. May be called again then. */
  connect() {
    // A page that was hidden just now has nothing to check; one that stays hidden still wants the network.
    const wake = ({ type }) => {
      if (type !== 'visibilitychange' || globalThis.document?.visibilityState !== 'hidden') this.#link.wake();
    };
    this.#listening.abort();
    this.#listening = new AbortController();
    for (const type of ['online', 'pageshow', 'visibilitychange']) {
      globalThis.addEventListener?.(type, wake, { signal: this.#listening.signal });
    }
    this.#link.open();
  }

  /** Disconnects for good. Sessions that were not left can be resumed by a new client until the server drops them. */
  close() {
    this.#link.close(1000, 'closed by the application', true);
  }

  /** Hangs up one session, or all of them. */
  leave(sessionId) {
    for (const session of [...this.#sessions.values()]) {
      if (sessionId !== undefined && session.id !== sessionId) continue;
      this.#leave(session, 'left');
    }
  }

  /** The tracks to send in every session, present and future; `null` sends none. */
  setLocalStream(stream) {
    this.#stream = stream;
    for (const session of this.#sessions.values()) session.peer?.useStream(stream);
  }

  #receive(message) {
    const session = this.#sessions.get(message.sessionId);
    if (message.type === 'match-found') this.#matched(message);
    else if (message.type === 'ice-servers') session?.useIceServers(message.iceServers);
    else if (message.type === 'error') this.#refused(message, session);
    else if (message.type === 'heartbeat-ack') this.#acknowledged = message.id;
    else if (message.type === 'partner-disconnected') this.#partnerAway(session, message.reason);
    else if (['offer', 'answer', 'ice-candidate'].includes(message.type)) session?.peer?.receive(message);
  }

  #partnerAway(session, reason) {
    if (!session) return;
    session.pause('partner-away', reason);
    this.#emit('partner-disconnected', { session, reason });
    // A heartbeat that names an ended session is answered `unknown-session`: gone for good, or only away?
    this.#link.beat();
  }

  #matched({ sessionId, partnerId, isInitiator, iceServers }) {
    // What the server said before it read our `leave` is void; afterwards the same id is a new session.
    if (this.#leaving.get(sessionId)?.beat > this.#acknowledged) return;
    this.#left(sessionId);
    const again = this.#sessions.has(sessionId);
    const session = this.#sessions.get(sessionId) ?? new Session(sessionId, this.#options, this.#sessionHooks);
    this.#sessions.set(sessionId, session);
    try {
      session.begin({ partnerId, isInitiator, iceServers }, this.#stream);
    } catch (cause) {
      const error = { code: 'negotiation-failed', message: 'a peer connection cannot be made', sessionId, cause };
      this.#emit('error', error);
      this.#leave(session, 'failed');
    }
    // A listener may have left it already.
    if (this.#sessions.get(sessionId) === session) this.#emit('match', { session, again });
  }

  #refused({ code, message, sessionId }, session) {
    if (this.#leaving.has(sessionId)) {
      if (code === 'unknown-session') this.#left(sessionId);
    } else if (session && code === 'unknown-session') {
      this.#end(session, 'gone');
    } else {
      if (code === 'partner-absent') session?.pause('partner-away');
      session?.peer?.refused(code);
      this.#emit('error', { code, message, sessionId });
    }
  }

  /** Says `leave` until the server no longer knows the session, for nothing else confirms it. */
  #sayLeave(id, attempt = 0) {
    clearTimeout(this.#leaving.get(id)?.timer);
    this.#link.send({ type: 'leave', sessionId: id });
    const timer = setTimeout(() => this.#sayLeave(id, attempt + 1), reconnectDelay('backoff', attempt, this.#options));
    this.#leaving.set(id, { timer, beat: this.#link.beat() });
  }

  #left(id) {
    clearTimeout(this.#leaving.get(id)?.timer);
    this.#leaving.delete(id);
  }

  #leave(session, reason) {
    this.#sessions.delete(session.id);
    this.#sayLeave(session.id);
    this.#end(session, reason);
  }

  #end(session, reason) {
    this.#sessions.delete(session.id);
    session.end();
    this.#emit('ended', { session, reason });
  }

  #stateChanged(detail) {
    // A `leave` on a connection that broke may not have reached the server.
    if (detail.state === 'open') this.#leaving.forEach((_, id) => this.#sayLeave(id));
    if (detail.state === 'closed') {
      this.#leaving.forEach(({ timer }) => clearTimeout(timer));
      this.#listening.abort();
      for (const session of [...this.#sessions.values()]) this.#end(session, 'closed');
    }
    if (detail.state === 'reconnecting') {
      this.#sessions.forEach((session) => session.pause('offline'));
      if (this.state !== 'reconnecting') return; // A listener has closed the client.
    }
    this.#emit('state', detail);
    if (detail.state === 'closed') this.#emit('closed', detail);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
