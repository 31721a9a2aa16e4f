/** Settings: defaults, and one look at what was given. */
import { SSEClientError } from './errors.js';
import { hrefOf } from './request.js';
import type { SSEClientConfig, SSEValue } from './types.js';

/** The JSON value. Most text that is not JSON is told by its beginning: a thrown error costs microseconds. */
export const jsonOf = (text: string): unknown =>
  text[0] === '{' || /^\s*([{["\d-]|(true|false|null)\s*$)/.test(text) ? JSON.parse(text) : text;

/** Every setting has its line here: an unknown name is a typing error of the caller. */
const DEFAULTS = {
  url: undefined,
  urls: undefined,
  withCredentials: true,
  headers: undefined,
  reconnect: true,
  reconnectInterval: 1_000,
  reconnectDecay: 1.5,
  maxReconnectInterval: 30_000,
  maxReconnectAttempts: Infinity,
  heartbeatInterval: 30_000,
  heartbeatTimeout: 10_000,
  connectTimeout: 15_000,
  maxEventBytes: 4_194_304,
  messageQueueSize: 100,
  messageQueuePolicy: 'drop-oldest',
  enableDedup: true,
  fallbackToPolling: true,
  pollingUrl: undefined,
  pollingInterval: 5_000,
  parse: jsonOf,
  lastEventId: '',
  persistLastEventId: false,
  shareAcrossTabs: false,
  name: '',
  closeWhenHidden: false,
  // Looked up when it is called: pages replace it.
  fetch: (url: string, init: RequestInit) => globalThis.fetch(url, init),
  decide() {},
} as const;

type Filled = keyof {
  [Name in keyof typeof DEFAULTS as (typeof DEFAULTS)[Name] extends undefined ? never : Name]: Name;
};

/** The settings, filled and checked. */
export type Options = Omit<SSEClientConfig, Filled | 'url' | 'urls'> & {
  readonly [Name in Filled]-?: Exclude<SSEClientConfig[Name], undefined>;
} & {
  /** Empty until an address is known. */
  readonly urls: readonly SSEValue<string | URL>[];
};

/** What strings may be. */
const CHOICES = /^(drop-oldest|drop-newest|false|session|local)$/;

/** @throws {SSEClientError} `SSE_CLIENT_OPTION` */
export function resolveOptions(config: SSEClientConfig): Options {
  const options: Record<string, unknown> = { ...DEFAULTS };
  for (const [name, value] of Object.entries(config)) {
    const usual = options[name];
    const isRight = /Policy|persist/.test(name)
      ? CHOICES.test(`${value}`)
      : usual === undefined ||
        (typeof value === typeof usual && (typeof usual !== 'number' || value >= +/Decay/.test(name)));
    if (!(name in DEFAULTS && (value === undefined || isRight))) refuse(name, `cannot be ${value}`);
    options[name] = value ?? usual;
  }
  const { url, urls } = config;
  if (url && urls) refuse('urls', 'cannot be with url');
  options.urls = url ? [url] : (urls ?? []);
  return options as unknown as Options;
}

/**
 * What tabs and storage know the stream by.
 *
 * @throws {SSEClientError} `SSE_CLIENT_OPTION` where nothing is constant enough to be a name
 */
export function nameOf(options: Options & { name: string }): string {
  if (!options.name) {
    if (typeof options.urls[0] === 'function') refuse('name', 'is needed');
    // Once: it is asked for with every chunk.
    options.name = hrefOf(options.urls[0] as string);
  }
  return `sse-broker:${options.name}`;
}

export function refuse(name: string, what: string): never {
  throw new SSEClientError('SSE_CLIENT_OPTION', `${name} ${what}`);
}
