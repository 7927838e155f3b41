// The demonstration page: a name, a partner, a call. Everything about signaling is in signaling-client.js.

import { SignalingClient } from './signaling-client.js';

/** Milliseconds that a reloaded page waits for its call before it says that the call is over. */
const RESUME_LIMIT = 8_000;
/** Milliseconds until the next try when the queue could not be asked. */
const QUEUE_RETRY = 2_000;

const $ = (id) => document.getElementById(id);
const [app, link, status, remote, local, partner, join, nameField] = [
  'app', 'link', 'status', 'remote', 'local', 'partner', 'join', 'name',
].map($);

/** What a reload keeps: who we are, and whether we were `idle`, `searching` or in a `call`. */
const memory = {
  read: (key) => sessionStorage.getItem(`demo-${key}`),
  write: (values) => Object.entries(values).forEach(([key, value]) => sessionStorage.setItem(`demo-${key}`, value)),
};

let phase = 'idle';
let session = null;
let camera = null;
/** Counts what the user asked for, so that the answer to an older wish is ignored. */
let wish = 0;
let resumeTimer;

const client = new SignalingClient({ url: '/ws/signaling', token: ({ refused }) => myToken(refused) });

// Talking to the demonstration's routes

async function request(method, path, { body, token } = {}) {
  const headers = new Headers();
  if (body) headers.set('Content-Type', 'application/json');
  if (token) headers.set('Authorization', `Bearer ${token}`);
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  throw Object.assign(new Error(answer?.error?.message ?? `status ${response.status}`), { status: response.status });
}

/** The user's token; a new one (and with it a new user) if there is none or the server refused it. */
async function myToken(refused) {
  if (refused || !memory.read('token')) {
    const { token, userId } = await request('POST', '/demo/token', { body: { name: memory.read('name') } });
    memory.write({ token, userId });
    await claim(userId);
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
    await request('POST', '/demo/queue', { token: await myToken(false) });
  } catch (error) {
    if (mine !== wish || phase !== 'searching') return;
    if (error.status === 401) {
      memory.write({ token: '' });
      client.close();
      client.connect();
      return;
    }
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

function showConnection(connectionState) {
  remote.dataset.connection = connectionState;
  const { partnerId } = session;
  if (connectionState === 'connected') show('connected', `You are talking with ${partnerId}.`);
  else if (connectionState === 'disconnected') show('connecting', `The connection to ${partnerId} is unstable…`);
  else if (connectionState === 'failed') show('connecting', `The connection to ${partnerId} failed. Trying again…`);
  else show('connecting', `Connecting to ${partnerId}…`);
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
  enter('idle');
  session = null;
  camera?.getTracks().forEach((track) => track.stop());
  camera = null;
  client.setLocalStream(null);
  local.srcObject = remote.srcObject = null;
  remote.dataset.connection = 'none';
  $('unmute').hidden = true;
  show('idle', text);
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
  resumeTimer = setTimeout(() => stop('The call is over.'), RESUME_LIMIT);
  client.connect();
}

join.addEventListener('submit', (event) => {
  event.preventDefault();
  const name = nameField.value.trim();
  if (!name) return;
  // Another name is another user, and another user needs another connection.
  if (name !== memory.read('name')) {
    memory.write({ name, token: '' });
    client.close();
  }
  search();
});

$('cancel').addEventListener('click', () => {
  const token = memory.read('token');
  stop('Stopped searching.');
  if (token) request('DELETE', '/demo/queue', { token }).catch(() => {});
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
  showConnection('new');
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

client.addEventListener('connectionstate', ({ detail }) => {
  if (detail.session === session && session.state === 'active') showConnection(detail.connectionState);
});

client.addEventListener('partner-disconnected', ({ detail }) => {
  if (detail.session !== session) return;
  show('partner-away', `${session.partnerId} is gone. Waiting up to a minute for them to come back…`);
});

client.addEventListener('ended', ({ detail }) => {
  if (detail.session !== session || phase !== 'call' || detail.reason === 'left' || detail.reason === 'closed') return;
  stop(`${session.partnerId} ${detail.reason === 'gone' ? 'left the call' : 'did not come back'}.`);
});

client.addEventListener('closed', ({ detail }) => {
  if (detail.local || phase === 'idle') return;
  // The server may close the connection of a call that was left; who searches already needs a new one.
  if (detail.code === 1000 && phase === 'searching') client.connect();
  else if (detail.code === 1000) stop('The call is over.');
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
if (memory.read('token') && !(await claim(memory.read('userId')))) memory.write({ token: '', phase: 'idle' });
join.querySelector('button').disabled = false;
if (memory.read('phase') === 'call') resume();
else if (memory.read('phase') === 'searching') search();
