// What an application does with SSEClient, on whatever runtime: each scenario gives what it saw, and leaves nothing behind.
// The server of client.test.ts is asked for the next thing (`/next`, `/cut`) once the last one was seen.
import { SSEClient } from 'sse-broker/client';

const ask = async (url, what) => {
  const response = await fetch(new URL(what, url));
  await response.text();
};

// workerd reads what is compressed, but does not ask for it.
const ACCEPT_GZIP = navigator.userAgent === 'Cloudflare-Workers' ? { 'Accept-Encoding': 'gzip' } : {};

/** Resolves with the first value that `start` gives to its argument. */
const first = (start) => new Promise((resolve, reject) => start(resolve, reject));

/** Typed events one by one, on a stream that is compressed and wants a header. */
async function typed(url) {
  const asked = [];
  const client = new SSEClient({
    url: new URL('/events', url),
    headers: async ({ attempt }) => {
      asked.push(attempt);
      return { Authorization: 'Bearer good', ...ACCEPT_GZIP };
    },
  });
  const seen = await first((resolve) => {
    const events = [];
    client.subscribe('connected', (data, { type }) => {
      events.push([type, data.userId]);
      void ask(url, '/next');
    });
    client.subscribe('note', (data, { type, lastEventId }) => {
      events.push([type, data, lastEventId === client.lastEventId]);
      if (data.n < 2) void ask(url, '/next');
      else resolve(events);
    });
    client.connect();
  });
  client.disconnect();
  return { seen, asked, status: client.getStatus().status };
}

/** A connection that is cut while events are published: nothing lost, none twice. */
async function resumed(url) {
  const client = new SSEClient({
    url: new URL('/events', url),
    headers: { Authorization: 'Bearer good' },
    reconnectInterval: 10,
  });
  const notes = await first((resolve) => {
    const numbers = [];
    client.subscribe('note', ({ n }) => {
      numbers.push(n);
      if (n === 0) void ask(url, '/cut');
      if (n === 2) void ask(url, '/next');
      if (n === 3) resolve(numbers);
    });
    client.once('connected', () => ask(url, '/next'));
    client.connect();
  });
  const { reconnectCount, duplicates, gaps } = client.getStats();
  client.disconnect();
  return { notes, reconnectCount, duplicates, gaps };
}

/** A token that is refused, and one asked for anew that is, too. */
async function refused(url) {
  const asked = [];
  const client = new SSEClient({
    url: new URL('/events', url),
    headers: ({ refresh }) => {
      asked.push(refresh);
      return { Authorization: 'Bearer bad' };
    },
  });
  client.connect();
  try {
    for await (const { type } of client.events()) return { type };
  } catch ({ code, status, body }) {
    return { code, status, body: JSON.parse(body).error.code, asked, end: client.getStatus().status };
  }
}

/** Streams do not get through here: polling does. */
async function polled(url) {
  const client = new SSEClient({
    url: new URL('/broken/stream', url),
    pollingUrl: new URL('/poll', url),
    headers: { Authorization: 'Bearer good' },
    reconnectInterval: 10,
    pollingInterval: 200,
  });
  client.once('connected', () => ask(url, '/next'));
  client.connect();
  for await (const { data } of client.events({ types: ['note'] })) {
    const { transport } = client.getStats();
    client.disconnect();
    return { transport, data };
  }
}

/** A loop over events that is left: what waits by then is nobody's. */
async function iterated(url) {
  const client = new SSEClient({ url: new URL('/events', url), headers: { Authorization: 'Bearer good' } });
  client.once('connected', () => ask(url, '/next'));
  client.connect();
  const numbers = [];
  for await (const { data } of client.events({ types: ['note'] })) {
    numbers.push(data.n);
    if (numbers.length === 3) break;
    await ask(url, '/next');
  }
  client.destroy();
  return { numbers };
}

/** A stream that says how often it beats, and does not: the watchdog ends it, and the next one is tried. */
async function silent(url) {
  const client = new SSEClient({ url: new URL('/mute', url), heartbeatTimeout: 100, reconnectInterval: 10 });
  const codes = [];
  client.on('error', ({ code }) => codes.push(code));
  await first((resolve) => {
    client.on('connected', () => client.getStats().reconnectCount > 0 && resolve());
    client.connect();
  });
  client.disconnect();
  return { codes };
}

/** Ended by the application at each point where something is under way. */
async function left(url) {
  const ends = [];
  for (const [path, isThere] of [
    ['/hanging', () => ask(url, '/asked')],
    ['/events', (client) => first((resolve) => client.once('connected', resolve))],
    ['/broken/stream', (client) => first((resolve) => client.once('error', resolve))],
  ]) {
    const client = new SSEClient({ url: new URL(path, url), headers: { Authorization: 'Bearer good' } });
    client.connect();
    await isThere(client);
    client.disconnect();
    ends.push(client.getStatus().status);
  }
  return { ends };
}

export const scenarios = { typed, resumed, refused, polled, iterated, silent, left };
