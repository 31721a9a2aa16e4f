/** Puts the page together: one SSEClient, and the four views that it feeds. */

import { announce, byId, element, setText } from './dom.js';
import { FeedView } from './feed-view.js';
import { count, duration, bytes as formatBytes, wholeSeconds } from './format.js';
import { JobsView } from './jobs-view.js';
import { LogView } from './log-view.js';
import { SSEClient } from './sse-broker/client.js';

const user = new URLSearchParams(location.search).get('user_id') || 'alice';
const asUser = `user_id=${encodeURIComponent(user)}`;

async function api(method, path, body) {
  const response = await fetch(`${path}?${asUser}`, {
    method,
    headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
    body: body === undefined ? null : JSON.stringify(body),
  }).catch(() => {
    throw new Error('The server cannot be reached.');
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  return answer;
}

const jobs = new JobsView({ api, user });
const feed = new FeedView();
const log = new LogView();
let gaps = 0;
let lastGap = '';

/** Data of the server's own event `connected`. */
let info;
let since = Date.now();

const client = new SSEClient({
  url: `/events?${asUser}`,
  // Reload the page: it goes on with the event after the last one it has seen.
  persistLastEventId: 'session',
  // The server asks for 2 s after a loss, and each attempt that fails makes the next wait longer; here not by much.
  maxReconnectInterval: 5_000,
});
client.on('message', ({ type, data, id }) => {
  log.add(type, data, id);
  if (type === 'process.stats') feed.update(data);
  else if (type.startsWith('job.')) takeJob(data);
  else if (type === 'connected') {
    info = data;
    void refresh();
  }
  showFacts();
});
client.on('gap', tellGap);
client.on('status', showState);

function takeJob(job) {
  jobs.update(job);
  // There is room for another one.
  if (job.status !== 'running') byId('start-problem').hidden = true;
}

/** What the stream tells are changes; after a break they need something to change. */
async function refresh() {
  try {
    jobs.replaceAll((await api('GET', '/jobs')).jobs);
    showFacts();
    await showFolders();
  } catch {
    // The stream will be lost as well, and come back.
  }
}

function tellGap({ reason, refetch }) {
  gaps++;
  lastGap = reason;
  announce(`Some events are missing (${reason}); the page was brought up to date.`);
  // What comes meanwhile waits, and is applied to what was fetched.
  void refetch(refresh);
}

const STATES = {
  connecting: {
    word: 'Connecting',
    remark: 'waiting for the server',
    fact: (age) => `waiting for the server for ${age}`,
  },
  connected: { word: 'Open', remark: 'the stream is open', fact: (age) => `open for ${age}` },
  reconnecting: {
    word: 'Lost',
    remark: 'the client tries again by itself',
    fact: (age) => `lost ${age} ago; attempt ${client.getStatus().attempt}`,
  },
  failed: { word: 'Refused', remark: 'the client does not try again', fact: () => 'refused; not tried again' },
  disconnected: { word: 'Disconnected', remark: 'closed by you', fact: (age) => `closed by you ${age} ago` },
};

function showState({ status, previous }) {
  const { word, remark } = STATES[status];
  byId('pill').dataset.state = status;
  document.body.dataset.state = status;
  setText(byId('pill-text'), word);
  setText(byId('connection-button'), status === 'disconnected' || status === 'failed' ? 'Reconnect' : 'Disconnect');
  if (status !== previous) {
    since = Date.now();
    log.add(`(${word.toLowerCase()})`, remark);
    announce(`Connection: ${word}`);
  }
  showFacts();
}

function showFacts() {
  const { status } = client.getStatus();
  const { messagesReceived, bytes } = client.getStats();
  const gapText = gaps === 0 ? 'none' : `${gaps}, last: ${lastGap}`;
  setText(byId('fact-state'), STATES[status].fact(wholeSeconds(Date.now() - since)));
  setText(byId('fact-client'), info?.clientId ?? '–');
  setText(byId('fact-cursor'), client.lastEventId || '–');
  setText(byId('fact-received'), `${count(messagesReceived)} events, ${formatBytes(bytes)}`);
  setText(byId('fact-topics'), jobs.topics.join(', ') || '–');
  setText(byId('fact-retry'), info === undefined ? '–' : `${duration(info.retry)} after a loss`);
  setText(byId('fact-heartbeat'), info === undefined ? '–' : `every ${duration(info.heartbeatInterval)}, as a comment`);
  setText(byId('fact-gaps'), gapText);
}

async function showFolders() {
  const select = byId('folder');
  const { folders } = await api('GET', '/folders');
  if (select.options.length === folders.length) return;
  const chosen = select.value || (folders.includes('node_modules') ? 'node_modules' : folders[0]);
  select.replaceChildren(...folders.map((folder) => element('option', { value: folder }, folder)));
  select.value = chosen;
}

byId('start').addEventListener('submit', async (event) => {
  event.preventDefault();
  const problem = byId('start-problem');
  problem.hidden = true;
  try {
    const { job } = await api('POST', '/jobs', { folder: byId('folder').value });
    jobs.update(job);
  } catch (error) {
    setText(problem, error.message);
    problem.hidden = false;
  }
});

byId('connection-button').addEventListener('click', () => {
  const { status } = client.getStatus();
  if (status === 'disconnected' || status === 'failed') client.connect();
  else client.disconnect();
});

const theme = byId('theme');
const isDark = () => {
  const { theme: chosen } = document.documentElement.dataset;
  return chosen === undefined ? matchMedia('(prefers-color-scheme: dark)').matches : chosen === 'dark';
};
theme.setAttribute('aria-pressed', String(isDark()));
theme.addEventListener('click', () => {
  const chosen = isDark() ? 'light' : 'dark';
  document.documentElement.dataset.theme = chosen;
  theme.setAttribute('aria-pressed', String(chosen === 'dark'));
  try {
    localStorage.setItem('sse-broker-demo:theme', chosen);
  } catch {
    // Not kept, then.
  }
});

const other = user === 'bob' ? 'alice' : 'bob';
byId('user').value = user;
byId('other').href = `/?user_id=${other}`;
setText(byId('other').querySelector('b'), other);
document.title = `${user} · sse-broker demo`;

client.connect();
setInterval(showFacts, 1_000);
