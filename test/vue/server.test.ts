/** The Vue binding on a server: it renders what is known, and opens nothing. */
import { createPinia, defineStore } from 'pinia';
import { expect, onTestFinished, test } from 'vitest';
import { createSSRApp, h } from 'vue';
import { renderToString } from 'vue/server-renderer';
import { SSEClient } from '../../src/client/index.js';
import { createHandler } from '../../src/index.js';
import {
  ConnectionStatus,
  createSSE,
  type SSEPluginOptions,
  useSSE,
  useSSEClient,
  useSSEData,
  useSSEGap,
  useSSEStatus,
} from '../../src/vue/index.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';
import { readGlobals } from '../support/web-globals.js';

const usePrices = defineStore('prices', () => ({ prices: useSSEData('price', [{ cents: 7 }]) }));

const Prices = {
  setup() {
    useSSE('price', () => {});
    useSSEGap(() => {});
    const price = useSSEData('price', { cents: 100 });
    const status = useSSEStatus();
    const store = usePrices();
    return () => h('p', `${price.value.cents} ${store.prices.length} ${status.value.status}`);
  },
};

const appOf = (options: SSEPluginOptions) =>
  createSSRApp({ render: () => h('div', [h(Prices), h(ConnectionStatus)]) })
    .use(createPinia())
    .use(createSSE(options));

const MARKUP = '<div><p>100 1 disconnected</p><span role="status" data-status="disconnected">disconnected</span></div>';

test('the initial data and `disconnected` are rendered, and no global is read', async () => {
  let rendering: Promise<string> | undefined;
  const read = readGlobals(() => {
    rendering = renderToString(appOf({ url: '/events' }));
  });
  expect(await rendering).toBe(MARKUP);
  expect(read).toEqual([]);
});

test('with a client that is connected the markup is the same, and no handler stays with it', async () => {
  const broker = makeBroker();
  const { url } = await serve(createHandler(broker));
  const client = new SSEClient({ url });
  onTestFinished(() => client.destroy());
  client.connect();
  await until(() => client.getStatus().connected, 'the connection');
  for (let n = 0; n < 20; n++) expect(await renderToString(appOf({ client }))).toBe(MARKUP);
  // A handler that stayed would have taken it.
  await broker.broadcast('price', { cents: 1 });
  await until(() => client.clearQueue() === 1, 'the event to wait for a handler');
});

test('each application has a client of its own: what a server keeps between requests is not shared', async () => {
  const plugin = createSSE({ url: '/events' });
  const clients = new Set<SSEClient>();
  const app = () =>
    createSSRApp({
      setup() {
        clients.add(useSSEClient());
        return () => h('p');
      },
    }).use(plugin);
  await renderToString(app());
  await renderToString(app());
  expect(clients.size).toBe(2);
});

test('what is rendered before a client exists is what a client says that never connected', async () => {
  let info: unknown;
  const app = createSSRApp({
    setup() {
      info = useSSEStatus().value;
      return () => h('p');
    },
  }).use(createSSE({ url: '/events' }));
  await renderToString(app);
  expect(info).toEqual(new SSEClient().getStatus());
});
