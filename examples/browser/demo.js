// The demonstration page: a name, a partner, a call. Everything about signaling is in signaling-client.js.

import { SignalingClient } from './signaling-client.js';

/** Milliseconds that a reloaded page waits for its call before it says that the call is over. */
const RESUME_LIMIT = 8_000;
/** Milliseconds until the next try when the queue could not be asked. */
const QUEUE_RETRY = 2_000;
/** Milliseconds that the server has to answer a request. */
const REQUEST_LIMIT = 10_000;

const $ = (id) => document.getElementById(id);
const [app, link, status, remote, local, partner, join, nameField] = [
  'app', 'link', 'status', 'remote', 'local', 'partner', 'join', 'name',
].map($);

/**
 * What a reload keeps: who we are (the `key` gives the same user on every server), and whether we were `idle`,
 * `searching` or in a `call`.
 */
const memory = {
  read: (key) => sessionStorage.getItem(`demo-${key}`),
  write: (values) => Object.entries(values).forEach(([key, value]) => sessionStorage.setItem(`demo-${key}`, value)),
};

let phase = 'idle';
let session = null;
/** The latest request to the queue. It must be answered before the queue is asked to forget us. */
let queueing = null;
let camera = null;
/** Counts what the user asked for, so that the answer to an older wish is ignored. */
let wish = 0;
let resumeTimer;

const client = new SignalingClient({ url: '/ws/signaling', token: ({ refused, expiring }) => myToken(refused || expiring) });

// Talking to the demonstration's routes

async function request(method, path, { body, token } = {}) {
  const headers = new Headers();
  if (body) headers.set('Content-Type', 'application/json');
  if (token) headers.set('Authorization', `Bearer ${token}`);
  const signal = AbortSignal.timeout(REQUEST_LIMIT);
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  throw Object.assign(new Error(answer?.error?.message ?? `status ${response.status}`), { status: response.status });
}

/** The user's token; a new one for the same user if there is none or the server needs another. */
async function myToken(isSpent) {
  if (isSpent || !memory.read('token')) {
    if (!memory.read('key')) memory.write({ key: crypto.randomUUID() });
    const body = { name: memory.read('name'), key: memory.read('key') };
    const { token, userId } = await request('POST', '/demo/token', { body });
    const known = memory.read('userId') === userId;
    memory.write({ token, userId });
    if (!known) await claim(userId);
  }
  return memory.read('token');
}

/** Whether this tab alone is the user. A duplicated tab inherits the storage, but must not take over the call. */
function claim(userId) {
  if (!navigator.locks) return true;
  return new Promise((resolve) => {
    const held = () => {
      resolve(true);
      return new Promise(() => {});
    };
    navigator.locks.request(`demo-${userId}`, { signal: AbortSignal.timeout(1_000) }, held).catch(() => resolve(false));
  });
}

async function enqueue() {
  const mine = wish;
  try {
    const token = await myToken(false);
    if (mine !== wish) return;
    await (queueing = request('POST', '/demo/queue', { token }));
  } catch (error) {
    if (mine !== wish || phase !== 'searching') return;
    if (error.status === 401) memory.write({ token: '' });
    show('searching', `The queue does not answer (${error.message}). Trying again…`);
    setTimeout(() => mine === wish && phase === 'searching' && client.state === 'open' && enqueue(), QUEUE_RETRY);
  }
}

// What the user sees

const ACTIONS = {
  idle: [],
  starting: ['cancel'],
  searching: ['cancel'],
  connecting: ['next', 'hangup'],
  connected: ['next', 'hangup'],
  'partner-away': ['next', 'hangup'],
};

function show(state, text) {
  const focused = document.activeElement;
  app.dataset.state = state;
  status.textContent = text;
  join.hidden = state !== 'idle';
  partner.hidden = !session;
  partner.textContent = session?.partnerId ?? '';
  for (const id of ['cancel', 'next', 'hangup']) $(id).hidden = !ACTIONS[state].includes(id);
  // Whoever works by keyboard goes on where the control that vanished has its successor.
  if (focused?.matches('button, input') && !focused.checkVisibility()) {
    (state === 'idle' ? join.querySelector('button') : $(ACTIONS[state].at(-1))).focus();
  }
}

