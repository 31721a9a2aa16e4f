// The pages of the Vue tests, as an application would be written. Each scenario mounts into #root and says in `seen` what
// happened; the tests look at it, and at what the server saw.
import { createPinia, defineStore } from 'pinia';
import { SSEClient } from 'sse-broker/client';
import {
  ConnectionStatus,
  createSSE,
  createSSEContext,
  SSEPlugin,
  useSSE,
  useSSEClient,
  useSSEData,
  useSSEGap,
  useSSEStatus,
} from 'sse-broker/vue';
import { createApp, createSSRApp, effectScope, h, KeepAlive, nextTick, reactive, shallowRef, watch } from 'vue';
import { renderToString } from 'vue/server-renderer';

/** What a test reads. */
const seen = { handled: [], watched: [], statuses: [], complaints: [], clients: [], gaps: [] };
/** What a test may call. */
const act = {};
Object.assign(globalThis, { seen, act });

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
const root = () => document.getElementById('root');

const Watcher = {
  props: { event: { type: String, default: 'note' }, label: { type: String, default: '' } },
  setup(props) {
    seen.clients.push(useSSEClient());
    const status = useSSEStatus();
    const data = useSSEData(() => props.event, null);
    watch(data, (value) => seen.watched.push(value), { flush: 'sync' });
    act.stop = useSSE(
      () => props.event,
      (received, { type }) => {
        seen.handled.push({ label: props.label, type, data: received });
        if (received?.explode) throw new Error('exploded');
      },
    );
    useSSEGap(({ reason }) => seen.gaps.push(reason));
    return () => h('p', { id: 'data', 'data-status': status.value.status }, JSON.stringify(data.value));
  },
};

/** Writes down every text that #status has. */
function watchStatus() {
  const note = () => {
    const text = document.getElementById('status')?.textContent;
    if (text && seen.statuses.at(-1) !== text) seen.statuses.push(text);
  };
  note();
  new MutationObserver(note).observe(root(), { subtree: true, childList: true, characterData: true });
}

const state = reactive({ event: 'note', label: 'first', isShown: true });

const App = () => [
  state.isShown ? h(Watcher, { event: state.event, label: state.label }) : h('p', 'gone'),
  h(ConnectionStatus, { id: 'status', labels: { reconnecting: 'coming back' } }),
  h(ConnectionStatus, { id: 'custom' }, { default: ({ status, attempt }) => `${status} ${attempt > 0}` }),
];

const scenarios = {
  app() {
    watchStatus();
    const app = createApp(App).use(createSSE({ url: '/events', config: FAST }));
    app.mount(root());
    act.unmount = () => app.unmount();
    act.update = (changes) => Object.assign(state, changes);
  },

  given() {
    const client = new SSEClient({ url: '/events', ...FAST });
    client.connect();
    act.client = client;
    const app = createApp(Watcher).use(SSEPlugin, { client });
    app.mount(root());
    act.unmount = () => app.unmount();
  },

  /** The markup is made as a server makes it, and taken over. */
  async hydration({ isConnected }) {
    const client = new SSEClient({ url: '/events', ...FAST });
    const options = isConnected ? { client } : { url: '/events', config: FAST };
    const appOf = () =>
      createSSRApp(() => [h(Watcher), h(ConnectionStatus, { id: 'status' }), h('p', { id: 'rest' }, 'and more')]).use(
        createSSE(options),
      );
    root().innerHTML = await renderToString(appOf());
    seen.markup = root().innerHTML;
    seen.clients.length = 0;
    const element = document.getElementById('rest');
    if (isConnected) {
      client.connect();
      await new Promise((resolve) => client.on('connected', resolve));
    }
    watchStatus();
    appOf().mount(root());
    act.isAdopted = () => document.getElementById('rest') === element;
  },

  /** A store lives as long as the application, and belongs to no component. */
  store() {
    const useNotes = defineStore('notes', () => {
      const notes = useSSEData('note', [], (all, { n }) => [...all, n]);
      const status = useSSEStatus();
      // A store makes what it holds reactive; the client must work nevertheless.
      const client = useSSEClient();
      return { notes, status, client };
    });
    const Notes = () => h('p', { id: 'data' }, useNotes().notes.join(' '));
    const Frame = () => (state.isShown ? h(Notes) : h('p', 'gone'));
    const app = createApp(Frame)
      .use(createPinia())
      .use(createSSE({ url: '/events', config: FAST }));
    app.mount(root());
    act.update = (changes) => Object.assign(state, changes);
    act.notes = () => useNotes().notes;
    act.stats = () => useNotes().client.getStats();
    act.statusOfStore = () => useNotes().status.status;
    act.unmount = () => app.unmount();
  },

  /** Neither component nor application: a scope, and a client that is passed. */
  scope() {
    const client = new SSEClient({ url: '/events', ...FAST });
    client.connect();
    const scope = effectScope();
    scope.run(() => {
      const status = useSSEStatus(client);
      act.status = () => status.value.status;
      watch(status, ({ status }) => seen.statuses.push(status), { flush: 'sync' });
      useSSE('note', ({ n }) => seen.handled.push(n), client);
    });
    act.client = client;
    act.stop = () => scope.stop();
    try {
      effectScope().run(() => useSSE('note', () => {}));
    } catch ({ code }) {
      seen.gaps.push(code);
    }
  },

  contexts() {
    const news = createSSEContext();
    const jobs = createSSEContext();
    const Both = {
      setup() {
        const headline = news.useSSEData('note', 'no news');
        const job = jobs.useSSEData('note', 'no job');
        return () => h('p', { id: 'data' }, `${headline.value}, ${job.value}`);
      },
    };
    createApp(Both)
      .use(news.createSSE({ url: '/events?topics=news' }))
      .use(jobs.createSSE({ url: '/events?topics=jobs' }))
      .mount(root());
  },

  /** What is kept alive goes on listening. */
  keepAlive() {
    const Other = () => h('p', 'other');
    const current = shallowRef(Watcher);
    createApp(() => h(KeepAlive, null, h(current.value)))
      .use(createSSE({ url: '/events', config: FAST }))
      .mount(root());
    act.show = async (name) => {
      current.value = name === 'watcher' ? Watcher : Other;
      await nextTick();
    };
  },

  orphan() {
    const app = createApp(Watcher);
    app.config.errorHandler = ({ code, message }) => seen.handled.push(`${code} ${message}`);
    app.mount(root());
  },
};

globalThis.run = (name, options = {}) => scenarios[name](options);
