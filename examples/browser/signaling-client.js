/**
 * Browser client of the signaling protocol: a WebSocket that reconnects by itself and, for each session that the
 * server opens, a peer connection that is negotiated, renegotiated and restarted without the application.
 *
 * A peer connection is kept as long as its negotiation continues: over reconnects, moves to another server and new
 * tokens (DESIGN.md, section 4).
 *
 * Top to bottom: timing rules (pure), `TokenRefresh`, `Link` (the socket), `SignalLog` (the signals of a negotiation),
 * `Peer` (one peer connection), `Session` (one call), `SignalingClient` (what an application uses). Public types and
 * their docs: `signaling-client.d.ts`.
 */

/** Milliseconds after which a connection was good enough to forget the failures before it. */
const STABLE_AFTER = 10_000;
/** Milliseconds that the server has to answer after a wake-up before a second socket is opened. */
const PROBE_TIMEOUT = 3_000;
/** Milliseconds. The server closes a replaced socket itself; after this long the client does. */
const REPLACED_LIMIT = 10_000;
/**
 * Milliseconds after a second socket was made in which 4409 on the first is taken for its effect; and after a loss, in
 * which 4409 on a new one means that the server still holds the lost one (it may refuse a second connection).
 */
const OWN_CONNECTION_LIMIT = 30_000;
/** Milliseconds. A timer later than this means that the page slept: its silence says nothing about the server. */
const SLEPT = 2_000;
/** Candidates kept before the first description at most; real ones bring a few dozen. */
const MAX_EARLY_CANDIDATES = 256;
/** Signals of one negotiation that are kept for continuing at most, and the length of their JSON in total. */
const MAX_KEPT_SIGNALS = 512;
const MAX_KEPT_LENGTH = 2 * 1024 * 1024;
/** Sessions that one connection can continue: the server reads no more. */
const MAX_CONTINUED = 64;
/** Milliseconds that a connected peer connection is kept at most while a new negotiation has not connected its own. */
const SWAP_LIMIT = 15_000;
/** Milliseconds that the swap waits at most for the first picture after the new peer connection has connected. */
const FIRST_PICTURE_LIMIT = 2_000;
/** Milliseconds between two looks for that picture. */
const PICTURE_POLL = 50;
/** Milliseconds that the old peer connection still sends after the swap: the partner may swap a little later. */
const LINGER = 2_000;
/**
 * Milliseconds that a call with media goes on although the server does not know its session. A server whose store was
 * emptied soon knows it again.
 */
const UNKNOWN_LIMIT = 10_000;
/** Milliseconds between two questions whether the server knows it. */
const UNKNOWN_POLL = 1_000;
/** Milliseconds in `disconnected` until ICE is restarted: it often recovers without. */
const DISCONNECTED_LIMIT = 3_000;
/** Milliseconds that the responder waits longer, so that usually only one side restarts ICE. */
const RESPONDER_GRACE = 2_000;

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

/** Replaces the token of an open connection before it expires. Retries with backoff as long as the old one holds. */
class TokenRefresh {
  #options;
  #hooks;
  #turn = 0;
  #expiresAt = 0;
  #attempt = 0;
  #timer;
  /** Whether a token was sent and the server has not answered. */
  isPending = false;

  constructor(options, hooks) {
    this.#options = options;
    this.#hooks = hooks;
  }

  start(inMs) {
    this.stop();
    this.#expiresAt = Date.now() + inMs;
    this.#attempt = 0;
    this.#ask(false);
  }

  /** The server did not take the token. */
  failed(refused) {
    if (this.isPending) this.#retry(refused);
  }

