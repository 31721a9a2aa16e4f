/** What TypeScript must take, and must not take, of the Vue binding. Checked by `tsc`, never run. */
import { createApp, h, ref, type ShallowRef } from 'vue';
import { SSEClient } from '../../src/client/index.js';
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
} from '../../src/vue/index.js';

interface Price {
  readonly symbol: string;
  readonly cents: number;
}

interface Events {
  price: Price;
  'job.progress': { percent: number };
}

const typed = createSSEContext<Events>();
const client = new SSEClient<Events>({ url: '/events' });

export function inSetupTyped() {
  const stop: () => void = typed.useSSE('price', (data, event) => {
    const cents: number = data.cents;
    const type: 'price' = event.type;
    return [cents, type, event.data.symbol];
  });
  typed.useSSE('price', async () => {}, client);
  typed.useSSE(ref('price' as const), ({ cents }) => cents);
  typed.useSSE(
    () => 'job.progress' as const,
    ({ percent }) => percent,
  );
  // @ts-expect-error: a price has no percent
  typed.useSSE('price', (data) => data.percent);
  // @ts-expect-error: a handler for other data
  typed.useSSE('job.progress', (data: Price) => data.cents);

  const maybe: ShallowRef<Price | undefined> = typed.useSSEData('price');
  const nullable: ShallowRef<Price | null> = typed.useSSEData('price', null);
  // @ts-expect-error: not of that type
  const wrong: ShallowRef<{ percent: number } | null> = typed.useSSEData('price', null);
  const all: ShallowRef<Price[]> = typed.useSSEData('price', [] as Price[], (list, next) => [...list, next], client);
  // @ts-expect-error: the data of the event has no cents
  typed.useSSEData('job.progress', 0, (sum, { cents }) => sum + cents);
  const own: SSEClient<Events> = typed.useSSEClient();
  return [stop, maybe, nullable, wrong, all, own];
}

export function inSetup() {
  useSSE('price', (data: Price, event) => [data.cents, event.data.symbol]);
  // @ts-expect-error: unknown data
  useSSE('price', (data) => data.cents);
  useSSE('price', (data: Price) => data.cents, client);
  const price: ShallowRef<Price | null> = useSSEData<Price | null>('price', null);
  const count: ShallowRef<number> = useSSEData('tick', 0);
  const all: ShallowRef<Price[]> = useSSEData('price', [] as Price[], (list, next: Price) => [...list, next]);
  useSSEGap(async (gap) => {
    const loaded: number = await gap.refetch(async (signal) => Number(signal.aborted));
    return [loaded, gap.reason];
  });
  const status = useSSEStatus();
  // @ts-expect-error: it tells, and cannot be told
  status.value = { ...status.value };
  // @ts-expect-error: no such status
  const isOpen = status.value.status === 'open';
  const untyped: SSEClient = useSSEClient();
  return [price, count, all, isOpen, untyped];
}

createApp({})
  .use(createSSE({ url: '/events', config: { headers: () => ({}) } }))
  .use(SSEPlugin, { config: { urls: ['/a', '/b'] } })
  .use(SSEPlugin, { client: new SSEClient() })
  .use(typed.createSSE({ client }))
  // A client that knows its events fits composables that do not.
  .use(createSSE({ client }))
  // @ts-expect-error: a client has its settings already
  .use(createSSE({ client: new SSEClient(), url: '/events' }))
  // @ts-expect-error: no such setting
  .use(SSEPlugin, { url: '/events', config: { retries: 3 } });

export const nodes = [
  h(ConnectionStatus, { labels: { failed: 'Offline' } }),
  h(ConnectionStatus, { class: 'status' }, { default: ({ status }: { status: string }) => status }),
  // @ts-expect-error: no such status
  h(ConnectionStatus, { labels: { open: 'Open' } }),
];
