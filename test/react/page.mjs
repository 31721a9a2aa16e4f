// The pages of the React tests, as an application would be written. Each scenario renders into #root and says in `seen` what
// happened; the tests look at it, and at what the server saw.
import * as React from 'react';
import { createRoot, hydrateRoot } from 'react-dom/client';
import { renderToString } from 'react-dom/server.browser';
import { SSEClient } from 'sse-broker/client';
import {
  ConnectionStatus,
  createSSEContext,
  SSEProvider,
  useSSE,
  useSSEClient,
  useSSEData,
  useSSEGap,
  useSSEStatus,
} from 'sse-broker/react';

const h = React.createElement;

/** What a test reads. */
const seen = { handled: [], commits: 0, statuses: [], complaints: [], clients: [], gaps: [] };
/** What a test may call. */
const act = {};
Object.assign(globalThis, { seen, act, React });

for (const level of ['error', 'warn']) {
  const original = console[level];
  console[level] = (...args) => {
    seen.complaints.push(args.map(String).join(' '));
    original.apply(console, args);
  };
}
addEventListener('error', ({ message }) => seen.complaints.push(message));
addEventListener('unhandledrejection', ({ reason }) => seen.complaints.push(String(reason)));

const FAST = { reconnectInterval: 50, maxReconnectInterval: 100 };

/** A handler, the data and the status; each render makes all handlers and settings anew. */
function Watcher({ event = 'note', label = '' }) {
  const client = useSSEClient();
  const data = useSSEData(event, null);
  const { status } = useSSEStatus();
  useSSE(event, (received, { type }) => {
    seen.handled.push({ label, type, data: received });
    if (received?.explode) throw new Error('exploded');
  });
  useSSEGap(({ reason }) => seen.gaps.push({ label, reason }));
  if (seen.clients.at(-1) !== client) seen.clients.push(client);
  React.useEffect(() => {
    seen.commits++;
  });
  return h('p', { id: 'data', 'data-status': status }, JSON.stringify(data));
}

function useControls(name, initial) {
  const [value, setValue] = React.useState(initial);
  act[name] = setValue;
  return value;
}

const root = () => document.getElementById('root');

/** Everything inline, in StrictMode. */
function App() {
  const { url, token, label, event, isShown, config, hasHeaders } = useControls('set', {
    url: '/events',
    token: 'a',
    label: 'first',
    event: 'note',
    isShown: true,
    config: {},
    hasHeaders: true,
  });
  act.update = (changes) => act.set((now) => ({ ...now, ...changes }));
  return isShown
    ? h(
        SSEProvider,
        { url, config: { ...FAST, ...config, ...(hasHeaders && { headers: () => ({ 'x-token': token }) }) } },
        h(Watcher, { label, event }),
        h(ConnectionStatus, { id: 'status', labels: { reconnecting: 'coming back' } }),
        h(ConnectionStatus, { id: 'custom' }, ({ status, attempt }) => `${status} ${attempt > 0}`),
      )
    : h('p', null, 'gone');
}

/** Writes down every text that #status has. */
function watchStatus() {
  const note = () => {
    const text = document.getElementById('status')?.textContent;
    if (text && seen.statuses.at(-1) !== text) seen.statuses.push(text);
  };
  new MutationObserver(note).observe(root(), {
    subtree: true,
    childList: true,
    characterData: true,
    attributes: true,
  });
}

const scenarios = {
  app() {
    watchStatus();
    const app = createRoot(root());
    app.render(h(React.StrictMode, null, h(App)));
    act.unmount = () => app.unmount();
    act.again = () => app.render(h(React.StrictMode, null, h(App)));
  },

  given() {
    const client = new SSEClient({ url: '/events', ...FAST });
    client.connect();
    act.client = client;
    const app = createRoot(root());
    app.render(h(React.StrictMode, null, h(SSEProvider, { client }, h(Watcher))));
    act.unmount = () => app.unmount();
  },

  /** The markup is made as a server makes it, and taken over. */
  async hydration({ isConnected }) {
    const client = new SSEClient({ url: '/events', ...FAST });
    const tree = (props) =>
      h(
        React.StrictMode,
        null,
        h(
          SSEProvider,
          props,
          h(Watcher),
          h(ConnectionStatus, { id: 'status' }),
          h('p', { id: 'rest' }, 'and', ' more'),
        ),
      );
    const props = isConnected ? { client } : { url: '/events', config: FAST };
    root().innerHTML = renderToString(tree(props));
    seen.markup = root().innerHTML;
    const element = document.getElementById('rest');
    if (isConnected) {
      client.connect();
      await new Promise((resolve) => client.on('connected', resolve));
    }
    watchStatus();
    hydrateRoot(root(), tree(props), { onRecoverableError: (error) => seen.complaints.push(String(error)) });
    act.isAdopted = () => document.getElementById('rest') === element;
  },

  /** What is hidden has no stream; shown again, it gets what it missed. */
  activity() {
    const Hidden = React.Activity;
    const Tab = () => {
      const mode = useControls('show', 'visible');
      return h(Hidden, { mode }, h(SSEProvider, { url: '/events', config: FAST }, h(Watcher)));
    };
    const app = createRoot(root());
    app.render(h(React.StrictMode, null, h(Tab)));
    act.unmount = () => app.unmount();
  },

  /** Two streams: each hook finds the one of its context, past the provider of the other. */
  contexts() {
    const news = createSSEContext();
    const jobs = createSSEContext();
    const Both = () => {
      const headline = news.useSSEData('note', 'no news');
      const job = jobs.useSSEData('note', 'no job');
      return h('p', { id: 'data' }, `${headline}, ${job}`);
    };
    createRoot(root()).render(
      h(news.SSEProvider, { url: '/events?topics=news' }, h(jobs.SSEProvider, { url: '/events?topics=jobs' }, h(Both))),
    );
  },

  /** All notes so far, although several come between two renders. */
  reduce() {
    const All = () => h('p', { id: 'data' }, useSSEData('note', [], (list, { n }) => [...list, n]).join(' '));
    createRoot(root()).render(h(React.StrictMode, null, h(SSEProvider, { url: '/events', config: FAST }, h(All))));
  },

  orphan() {
    class Boundary extends React.Component {
      state = { error: undefined };
      static getDerivedStateFromError = (error) => ({ error });
      render() {
        const { error } = this.state;
        return error ? h('p', { id: 'data' }, `${error.code} ${error.message}`) : this.props.children;
      }
    }
    createRoot(root()).render(h(Boundary, null, h(Watcher)));
  },

  /** A component of the page is edited: its effects run anew, and so does its provider's where the provider is edited. */
  hotReload() {
    const Refresh = globalThis.ReactRefresh;
    const versionOf = (version) => {
      const Edited = () => {
        useSSE('note', ({ n }) => seen.handled.push(`${version}: ${n}`));
        const [kept] = React.useState(version);
        return h('p', { id: 'data' }, `${version}, state of ${kept}`);
      };
      Refresh.register(Edited, 'Edited');
      Refresh.setSignature(Edited, 'useSSE useState');
      const Frame = () => h(SSEProvider, { url: '/events', config: { ...FAST } }, h(Edited));
      Refresh.register(Frame, 'Frame');
      return Frame;
    };
    const app = createRoot(root());
    app.render(h(React.StrictMode, null, h(versionOf('v1'))));
    act.edit = (version) => {
      versionOf(version);
      Refresh.performReactRefresh();
    };
  },
};

globalThis.run = (name, options = {}) => scenarios[name](options);
