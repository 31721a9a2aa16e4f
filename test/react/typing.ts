/**
 * What TypeScript must take, and must not take, of the React binding. Checked by `tsc`, never run.
 */
import { createElement } from 'react';
import { SSEClient } from '../../src/client/index.js';
import {
  ConnectionStatus,
  type ConnectionStatusProps,
  createSSEContext,
  SSEProvider,
  useSSE,
  useSSEClient,
  useSSEData,
  useSSEGap,
  useSSEStatus,
} from '../../src/react/index.js';

interface Price {
  readonly symbol: string;
  readonly cents: number;
}

interface Events {
  price: Price;
  'job.progress': { percent: number };
  stopped: null;
}

const typed = createSSEContext<Events>();

export function Typed() {
  typed.useSSE('price', (data, event) => {
    const cents: number = data.cents;
    const type: 'price' = event.type;
    const id: string | undefined = event.id;
    return [cents, type, id, event.data.symbol];
  });
  typed.useSSE('price', async () => {});
  // @ts-expect-error: a price has no percent
  typed.useSSE('price', (data) => data.percent);
  // @ts-expect-error: a handler for other data
  typed.useSSE('job.progress', (data: Price) => data.cents);
  // What the map does not name is unknown.
  typed.useSSE('connected', (data: unknown) => data);
  // @ts-expect-error: nobody knows what is in it
  typed.useSSE('elsewhere', (data) => data.percent);

  const none = typed.useSSEData('price');
  const maybe: Price | undefined = none;
  const nullable: Price | null = typed.useSSEData('price', null);
  const price: Price = typed.useSSEData('price', { symbol: 'ACME', cents: 0 });
  // @ts-expect-error: not of that type
  const wrong: { percent: number } | null = typed.useSSEData('price', null);
  const all: Price[] = typed.useSSEData('price', [] as Price[], (list, next) => [...list, next]);
  const count: number = typed.useSSEData('job.progress', 0, (sum, { percent }) => sum + percent);
  // @ts-expect-error: the data of the event has no cents
  typed.useSSEData('job.progress', 0, (sum, { cents }) => sum + cents);

  const client: SSEClient<Events> = typed.useSSEClient();
  client.subscribe('price', ({ cents }) => cents);
  return [maybe, nullable, price, wrong, all, count];
}

export function Untyped() {
  useSSE('price', (data: Price, event) => [data.cents, event.data.symbol, event.lastEventId]);
  useSSE<Price>('price', ({ cents }) => cents);
  // @ts-expect-error: unknown data
  useSSE('price', (data) => data.cents);
  const price: Price | null = useSSEData<Price | null>('price', null);
  const undefinedAtFirst: Price | undefined = useSSEData<Price>('price');
  const count: number = useSSEData('tick', 0);
  const all: Price[] = useSSEData('price', [] as Price[], (list, next: Price) => [...list, next]);
  useSSEGap(async (gap) => {
    const loaded: number = await gap.refetch(async (signal) => Number(signal.aborted));
    return [loaded, gap.reason];
  });
  const { status, nextDelay } = useSSEStatus();
  // @ts-expect-error: no such status
  const isOpen = status === 'open';
  const untyped: SSEClient = useSSEClient();
  return [price, undefinedAtFirst, count, all, nextDelay, isOpen, untyped];
}

const client = new SSEClient<Events>({ url: '/events' });
const rendered: ConnectionStatusProps = { children: ({ status, attempt }) => `${status} ${attempt}` };
export const trees = [
  createElement(typed.SSEProvider, { client }),
  createElement(typed.SSEProvider, { client }, createElement(typed.ConnectionStatus)),
  createElement(typed.SSEProvider, { url: '/events', config: { headers: () => ({}), decide: () => 'retry' as const } }),
  createElement(SSEProvider, { url: new URL('https://example.com') }, 'text'),
  createElement(SSEProvider, { url: async ({ refresh }) => `/events?refresh=${refresh}` }),
  createElement(SSEProvider, { url: null }),
  createElement(SSEProvider, { config: { urls: ['/a', '/b'] } }),
  createElement(SSEProvider, { client: new SSEClient() }),
  // A client that knows its events fits hooks that do not.
  createElement(SSEProvider, { client }),
  // @ts-expect-error: a client has its settings already
  createElement(SSEProvider, { client: new SSEClient(), url: '/events' }),
  // @ts-expect-error: no such setting
  createElement(SSEProvider, { url: '/events', config: { retries: 3 } }),
  // @ts-expect-error: the address has one place
  createElement(SSEProvider, { url: '/events', config: { url: '/events' } }),
  createElement(ConnectionStatus, { className: 'status', labels: { failed: 'Offline' } }),
  createElement(ConnectionStatus, rendered),
  // @ts-expect-error: no such status
  createElement(ConnectionStatus, { labels: { open: 'Open' } }),
];