  stop() {
    this.#turn += 1;
    this.isPending = false;
    clearTimeout(this.#timer);
  }

  async #ask(refused) {
    const turn = ++this.#turn;
    try {
      const token = await this.#hooks.askToken({ refused, expiring: true });
      if (turn !== this.#turn) return;
      this.isPending = true;
      this.#hooks.send({ type: 'refresh', token });
      this.#timer = setTimeout(() => this.#retry(refused), this.#options.ackTimeout);
    } catch (cause) {
      if (turn !== this.#turn) return;
      this.#retry(refused);
      this.#hooks.error({ code: 'refresh-failed', message: 'there is no new token', cause });
    }
  }

  #retry(refused) {
    this.stop();
    const delay = reconnectDelay('backoff', this.#attempt++, this.#options);
    if (Date.now() + delay < this.#expiresAt) this.#timer = setTimeout(() => this.#ask(refused), delay);
  }
}

/**
 * The socket to the server: authenticates, sends heartbeats, notices silence, reconnects as advised.
 *
 * A socket that is open but suspect is replaced: a second one is opened and takes over with the server's first message
 * on it. The first stays open until then, so that the server never sees the user without a connection.
 */
class Link {
  state = 'idle';
  #options;
  #hooks;
  #socket = null;
  /** The second socket on its way (`{ socket, timer }`; without `socket` while the token is asked for), or null. */
  #successor = null;
  #successorMadeAt = -Infinity;
  #lostAt = -Infinity;
  #successorAttempt = 0;
  #successorTimer;
  /** Functions that close replaced sockets which the server has not closed yet. */
  #replaced = new Set();
  #refresh;
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
  /** Whether the server asked for another connection. */
  #moving = false;

  constructor(options, hooks) {
    this.#options = options;
    this.#hooks = hooks;
    this.#refresh = new TokenRefresh(options, {
      askToken: (context) => this.#askToken(context),
      send: (message) => this.send(message),
      error: (detail) => hooks.error(detail),
    });
  }

  open() {
    if (this.state !== 'idle' && this.state !== 'closed') return;
    this.#attempt = this.#refusals = 0;
    this.#lostAt = -Infinity;
    this.#connect(false);
  }

  close(code, reason, local) {
    if (this.state === 'closed') return;
    this.#drop();
    for (const close of [...this.#replaced]) close();
    this.#become('closed', { code, reason, local });
  }

  /** Whether the message was handed to an open socket. */
  send(message) {
    if (this.#socket?.readyState !== 1) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Sends a heartbeat for each session (or one that names none) and returns the last one's id. */
  beat(probing = false) {
    this.#beatTimer = clearTimeout(this.#beatTimer);
    const sessions = this.#hooks.sessionIds();
    for (const sessionId of sessions.length > 0 ? sessions : [undefined]) {
      if (!this.send({ type: 'heartbeat', id: this.#lastBeat + 1, sessionId })) break;
      this.#lastBeat += 1;
    }
    if (this.state === 'open' && !this.#watchdog) {
      this.#watch(probing ? PROBE_TIMEOUT : this.#options.ackTimeout, probing);
    }
    return this.#lastBeat;
  }

  /** The page woke up: an open socket is tested, and a connection that is waited for starts now. */
  wake() {
    if (this.state === 'open') this.probe();
    else this.#connectEarly();
  }

  /** The network is another one, or back: an open socket probably belongs to the old one. */
  networkChanged() {
    if (this.state === 'open') this.replace();
    else this.#connectEarly();
  }

  /** Tests an open socket: without an answer a second one is opened. */
  probe() {
    if (this.state !== 'open') return;
    this.#unwatch();
    this.beat(true);
  }

  /** Opens a second socket, which takes over with its first message. */
  replace() {
    if (this.state !== 'open') return;
    this.#unwatch();
    this.beat();
    // A second socket that is on its way already may belong to the old network too.
    this.#dropSuccessor();
    this.#startSuccessor();
  }

  #connectEarly() {
    if (this.state !== 'reconnecting' || !this.#wakeable) return;
    clearTimeout(this.#retryTimer);
    this.#connect(this.#refused);
  }

  async #askToken(context) {
    const { token, connectTimeout } = this.#options;
    if (typeof token !== 'function') return token;
    const asked = new Promise((resolve) => resolve(token(context)));
    const jwt = await settled(asked, connectTimeout, 'the token function');
    if (typeof jwt !== 'string' || jwt === '') throw new TypeError('the token function gave no token');
    return jwt;
  }

  /** Throws what the browser throws. */
  #makeSocket(jwt) {
    const { auth, url } = this.#options;
    const target = new URL(url);
    if (auth === 'query') target.searchParams.set('token', jwt);
    for (const position of this.#hooks.positions()) target.searchParams.append('continue', position);
    const socket = new WebSocket(target, ['signaling.v1', ...(auth === 'query' ? [] : [`bearer.${jwt}`])]);
    this.#made = true;
    return socket;
  }

  async #connect(refused) {
    const turn = ++this.#turn;
    this.#become('connecting');
    let jwt;
    try {
      jwt = await this.#askToken({ refused, expiring: false });
    } catch (cause) {
      if (turn === this.#turn) this.#failed('there is no token', cause, refused);
      return;
    }
    if (turn !== this.#turn) return;
    let socket;
    try {
      socket = this.#makeSocket(jwt);
    } catch (cause) {
      this.#failed('a WebSocket cannot be made', cause, true, !this.#made);
      return;
    }
    this.#adopt(socket);
    this.#watch(this.#options.connectTimeout);
  }

  #adopt(socket) {
    this.#socket = socket;
    // A refused token is told by a close after the upgrade, so only an answer proves that the server took us.
    socket.onopen = () => this.beat();
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#ended(code, reason);
  }

  /** There is no socket. What is `permanent` is not tried again: the same page and address would fail the same way. */
  #failed(message, cause, refused, permanent = false) {
    const turn = this.#turn;
    this.#hooks.error({ code: 'connect-failed', message, cause });
    if (turn !== this.#turn) return;
    if (permanent) this.close(1006, `${message}: ${cause?.message ?? cause}`, false);
    else this.#retry(reconnectDelay('backoff', this.#attempt++, this.#options), { refused });
  }

  #startSuccessor() {
    this.#successorAttempt = 0;
    this.#openSuccessor(false);
  }

  async #openSuccessor(refused) {
    if (this.state !== 'open' || this.#successor) return;
    const successor = (this.#successor = {});
    try {
      const jwt = await this.#askToken({ refused, expiring: false });
      if (successor !== this.#successor) return;
      const socket = (successor.socket = this.#makeSocket(jwt));
      this.#successorMadeAt = Date.now();
      socket.onopen = () => socket.send(JSON.stringify({ type: 'heartbeat', id: (this.#lastBeat += 1) }));
      socket.onmessage = ({ data }) => {
        this.#takeOver(socket);
        this.#receive(data);
      };
      socket.onclose = ({ code }) => this.#successorFailed(code);
      successor.timer = setTimeout(() => this.#successorFailed(1006), this.#options.connectTimeout);
    } catch (cause) {
      if (successor !== this.#successor) return;
      this.#successorFailed(1006);
      this.#hooks.error({ code: 'connect-failed', message: 'a second connection cannot be made', cause });
    }
  }

  /** The first socket stays. Another one is tried as long as the server asks to move, or the first does not answer. */
  #successorFailed(code) {
    this.#dropSuccessor();
    const delay = reconnectDelay('backoff', this.#successorAttempt++, this.#options);
    clearTimeout(this.#successorTimer);
    this.#successorTimer = setTimeout(() => {
      if (this.#moving || this.#watchdog) this.#openSuccessor(closeAdvice(code) === 'token');
    }, delay);
  }

  #dropSuccessor() {
    const { socket, timer } = this.#successor ?? {};
    this.#successor = null;
    clearTimeout(timer);
    if (socket) release(socket, 1000);
  }

  /** The second socket becomes the one to use, and the first is left to the server, which closes it with 4409. */
  #takeOver(socket) {
    clearTimeout(this.#successor.timer);
    this.#successor = null;
    this.#forget(true);
    this.#adopt(socket);
    this.#openedAt = Date.now();
    this.#refusals = 0;
    this.#hooks.replaced();
    this.beat();
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
    const message = JSON.parse(data);
    if (message.type === 'move') this.#move(message.afterMs);
    else if (message.type === 'refreshed') this.#refresh.stop();
    else if (message.type !== 'token-expiring') this.#pass(message);
    else if (typeof this.#options.token === 'function') this.#refresh.start(message.inMs);
  }

  #pass(message) {
    const { type, code, sessionId } = message;
    if (type === 'error' && sessionId === undefined) {
      if (code === 'token-refused') this.#refresh.failed(true);
      if (code === 'unavailable') this.#refresh.failed(false);
    }
    this.#hooks.message(message);
  }

  /** The server is going away. It names another time to each client, so that not all reconnect at once. */
  #move(afterMs) {
    this.#moving = true;
    clearTimeout(this.#successorTimer);
    this.#successorTimer = setTimeout(() => this.#startSuccessor(), afterMs);
  }

  /** Gives the server `timeout` ms to say anything at all. A second socket is opened first if this is a test. */
  #watch(timeout, probing = false) {
    const due = Date.now() + timeout;
    this.#watchdog = setTimeout(() => {
      this.#watchdog = undefined;
      if (this.state === 'open' && Date.now() - due > SLEPT) {
        this.beat(true);
      } else if (probing) {
        this.#watch(Math.max(0, this.#options.ackTimeout - timeout));
        this.#startSuccessor();
      } else {
        this.#ended(1006, 'the server does not answer', this.state === 'open');
      }
    }, timeout);
  }

  #unwatch() {
    this.#watchdog = clearTimeout(this.#watchdog);
  }

  /** `silent`: the socket may still be alive at the server, so it is left open for its successor to replace. */
  #ended(code, reason, silent = false) {
    const wasOpen = this.state === 'open';
    const isOwn = code === 4409 && Date.now() - (wasOpen ? this.#successorMadeAt : this.#lostAt) < OWN_CONNECTION_LIMIT;
    const advice = isOwn ? 'reconnect' : closeAdvice(code);
    if (wasOpen) this.#lostAt = Date.now();
    const next = this.#successor?.socket;
    if (next && isOwn) {
      // The server has attached our second socket; its first message is still on the way.
      this.#takeOver(next);
      return;
    }
    if (wasOpen && Date.now() - this.#openedAt >= STABLE_AFTER) this.#attempt = 0;
    if (next && advice !== 'stop') {
      clearTimeout(this.#successor.timer);
      this.#successor = null;
      this.#forget(silent);
      this.#adopt(next);
      this.#watch(this.#options.connectTimeout);
      this.#become('reconnecting', { code, reason, retryIn: 0 });
      if (this.state === 'reconnecting') this.#become('connecting');
      return;
    }
    this.#drop(silent);
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

  /** Forgets both sockets and every timer. */
  #drop(silent = false) {
    this.#dropSuccessor();
    this.#forget(silent);
  }

  /** Forgets the first socket. A dead socket's own close may take minutes, so nothing waits for it. */
  #forget(keepOpen) {
    this.#turn += 1;
    this.#unwatch();
    this.#refresh.stop();
    this.#moving = false;
    clearTimeout(this.#successorTimer);
    this.#beatTimer = clearTimeout(this.#beatTimer);
    clearTimeout(this.#retryTimer);
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    if (keepOpen) this.#keepOpen(socket);
    else release(socket, 1000);
  }

  /** Leaves the close to the server, which may see the successor later than we do. */
  #keepOpen(socket) {
    socket.onopen = socket.onmessage = null;
    const close = () => {
      clearTimeout(timer);
      this.#replaced.delete(close);
      release(socket, 1000);
    };
    const timer = setTimeout(close, REPLACED_LIMIT);
    this.#replaced.add(close);
    socket.onclose = close;
  }

  #become(state, detail) {
    const previous = this.state;
    this.state = state;
    this.#hooks.state({ state, previous, ...detail });
  }
}

/** Closes a socket from which nothing more is wanted. */
function release(socket, code) {
  socket.onopen = socket.onmessage = socket.onclose = null;
  if (socket.readyState < 2) socket.close(code);
}

/**
 * The signals of one negotiation: numbers and keeps what is sent, so that it can be sent again, and accepts what is
 * received once and in order. A server without continuity gives no id; then only the current round is kept.
 */
class SignalLog {
  #sessionId;
  #negotiation;
  #sent = 0;
  #received = 0;
  #kept = [];
  #length = 0;
  /** The number of the last description: with the candidates since, the current round. */
  #round = 0;
  /** Too much was sent to keep it: this negotiation can no longer be continued. */
  #isFull = false;

  constructor(sessionId, negotiation) {
    this.#sessionId = sessionId;
    this.#negotiation = negotiation;
  }

  get isNumbered() {
    return this.#negotiation !== undefined;
  }

  /** What a new connection says in order to continue; undefined if it cannot. */
  get position() {
    if (!this.isNumbered || this.#isFull) return undefined;
    return `${this.#sessionId}~${this.#negotiation}~${this.#received}`;
  }

  /** Whether a message belongs to this negotiation. */
  covers({ negotiation }) {
    return negotiation === this.#negotiation;
  }

  /** The signal as it is sent. */
  add(message) {
    const signal = { ...message, sessionId: this.#sessionId };
    if (this.isNumbered) Object.assign(signal, { negotiation: this.#negotiation, seq: (this.#sent += 1) });
    else if (message.sdp !== undefined) this.#kept = [];
    if (message.sdp !== undefined) this.#round = this.#sent;
    if (this.#isFull) return signal;
    this.#kept.push(signal);
    this.#length += JSON.stringify(signal).length;
    if (this.isNumbered && (this.#kept.length > MAX_KEPT_SIGNALS || this.#length > MAX_KEPT_LENGTH)) {
      this.#isFull = true;
      this.#kept = [];
    }
    return signal;
  }

  /** The signals after `seq`, or undefined if they are no longer kept. Without numbers: the current round. */
  after(seq) {
    if (!this.isNumbered) return this.#kept;
    if (this.#isFull && seq < this.#sent) return undefined;
    return this.#kept.filter((signal) => signal.seq > seq);
  }

  /** The signals of the current round. */
  get round() {
    return this.after(this.#round - 1) ?? [];
  }

  /** Whether a signal of the partner is the next one. Any other is a repetition or of another negotiation. */
  accept({ negotiation, seq }) {
    if (negotiation !== this.#negotiation) return false;
    if (!this.isNumbered) return true;
    if (seq !== this.#received + 1) return false;
    this.#received = seq;
    return true;
  }
}

/**
 * One peer connection and its negotiation: perfect negotiation (W3C WebRTC 1.0, section 10.7), with the responder as
 * the polite side. While `isLive` is false (partner or server are away) signals are kept and not sent.
 */
class Peer {
  isLive = true;
  #session;
  #options;
  #hooks;
  #log;
  #closed = false;
  /** Whether the application hears of this peer connection; while it does not, its tracks are collected. */
  #isShown = false;
  #tracks = [];
  /** The server refuses a responder's offer until the initiator's first one has passed. */
  #mayOffer;
  #makingOffer = false;
  /** The last offer lost a collision, so its candidates fit nothing here. */
  #ignoring = false;
  #early = [];
  /** Messages are applied one after another, so that no check is outrun by the next message. */
  #inbox = Promise.resolve();
  /** How far the partner has our signals, as the server said last. */
  #confirmed = 0;
  #repeats = 0;
  #repeatTimer;
  #disconnectedAt = 0;
  #disconnectedTimer;
  #recoveries = 0;
  #recoveryTimer;

  constructor(session, negotiation, options, hooks) {
    this.#session = session;
    this.#options = options;
    this.#hooks = hooks;
    this.#log = new SignalLog(session.id, negotiation);
    this.#mayOffer = session.isInitiator;
    const pc = new RTCPeerConnection(this.#configuration());
    pc.onnegotiationneeded = () => this.#offer();
    pc.onicecandidate = ({ candidate }) => this.#signal({ type: 'ice-candidate', candidate });
    pc.onconnectionstatechange = () => this.#connectionChanged();
    pc.ontrack = ({ track, streams, receiver, transceiver }) => this.#track({ track, streams, receiver, transceiver });
    this.connection = pc;
  }

  /** What a new connection to the server says in order to continue; undefined if it cannot. */
  get position() {
    return this.#log.position;
  }

  /** Whether signals are numbered, so that a new connection can continue. */
  get isContinuable() {
    return this.#log.isNumbered;
  }

  /** Whether media may flow, now or again without any signaling. */
  get carriesMedia() {
    return ['connected', 'disconnected'].includes(this.connection.connectionState);
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
    if (!this.#log.accept(message)) return;
    this.#inbox = this.#inbox
      .then(() => this.#apply(message))
      .catch((cause) => this.#failed(message.type, cause));
  }

  /** Whether a message belongs to this negotiation. */
  covers(message) {
    return this.#log.covers(message);
  }

  /** The partner has our signals up to `seq`: sends the later ones again. False if they are no longer kept. */
  received(seq) {
    const later = this.#log.after(seq);
    if (!later) return false;
    const isNews = !this.isLive || seq !== this.#confirmed;
    this.#confirmed = seq;
    this.isLive = true;
    if (isNews) this.#repeats = 0;
    // If sending them at once did not help, or they are still on the way: no faster than with backoff.
    if (later.length > 0 && this.#repeats > 0) this.#repeatLater(0, () => this.#log.after(seq) ?? []);
    else if (later.length > 0) this.#repeat(later);
    if (isNews) this.#checkConnection();
    return true;
  }

  /** The server refused something of ours; its error does not say which message. */
  refused(code) {
    if (code === 'not-initiator') this.#mayOffer = false;
    if (code === 'unavailable') this.#repeatLater(0, () => this.#log.round);
    if (code === 'rate-limited') this.#repeatLater(1, () => this.#log.round);
  }

  /** The partner or the server is away. Media may still flow, so the peer connection stays. */
  pause() {
    this.isLive = false;
    this.#repeatTimer = clearTimeout(this.#repeatTimer);
    this.#recoveryTimer = clearTimeout(this.#recoveryTimer);
    clearTimeout(this.#disconnectedTimer);
  }

  /** Another negotiation has begun: only the media of this one is still wanted. */
  retire() {
    this.pause();
    const pc = this.connection;
    pc.onnegotiationneeded = pc.onicecandidate = pc.ontrack = null;
  }

  /** From now on the application hears of this peer connection. */
  show() {
    const { connectionState } = this.connection;
    this.#isShown = true;
    if (connectionState !== 'new') this.#hooks.emit('connectionstate', { session: this.#session, connectionState });
    for (const track of this.#tracks.splice(0)) this.#track(track);
  }

  /** Resolves when a picture of the partner was decoded, if video is expected, or after a limit. */
  async firstPicture() {
    const pc = this.connection;
    const deadline = Date.now() + FIRST_PICTURE_LIMIT;
    while (!this.#closed && Date.now() < deadline) {
      if (!pc.getReceivers().some(({ track }) => track.kind === 'video')) return;
      const report = await pc.getStats();
      for (const { type, kind, framesDecoded } of report.values()) {
        if (type === 'inbound-rtp' && kind === 'video' && framesDecoded > 0) return;
      }
      await new Promise((resolve) => setTimeout(resolve, PICTURE_POLL));
    }
  }

  close() {
    this.#closed = true;
    this.pause();
    const pc = this.connection;
    pc.onnegotiationneeded = pc.onicecandidate = pc.onconnectionstatechange = pc.ontrack = null;
    pc.close();
  }

  #track(detail) {
    if (this.#isShown) this.#hooks.emit('track', { session: this.#session, ...detail });
    else this.#tracks.push(detail);
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
    if (type !== 'offer' || this.#closed) return;
    await this.#describe();
    // The partner's offer may have restarted ICE, so that this side does not have to.
    this.#recoveryTimer = clearTimeout(this.#recoveryTimer);
    this.#checkConnection();
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
    this.#repeats = 0;
    this.#signal({ type, sdp });
  }

  #signal(message) {
    // Without numbers nothing can be sent later: the next match starts over.
    if (!this.isLive && !this.#log.isNumbered) return;
    const signal = this.#log.add(message);
    if (this.isLive) this.#hooks.send(signal);
  }

  #repeatLater(attempt, signals) {
    if (this.#repeatTimer || !this.isLive) return;
    const delay = reconnectDelay('backoff', attempt + this.#repeats, this.#options);
    this.#repeatTimer = setTimeout(() => this.#repeat(signals()), delay);
  }

  #repeat(signals) {
    this.#repeatTimer = clearTimeout(this.#repeatTimer);
    this.#repeats += 1;
    // Without numbers the partner would answer the offer once more.
    const answered = !this.#log.isNumbered && this.connection.signalingState === 'stable';
    for (const signal of signals) if (!answered || signal.type !== 'offer') this.#hooks.send(signal);
  }

  #connectionChanged() {
    const { connectionState } = this.connection;
    clearTimeout(this.#disconnectedTimer);
    if (connectionState === 'disconnected') this.#disconnectedAt = Date.now();
    if (connectionState === 'connected') this.#recoveries = 0;
    if (!['failed', 'disconnected'].includes(connectionState)) this.#recoveryTimer = clearTimeout(this.#recoveryTimer);
    this.#checkConnection();
    if (this.#isShown) this.#hooks.emit('connectionstate', { session: this.#session, connectionState });
    this.#hooks.connectionChanged(this, connectionState);
  }

  /** Restarts ICE if it failed or has been disconnected for some time. Runs again when server and partner are back. */
  #checkConnection() {
    const { connectionState } = this.connection;
    if (connectionState === 'failed') this.#recover();
    if (connectionState !== 'disconnected') return;
    clearTimeout(this.#disconnectedTimer);
    const left = Math.max(0, this.#disconnectedAt + DISCONNECTED_LIMIT - Date.now());
    this.#disconnectedTimer = setTimeout(() => this.#recover(), left);
  }

  /** A fresh offer with an ICE restart: at once for the first failure in a row, then with backoff. */
  #recover() {
    if (!this.#mayOffer || this.#recoveryTimer || !this.isLive) return;
    const failures = this.#recoveries;
    const delay = failures === 0 ? 0 : reconnectDelay('backoff', failures - 1, this.#options);
    const grace = this.#session.isInitiator ? 0 : RESPONDER_GRACE;
    this.#recoveryTimer = setTimeout(() => this.#restartIce(), delay + grace);
  }

  async #restartIce() {
    this.#recoveryTimer = undefined;
    this.#recoveries += 1;
    const pc = this.connection;
    try {
      // An offer without a number may be lost. A numbered one arrives, and the restart follows its answer.
      const lost = !this.#log.isNumbered && pc.signalingState === 'have-local-offer';
      if (lost) await pc.setLocalDescription({ type: 'rollback' });
      pc.restartIce();
    } catch (cause) {
      this.#failed('ICE restart', cause);
    }
  }

  #failed(what, cause) {
    if (this.#closed) return;
    const sessionId = this.#session.id;
    this.#hooks.emit('error', { code: 'negotiation-failed', message: `could not apply: ${what}`, sessionId, cause });
    // An answer that does not fit belongs to an older offer; only a new round gets out of that.
    if (what === 'answer') this.#recover();
  }
}

/** One call with one partner. Its peer connection is replaced only when a new negotiation has connected another. */
class Session {
  partnerId;
  isInitiator;
  iceServers;
  state = null;
  partnerReason;
  /** The peer connection that is negotiated now. */
  peer = null;
  /** The one that the application uses: the same, or that of the negotiation before until `peer` is connected. */
  #shown = null;
  #lingering = null;
  #options;
  #hooks;
  #unknownSince;
  #unknownTimer;
  #abandonTimer;
  #swapTimer;
  #lingerTimer;

  constructor(id, options, hooks) {
    this.id = id;
    this.#options = options;
    this.#hooks = { ...hooks, connectionChanged: (peer, state) => this.#connectionChanged(peer, state) };
  }

  get peerConnection() {
    return this.#shown?.connection ?? null;
  }

  /** A match, first or repeated: a new negotiation with a new peer connection. */
  begin({ partnerId, isInitiator, iceServers, negotiation }, stream) {
    const previous = this.state;
    this.#known();
    clearTimeout(this.#abandonTimer);
    clearTimeout(this.#swapTimer);
    Object.assign(this, { partnerId, isInitiator, iceServers, state: 'active', partnerReason: undefined });
    const before = this.peer;
    const peer = (this.peer = new Peer(this, negotiation, this.#options, this.#hooks));
    if (before !== this.#shown) before.close();
    if (this.#shown?.carriesMedia) {
      this.#shown.retire();
      this.#swapTimer = setTimeout(() => this.#swap(peer), SWAP_LIMIT);
    } else {
      this.#shown?.close();
      this.#shown = peer;
      peer.show();
    }
    this.#hooks.emit('peerconnection', { session: this, peerConnection: peer.connection });
    if (this.peer !== peer) return;
    peer.useStream(stream);
    this.#changed(previous);
  }

  /** The negotiation goes on, with the peer connection that there is. */
  resume(partnerConnected) {
    this.#known();
    if (!partnerConnected) {
      this.pause('partner-away');
      return;
    }
    const previous = this.state;
    clearTimeout(this.#abandonTimer);
    Object.assign(this, { state: 'active', partnerReason: undefined });
    this.#changed(previous);
  }

  useStream(stream) {
    this.peer?.useStream(stream);
    if (this.#shown !== this.peer) this.#shown?.useStream(stream);
  }

  /** The server names other ICE servers: those of before are about to expire, or there were none. */
  useIceServers(iceServers) {
    this.iceServers = iceServers;
    this.peer?.configure();
  }

  /** Partner or server are away (`partner-away`, `offline`). */
  pause(state, reason = this.partnerReason) {
    const previous = this.state;
    this.peer?.pause();
    if (state === 'offline') this.#known();
    clearTimeout(this.#abandonTimer);
    Object.assign(this, { state, partnerReason: reason });
    if (state === 'partner-away') {
      this.#abandonTimer = setTimeout(() => this.#hooks.abandoned(this), this.#options.abandonAfter);
    }
    this.#changed(previous);
  }

  /** On a new connection: asks until the server says how the session goes on, or that it does not know it. */
  awaitAnswer() {
    this.#unknownSince ??= Date.now();
    clearTimeout(this.#unknownTimer);
    this.#unknownTimer = setTimeout(() => {
      this.#hooks.ask();
      this.awaitAnswer();
    }, UNKNOWN_POLL);
  }

  /** The server does not know the session. Whether it may still come to know it; then it is asked again. */
  mayReturn() {
    if (['left', 'ended'].includes(this.partnerReason) || !this.#shown?.carriesMedia) return false;
    this.awaitAnswer();
    return Date.now() - this.#unknownSince < UNKNOWN_LIMIT;
  }

  #known() {
    this.#unknownSince = undefined;
    clearTimeout(this.#unknownTimer);
  }

  end() {
    const previous = this.state;
    this.#known();
    for (const timer of [this.#abandonTimer, this.#swapTimer, this.#lingerTimer]) clearTimeout(timer);
    for (const peer of new Set([this.peer, this.#shown, this.#lingering])) peer?.close();
    this.peer = this.#shown = this.#lingering = null;
    this.state = 'ended';
    this.#changed(previous);
  }

  async #connectionChanged(peer, connectionState) {
    if (this.#shown === this.peer) return;
    const next = this.peer;
    if (peer === this.#shown && !peer.carriesMedia) this.#swap(next);
    if (peer !== next || connectionState !== 'connected') return;
    await peer.firstPicture().catch(() => {});
    this.#swap(peer);
  }

  /** The application's peer connection becomes that of the current negotiation. */
  #swap(peer) {
    if (this.peer !== peer || this.#shown === peer) return;
    clearTimeout(this.#swapTimer);
    this.#linger(this.#shown);
    this.#shown = peer;
    peer.show();
  }

  #linger(peer) {
    clearTimeout(this.#lingerTimer);
    this.#lingering?.close();
    this.#lingering = peer;
    peer.connection.onconnectionstatechange = null;
    this.#lingerTimer = setTimeout(() => peer.close(), LINGER);
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
    ask: () => this.#link.beat(),
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
      positions: () => this.#positions(),
      replaced: () => this.#connectionReplaced(),
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
    this.#listening.abort();
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    const listen = (type, heard) => globalThis.addEventListener?.(type, heard, { signal });
    listen('online', () => this.#link.networkChanged());
    listen('offline', () => this.#link.probe());
    listen('pageshow', () => this.#link.wake());
    // A page that was hidden just now has nothing to check.
    listen('visibilitychange', () => globalThis.document?.visibilityState !== 'hidden' && this.#link.wake());
    // Where the browser knows it, the type tells another network; the other fields are estimates that always change.
    const network = globalThis.navigator?.connection;
    let { type } = network ?? {};
    const changed = () => type !== network.type && this.#link.networkChanged((type = network.type));
    network?.addEventListener?.('change', changed, { signal });
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
    for (const session of this.#sessions.values()) session.useStream(stream);
  }

  #receive(message) {
    const session = this.#sessions.get(message.sessionId);
    if (message.type === 'match-found') this.#matched(message);
    else if (message.type === 'ice-servers') session?.useIceServers(message.iceServers);
    else if (message.type === 'error') this.#refused(message, session);
    else if (message.type === 'heartbeat-ack') this.#acknowledged = message.id;
    else if (message.type === 'partner-disconnected') this.#partnerAway(session, message.reason);
    else if (['offer', 'answer', 'ice-candidate'].includes(message.type)) session?.peer?.receive(message);
    else if (session?.peer?.covers(message)) this.#continued(message, session);
  }

  /** What the server says about a negotiation that goes on. */
  #continued({ type, partnerConnected, seq }, session) {
    if (type === 'continued') {
      session.resume(partnerConnected);
      this.#emit('continued', { session, partnerConnected });
    } else if (type === 'partner-reconnected') {
      session.resume(true);
      this.#emit('partner-reconnected', { session });
    } else if (type === 'received' && !session.peer.received(seq)) {
      // What the partner lacks is no longer kept. A connection that does not continue brings a new negotiation.
      this.#link.replace();
    }
  }

  /** The negotiations that a new connection continues. */
  #positions() {
    const positions = [...this.#sessions.values()].map(({ peer }) => peer?.position);
    return positions.filter((position) => position !== undefined).slice(0, MAX_CONTINUED);
  }

  /** The connection is another one. Whether each session continues on it comes next. */
  #connectionReplaced() {
    for (const session of this.#sessions.values()) {
      session.peer?.pause();
      session.awaitAnswer();
    }
    this.#leaving.forEach((_, id) => this.#sayLeave(id));
  }

  #partnerAway(session, reason) {
    if (!session) return;
    session.pause('partner-away', reason);
    this.#emit('partner-disconnected', { session, reason });
    // A heartbeat that names an ended session is answered `unknown-session`: gone for good, or only away?
    this.#link.beat();
  }

  #matched({ sessionId, ...match }) {
    // What the server said before it read our `leave` is void; afterwards the same id is a new session.
    if (this.#leaving.get(sessionId)?.beat > this.#acknowledged) return;
    this.#left(sessionId);
    const again = this.#sessions.has(sessionId);
    const session = this.#sessions.get(sessionId) ?? new Session(sessionId, this.#options, this.#sessionHooks);
    this.#sessions.set(sessionId, session);
    try {
      session.begin(match, this.#stream);
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
      if (!session.mayReturn()) this.#end(session, 'gone');
    } else {
      if (code === 'partner-absent') session?.pause('partner-away');
      // What was refused is kept and sent again when the partner is back.
      if (code === 'partner-absent' && session?.peer?.isContinuable) return;
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
    if (detail.state === 'open') {
      // A `leave` on a connection that broke may not have reached the server.
      this.#leaving.forEach((_, id) => this.#sayLeave(id));
      this.#sessions.forEach((session) => session.awaitAnswer());
    }
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
