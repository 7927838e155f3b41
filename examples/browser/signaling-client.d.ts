/** Options of {@link SignalingClient}. Every time is in milliseconds. */
export interface SignalingClientOptions {
  /**
   * The endpoint, e.g. `wss://example.com/ws/signaling`. Relative and `http(s)` addresses work too. The server must
   * select the subprotocol `signaling.v1`, as this project's servers do: a browser breaks a connection otherwise.
   */
  url: string | URL;
  /**
   * The JWT, or a function that returns it. The function is asked before every connection. `refused` says that the
   * last token could not be used (4401, `token-refused`, or it fits into no WebSocket). `expiring` says that the token
   * of the open connection expires soon: the new one replaces it there. In both cases a cached token must be replaced.
   * A function that throws, returns no text or takes longer than `connectTimeout` is asked again. With a string, 4401
   * stops the client.
   */
  token: string | ((context: { refused: boolean; expiring: boolean }) => string | Promise<string>);
  /** Shorthand for `rtcConfiguration.iceServers`. Where the signaling server names ICE servers, these are not used. */
  iceServers?: RTCIceServer[];
  /** Configuration of every peer connection. */
  rtcConfiguration?: RTCConfiguration;
  /**
   * How the token travels: `query` as `?token=`, `subprotocol` as `Sec-WebSocket-Protocol: signaling.v1, bearer.<jwt>`,
   * which keeps it out of access logs. Default `query`.
   */
  auth?: 'query' | 'subprotocol';
  /** From the answer to a heartbeat to the next one. Default 10,000; the server gives up after 30,000 without one. */
  heartbeatInterval?: number;
  /**
   * From a heartbeat until a server that has said nothing counts as dead. Default 10,000. After a wake-up of the page a
   * second connection is opened after 3,000 already.
   */
  ackTimeout?: number;
  /** For the token function, and then again until the server's first message. Default 10,000. */
  connectTimeout?: number;
  /** Upper end of the first reconnect delay; doubles with every failure in a row. Default 1,000. */
  backoffBase?: number;
  /** The most that delay grows to. Default 15,000, so that several attempts fit into a session's 60 s. */
  backoffMax?: number;
  /** Clients of a server that goes away (1001) spread over at least this. Default 3,000. */
  goingAwayJitter?: number;
  /** How long the server keeps a session whose partner is away. Default 60,000, the server's default. */
  abandonAfter?: number;
}

/**
 * - `idle`: `connect` has not been called
 * - `connecting`: until the server's first message, which proves that it accepted the token
 * - `open`: usable
 * - `reconnecting`: waiting for the next attempt
 * - `closed`: stopped for good; `connect` starts anew
 */
export type ClientState = 'idle' | 'connecting' | 'open' | 'reconnecting' | 'closed';

/**
 * The state of the signaling. It says nothing about the media, which `peerConnection.connectionState` tells.
 * - `active`: both are there
 * - `partner-away`: the partner's connection ended; `partner-reconnected`, `match` or `ended` follows
 * - `offline`: our own connection ended; `continued`, `match` or `ended` follows
 * - `ended`: over
 */
export type SessionState = 'active' | 'partner-away' | 'offline' | 'ended';

/**
 * One call with one partner. The object stays the same while its fields change: render at each `sessionstate`,
 * `peerconnection`, `connectionstate` and `partner-disconnected`, from a copy if your framework compares objects.
 */
export interface Session {
  readonly id: string;
  readonly partnerId: string;
  /** The initiator offers first and wins a collision of offers. */
  readonly isInitiator: boolean;
  readonly state: SessionState;
  /** Why the partner is away, from `partner-disconnected` until it is back; it stays when the session ends. */
  readonly partnerReason: PartnerReason | undefined;
  /**
   * The one whose media is in use; `null` once the session has ended. It stays the same over every reconnect that
   * continues. After a repeated `match` it changes once: when the new one is connected and shows a picture, when the
   * old one has failed, or after 15 s.
   */
  readonly peerConnection: RTCPeerConnection | null;
}

/**
 * Error codes of the server, and three of this module.
 * - `connect-failed`: there is no token, which is asked for again; or no WebSocket can be made, and `closed` follows
 * - `refresh-failed`: there is no new token for the open connection; it is asked for again as long as the old one holds
 * - `negotiation-failed`: a description or candidate could not be applied; or no peer connection can be made, and `ended`
 *   follows
 */
export type ErrorCode =
  | 'malformed'
  | 'unknown-session'
  | 'not-initiator'
  | 'partner-absent'
  | 'too-large'
  | 'rate-limited'
  | 'unavailable'
  | 'token-refused'
  | 'connect-failed'
  | 'refresh-failed'
  | 'negotiation-failed';

/**
 * Why the partner is gone.
 * - `left`: it hung up, or closed its page or client
 * - `lost`: its connection broke, or its server went away
 * - `timeout`: nothing came from it any more, or it stayed away
 * - `replaced`: it is there on a newer connection
 * - `ended`: the server's host ended the session or disconnected the partner
 */
export type PartnerReason = 'left' | 'lost' | 'timeout' | 'replaced' | 'ended';