/** Texts for a partner that is away. `left` may be a page that is reloaded; only an ended session shows a hang-up. */
const AWAY = {
  left: 'closed its connection to the server',
  lost: 'lost its connection to the server',
  timeout: 'lost its connection to the server',
  replaced: 'connects from elsewhere',
};
const away = ({ partnerId, partnerReason }) => `${partnerId} ${AWAY[partnerReason] ?? 'is away'}`;

/** Shows the call: the state of the session in the text, the state of the media in the picture. */
function showCall() {
  const { partnerId, state, peerConnection } = session;
  const media = peerConnection.connectionState;
  remote.dataset.connection = media;
  if (state === 'partner-away') show('partner-away', `${away(session)}. Waiting up to a minute for them to come back…`);
  else if (media === 'connected') show('connected', `You are talking with ${partnerId}.`);
  else if (media === 'disconnected') show('connecting', `The connection to ${partnerId} is unstable…`);
  else if (media === 'failed') show('connecting', `The connection to ${partnerId} failed. Trying again…`);
  else show('connecting', `Connecting to ${partnerId}…`);
}

/** Why the call has ended. The partner left only if the server said so. */
function ending({ partnerId, partnerReason }, reason) {
  if (reason === 'abandoned') return `${away(session)} and did not come back.`;
  if (partnerReason === 'left') return `${partnerId} left the call.`;
  if (partnerReason === 'ended') return 'The call was ended.';
  return partnerReason ? `${away(session)} and did not come back.` : 'The server no longer knows this call.';
}

const LINK_TEXTS = {
  idle: () => 'Not connected',
  connecting: () => 'Connecting to the server…',
  open: () => 'Server connected',
  reconnecting: ({ retryIn }) => `Server lost, next try in ${Math.ceil(retryIn / 1000)} s`,
  closed: () => 'Not connected',
};

async function play() {
  $('unmute').hidden = true;
  try {
    await remote.play();
  } catch (error) {
    // After a reload browsers play sound only once the user has touched the page.
    if (error.name !== 'NotAllowedError') return;
    remote.muted = true;
    $('unmute').hidden = false;
    await remote.play().catch(() => {});
  }
}

// What the user does

function enter(next) {
  phase = next;
  wish += 1;
  clearTimeout(resumeTimer);
  memory.write({ phase });
  return wish;
}

function stop(text) {
  const mine = enter('idle');
  session = null;
  camera?.getTracks().forEach((track) => track.stop());
  camera = null;
  client.setLocalStream(null);
  local.srcObject = remote.srcObject = null;
  remote.dataset.connection = 'none';
  $('unmute').hidden = true;
  show('idle', text);
  return mine;
}

/** Turns on camera and microphone; without them one can still see and hear. */
async function turnOn(mine) {
  if (camera) return;
  let stream = null;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
  } catch {
    stream = await navigator.mediaDevices?.getUserMedia({ audio: true }).catch(() => null);
  }
  if (mine !== wish) {
    stream?.getTracks().forEach((track) => track.stop());
    return;
  }
  camera = stream ?? null;
  local.srcObject = camera;
  local.hidden = !camera;
  client.setLocalStream(camera);
}

async function search() {
  const mine = enter('searching');
  session = null;
  remote.srcObject = null;
  remote.dataset.connection = 'none';
  if (!camera) show('starting', 'Please allow the camera and the microphone.');
  await turnOn(mine);
  if (mine !== wish) return;
  show('searching', camera ? 'Looking for a partner…' : 'Looking for a partner… Without a camera you only watch.');
  if (client.state === 'open') enqueue();
  else client.connect();
}

