/** An API on a real server. Everything that it answers is held against its own document. */
import type { IncomingMessage } from 'node:http';
import { type ApiOptions, createApi } from '../../src/api/index.js';
import type { Broker, BrokerOptions, Identity, SseError } from '../../src/index.js';
import { type Asked, type AskInit, asking } from '../support/ask.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { openStream, type StreamClient } from '../support/stream.js';
import { DocumentCheck } from './document-check.js';

export interface JsonAsked extends Asked {
  /** The body, parsed; undefined where there is none. */
  // biome-ignore lint/suspicious/noExplicitAny: the document's schemas have looked at it
  readonly json: any;
}

export interface MountedApi {
  readonly broker: Broker & { readonly reported: SseError[] };
  readonly url: string;
  readonly check: DocumentCheck;
  /** Asks as it is told, and waits for the whole answer. */
  ask(method: string, path: string, init?: Omit<AskInit, 'method'>): Promise<JsonAsked>;
  get(path: string, as?: string): Promise<JsonAsked>;
  post(path: string, body: unknown, as?: string, headers?: Record<string, string>): Promise<JsonAsked>;
  /** Opens a stream, or is refused one. */
  open(path: string, as?: string, headers?: Record<string, string>): Promise<StreamClient>;
}

/** Tokens of the callers that the tests know, by what they are granted. */
export const TOKENS = {
  publish: 'a-token-that-publishes-0001',
  read: 'a-token-that-reads-00000002',
  admin: 'a-token-that-administers-03',
} as const;

/** Who a request says that it is, as an earlier middleware would have found out: `user alice`, or `user alice of acme`. */
export function userOf(req: Pick<IncomingMessage, 'headers'>): Identity | null {
  const [, userId, tenantId] = /^user (\w+)(?: of (\w+))?$/.exec(req.headers.authorization ?? '') ?? [];
  return userId === undefined ? null : { userId, ...(tenantId !== undefined && { tenantId }) };
}

/** Serves an API on `/api` of node:http until the test ends. `as` is an Authorization header, or a key of {@link TOKENS}. */
export async function mountApi(
  options: ApiOptions | ((broker: Broker) => ApiOptions) = {},
  brokerOptions: BrokerOptions = {},
): Promise<MountedApi> {
  const broker = makeBroker(brokerOptions);
  const api = createApi(broker, {
    path: '/api',
    authenticator: userOf,
    ...(typeof options === 'function' ? options(broker) : options),
  });
  const { url } = await serve((req, res) => void api(req, res));
  const asks = asking(`${url}/api`);
  const document = await asks('/openapi.json');
  const check = new DocumentCheck(JSON.parse(document.body));
  const ask = async (method: string, path: string, init: Omit<AskInit, 'method'> = {}): Promise<JsonAsked> => {
    const asked = await asks(path, { ...init, method });
    check.check(method, path, asked);
    return {
      ...asked,
      json:
        asked.headers['content-type']?.startsWith('application/json') && asked.body !== ''
          ? JSON.parse(asked.body)
          : undefined,
    };
  };
  return {
    broker,
    url: `${url}/api`,
    check,
    ask,
    get: (path, as) => ask('GET', path, { headers: credentials(as) }),
    post: (path, body, as, headers = {}) =>
      ask('POST', path, {
        headers: { 'content-type': 'application/json', ...credentials(as), ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      }),
    open: async (path, as, headers = {}) => {
      const stream = await openStream(`${url}/api${path}`, { headers: { ...credentials(as), ...headers } });
      check.checkHead(path, stream);
      return stream;
    },
  };
}

export function credentials(as: string | undefined): Record<string, string> {
  if (as === undefined) return {};
  const token = (TOKENS as Record<string, string>)[as];
  return { authorization: token === undefined ? as : `Bearer ${token}` };
}
