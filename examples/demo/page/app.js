/** Puts the page together: one stream, and the four views that it feeds. */
import { announce, byId, element, setText } from './dom.js';
import { FeedView } from './feed-view.js';
import { duration, wholeSeconds } from './format.js';
import { JobsView } from './jobs-view.js';
import { LogView } from './log-view.js';
import { Stream } from './stream.js';

const EVENTS = [
  ...['connected', 'gap', 'closing'],
  ...['job.started', 'job.progress', 'job.completed', 'job.failed', 'job.cancelled'],
  'process.stats',
];

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

const stream = new Stream({
  url: `/events?${asUser}`,
  storageKey: `sse-broker-demo:${user}:last-event-id`,
  names: EVENTS,
  onState: showState,
  onEvent(name, data, id) {
    log.add(name, data, id);
    if (name === 'process.stats') feed.update(data);
    else if (name.startsWith('job.')) takeJob(data);
    else if (name === 'connected') void refresh();
    else if (name === 'gap') tellGap(data);
    showFacts();
  },
});

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

function tellGap({ reason }) {
  gaps++;
  lastGap = reason;
  announce(`Some events are missing (${reason}); the page was brought up to date.`);
  void refresh();
}

const STATES = {
  connecting: {
    word: 'Connecting',
    remark: 'waiting for the server',
    fact: (age) => `waiting for the server for ${age}`,
  },
  open: { word: 'Open', remark: 'the stream is open', fact: (age) => `open for ${age}` },
  lost: {
    word: 'Lost',
    remark: 'the browser tries again by itself',
    fact: (age, attempts) => `lost ${age} ago; the browser tries again, ${attempts} failed so far`,
  },
  refused: { word: 'Refused', remark: 'the browser does not try again', fact: () => 'refused; not tried again' },
  stopped: { word: 'Disconnected', remark: 'closed by you', fact: (age) => `closed by you ${age} ago` },
};

let shown = '';
function showState({ state }) {
  const { word, remark } = STATES[state];
  byId('pill').dataset.state = state;
  document.body.dataset.state = state;
  setText(byId('pill-text'), word);
  setText(byId('connection-button'), state === 'stopped' || state === 'refused' ? 'Reconnect' : 'Disconnect');
  if (shown !== state) {
    shown = state;
    log.add(`(${word.toLowerCase()})`, remark);
    announce(`Connection: ${word}`);
  }
  showFacts();
}

function showFacts() {
  const { state, since, attempts, info, lastEventId } = stream;
  const gapText = gaps === 0 ? 'none' : `${gaps}, last: ${lastGap}`;
  setText(byId('fact-state'), STATES[state].fact(wholeSeconds(Date.now() - since), attempts));
  setText(byId('fact-client'), info?.clientId ?? '–');
  setText(byId('fact-cursor'), lastEventId || '–');
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
  if (stream.state === 'stopped' || stream.state === 'refused') stream.start();
  else stream.stop();
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

stream.start();
setInterval(showFacts, 1_000);