async function resume() {
  const mine = enter('call');
  show('starting', 'Coming back to your call…');
  await turnOn(mine);
  if (mine !== wish) return;
  const giveUp = () => stop(client.state === 'open' ? 'The call is over.' : 'The server does not answer.');
  resumeTimer = setTimeout(giveUp, RESUME_LIMIT);
  client.connect();
}

join.addEventListener('submit', (event) => {
  event.preventDefault();
  const name = nameField.value.trim();
  if (!name) return;
  // Another name is another user, and another user needs another connection.
  if (name !== memory.read('name')) {
    memory.write({ name, token: '', key: '' });
    client.close();
  }
  search();
});

$('cancel').addEventListener('click', async () => {
  const token = memory.read('token');
  const mine = stop('Stopped searching.');
  // A request that is still under way may reach the server after this one.
  await queueing?.catch(() => {});
  if (token && mine === wish) request('DELETE', '/demo/queue', { token }).catch(() => {});
});

$('next').addEventListener('click', () => {
  client.leave();
  search();
});

$('hangup').addEventListener('click', () => {
  client.leave();
  stop('You hung up.');
});

$('unmute').addEventListener('click', () => {
  remote.muted = false;
  play();
});

// What the server and the partner do

client.addEventListener('state', ({ detail }) => {
  link.dataset.state = detail.state;
  link.textContent = LINK_TEXTS[detail.state](detail);
  // The server forgets who waits when the connection ends. A match that is already there comes first.
  if (detail.state === 'open') queueMicrotask(() => phase === 'searching' && enqueue());
});

client.addEventListener('match', ({ detail }) => {
  if (phase === 'idle') {
    client.leave(detail.session.id);
    return;
  }
  if (session && session.id !== detail.session.id) client.leave(session.id);
  enter('call');
  session = detail.session;
  showCall();
});

client.addEventListener('peerconnection', ({ detail }) => {
  if (camera || !detail.session.isInitiator) return;
  for (const kind of ['audio', 'video']) detail.peerConnection.addTransceiver(kind, { direction: 'recvonly' });
});

client.addEventListener('track', ({ detail }) => {
  if (remote.srcObject === detail.streams[0]) return;
  remote.srcObject = detail.streams[0];
  play();
});

for (const type of ['connectionstate', 'sessionstate', 'partner-disconnected']) {
  client.addEventListener(type, ({ detail }) => {
    if (detail.session === session && session.state !== 'ended') showCall();
  });
}

client.addEventListener('ended', ({ detail }) => {
  if (detail.reason === 'failed') stop('This browser cannot make a peer connection.');
  if (detail.session !== session || phase !== 'call' || detail.reason === 'left' || detail.reason === 'closed') return;
  stop(ending(session, detail.reason));
});

client.addEventListener('closed', ({ detail }) => {
  if (detail.local || phase === 'idle') return;
  // The server may close the connection of a call that was left; who searches already needs a new one.
  if (detail.code === 1000 && phase === 'searching') client.connect();
  else if (detail.code === 1000) stop('The call is over.');
  else if (detail.code === 1006) stop(`There is no way to the server: ${detail.reason}.`);
  else if (detail.code === 4409) stop('You are connected in another window.');
  else stop(`The server closed the connection: ${detail.reason || detail.code}.`);
});

client.addEventListener('error', ({ detail }) => console.warn(detail.code, detail.message, detail.cause ?? ''));

/** For the console and the tests: the client, and how many pictures of the partner were decoded so far. */
window.demo = {
  client,
  async framesDecoded() {
    const report = [...((await session?.peerConnection?.getStats()) ?? new Map()).values()];
    return report.find(({ type, kind }) => type === 'inbound-rtp' && kind === 'video')?.framesDecoded ?? 0;
  },
};

nameField.value = memory.read('name') ?? '';
show('idle', '');
if (memory.read('token') && !(await claim(memory.read('userId')))) memory.write({ token: '', key: '', phase: 'idle' });
join.querySelector('button').disabled = false;
if (memory.read('phase') === 'call') resume();
else if (memory.read('phase') === 'searching') search();