/** Event names and the `detail` of each `CustomEvent`. */
export interface SignalingClientEvents {
  /** `code` and `reason` say why a connection ended; `retryIn` (ms) when the next attempt starts. */
  state: { state: ClientState; previous: ClientState; code?: number; reason?: string; retryIn?: number };
  /**
   * A session's state changed; `previous` is `null` at its first match. Comes after `peerconnection` and before `match`,
   * `partner-disconnected` and `ended`.
   */
  sessionstate: { session: Session; state: SessionState; previous: SessionState | null };
  /** Matched. `again`: a new negotiation begins in a known session; its peer connection is not in use yet. */
  match: { session: Session; again: boolean };
  /**
   * A peer connection was made, before local tracks are added: the place for data channels and transceivers. After a
   * repeated match `session.peerConnection` is still the old one then. It stays open for 2 s after it was replaced.
   */
  peerconnection: { session: Session; peerConnection: RTCPeerConnection };
  /** The partner's media; as in `RTCTrackEvent`. From a replacing peer connection it comes when that is in use. */
  track: {
    session: Session;
    track: MediaStreamTrack;
    streams: readonly MediaStream[];
    receiver: RTCRtpReceiver;
    transceiver: RTCRtpTransceiver;
  };
  /**
   * As in `RTCPeerConnection.connectionState`, of `session.peerConnection`. An ICE restart follows by itself after
   * `failed` and after 3 s of `disconnected`, as soon as the server and the partner are there.
   */
  connectionstate: { session: Session; connectionState: RTCPeerConnectionState };
  /**
   * Our new connection to the server continues the negotiation: the peer connection, its media and its data channels
   * stay. It comes for every session after a reconnect, and when a connection was replaced in advance.
   */
  continued: { session: Session; partnerConnected: boolean };
  /** The partner is back, and the negotiation continues. */
  'partner-reconnected': { session: Session };
  /**
   * The partner left or lost its connection. Its media may still flow. `partner-reconnected`, `match` or `ended`
   * follows, whatever the reason.
   */
  'partner-disconnected': { session: Session; reason: PartnerReason };
  /**
   * The session has ended. `left`: this client left. `gone`: the server does not know it (if media flows, for 10 s
   * already); the partner hung up only if `session.partnerReason` is `left`. `abandoned`: the partner stayed away. `closed`: this client stopped.
   * `failed`: no peer connection can be made here.
   */
  ended: { session: Session; reason: 'left' | 'gone' | 'abandoned' | 'closed' | 'failed' };
  /** Something was refused or failed; what can be retried is retried. `cause` is what was thrown, if anything. */
  error: { code: ErrorCode; message: string; sessionId?: string; cause?: unknown };
  /**
   * The client stopped: by `close` (`local`), because the server's close code advises it, or with 1006 because no
   * WebSocket can be made (the browser has none, a bad address or token, mixed content).
   */
  closed: { state: 'closed'; previous: ClientState; code: number; reason: string; local: boolean };
}

/**
 * Connects to a signaling server, stays connected, and turns every match into a {@link Session}.
 *
 * @example
 * const client = new SignalingClient({ url: '/ws/signaling', token: fetchToken });
 * client.addEventListener('track', ({ detail }) => (video.srcObject = detail.streams[0]));
 * client.setLocalStream(await navigator.mediaDevices.getUserMedia({ audio: true, video: true }));
 * client.connect();
 */
export class SignalingClient extends EventTarget {
  /** @throws {TypeError} when `url` is no address, or `token` is neither a function nor a text. */
  constructor(options: SignalingClientOptions);

  readonly state: ClientState;
  /** A snapshot of the open sessions, by id. */
  readonly sessions: ReadonlyMap<string, Session>;

  /** Connects, and stays connected until `close` or a close code that says stop. May be called again then. */
  connect(): void;
  /** Disconnects. Sessions that were not left can be resumed, by any client of the same user, within the server's 60 s. */
  close(): void;
  /** Hangs up one session, or all of them. If the connection is down, the server is told when it is back. */
  leave(sessionId?: string): void;
  /** What to send in every session, now and later: one track of each kind. `null` sends nothing. */
  setLocalStream(stream: MediaStream | null): void;

  addEventListener<K extends keyof SignalingClientEvents>(
    type: K,
    listener: (event: CustomEvent<SignalingClientEvents[K]>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof SignalingClientEvents>(
    type: K,
    listener: (event: CustomEvent<SignalingClientEvents[K]>) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/** What a close code advises; codes that the protocol does not name count as `backoff`. */
export type CloseAdvice = 'stop' | 'jitter' | 'reconnect' | 'backoff' | 'token';

/** What to do after a close with this code. */
export function closeAdvice(code: number): CloseAdvice;

/**
 * Milliseconds to wait before the next connection. `attempt` counts the failures in a row before this one;
 * `random` returns a number from 0 up to but not including 1.
 */
export function reconnectDelay(
  advice: Exclude<CloseAdvice, 'stop'>,
  attempt: number,
  limits?: Required<Pick<SignalingClientOptions, 'backoffBase' | 'backoffMax' | 'goingAwayJitter'>>,
  random?: () => number,
): number;
