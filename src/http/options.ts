/** What a handler can be told; the same for every kind of handler. */
import type { IncomingMessage } from 'node:http';
import type { ClientInfo } from '../core/diagnostics.js';
import { SseError, shown } from '../core/errors.js';
import type { Authenticator } from './authenticator.js';
import { type Cors, type CorsOptions, resolveCors } from './cors.js';
import { isEventSource, type RequestLike } from './request.js';
import { checkHeaders } from './response-headers.js';
import type { AuthorizeTopic, TopicResolver } from './topic-resolver.js';

/** How a request is refused when the broker is full or closing: with a status, or with a stream that says "later". */
export type RefusalStyle = 'status' | 'stream';

/** Options of every handler. `Req` is the raw request, `Context` the framework's own object. */
export interface HandlerOptions<Req = IncomingMessage, Context = unknown> {
  /** Tells who the client is. Default: everybody is anonymous. */
  authenticator?: Authenticator<Req, Context> | undefined;
  /** Tells which topics the client gets. Default: none. */
  topicResolver?: TopicResolver<Req, Context> | undefined;
  /** Asked for each of those topics; false refuses with 403. Default: what the resolver says is allowed. */
  authorizeTopic?: AuthorizeTopic | undefined;
  /** Other origins that may read the stream. Default: none. */
  cors?: CorsOptions | undefined;
  /**
   * More response headers of a stream, in place of ours of that name; `Vary` is added to. What describes the body or the
   * connection (`Content-Type`, `Connection`, …) cannot be chosen.
   */
  headers?: Readonly<Record<string, string>> | undefined;
  /**
   * Compresses streams for clients whose Accept-Encoding allows it. Each event is compressed once and shared by all its
   * recipients; no event is compressed against another. Default: not.
   */
  compression?: 'gzip' | undefined;
  /** Called when a stream is open. What it throws reaches the `error` event, and the stream stays. */
  onConnect?: ((client: ClientInfo, req: Req, context: Context) => unknown) | undefined;
  /**
   * How authenticator, resolver and authorisation together may take, in ms; then 503. Default 10 000; 0: for ever.
   */
  authenticationTimeout?: number | undefined;
  /**
   * How to refuse for now, as when the broker is full or closing. `status`: 503 or 429 with Retry-After. `stream`: 200, a
   * `retry:` and an end, the only answer after which a browser's EventSource tries again. Default `auto`: `stream` for requests that
   * accept exactly `text/event-stream` with `Cache-Control: no-cache`, as an EventSource does, `status` for others.
   */
  refusal?: 'auto' | RefusalStyle | ((req: Req) => RefusalStyle) | undefined;
}

/** Options with defaults, in the form the handlers use. */
export interface ResolvedHandlerOptions<Req, Context>
  extends Pick<HandlerOptions<Req, Context>, 'authenticator' | 'topicResolver' | 'authorizeTopic' | 'onConnect'> {
  readonly cors: Cors;
  readonly headers: Readonly<Record<string, string>>;
  readonly compression: 'gzip' | undefined;
  readonly authenticationTimeout: number;
  readonly refusalOf: (req: Req) => RefusalStyle;
}

const KNOWN: readonly (keyof HandlerOptions)[] = [
  'authenticator',
  'topicResolver',
  'authorizeTopic',
  'cors',
  'headers',
  'compression',
  'onConnect',
  'authenticationTimeout',
  'refusal',
];

function refuse(option: string, value: unknown, allowed: string): never {
  throw new SseError('SSE_ERR_INVALID_OPTION', `${option} must be ${allowed}; got ${shown(value)}`);
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function resolveHandlerOptions<Req extends RequestLike, Context>(
  options: HandlerOptions<Req, Context> = {},
): ResolvedHandlerOptions<Req, Context> {
  if (typeof options !== 'object' || options === null) refuse('options', options, 'an object');
  for (const name of Object.keys(options)) {
    if (!KNOWN.includes(name as keyof HandlerOptions)) {
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        `unknown handler option ${shown(name)}; known are ${KNOWN.join(', ')}`,
      );
    }
  }
  for (const name of ['authenticator', 'topicResolver', 'authorizeTopic', 'onConnect'] as const) {
    const value = options[name];
    if (value !== undefined && typeof value !== 'function') refuse(name, value, 'a function');
  }
  const { authenticationTimeout = 10_000, refusal = 'auto', headers = {} } = options;
  if (!Number.isInteger(authenticationTimeout) || authenticationTimeout < 0 || authenticationTimeout >= 2 ** 31) {
    refuse('authenticationTimeout', authenticationTimeout, 'a whole number of ms, 0 or more');
  }
  if (!(typeof refusal === 'function' || refusal === 'auto' || refusal === 'status' || refusal === 'stream')) {
    refuse('refusal', refusal, "'auto', 'status', 'stream' or a function");
  }
  checkHeaders(headers);
  if (options.compression !== undefined && options.compression !== 'gzip') {
    refuse('compression', options.compression, "'gzip' or left out");
  }
  return {
    authenticator: options.authenticator,
    topicResolver: options.topicResolver,
    authorizeTopic: options.authorizeTopic,
    onConnect: options.onConnect,
    cors: resolveCors(options.cors),
    headers,
    compression: options.compression,
    authenticationTimeout,
    refusalOf:
      typeof refusal === 'function'
        ? refusal
        : (req) => (refusal === 'auto' ? (isEventSource(req) ? 'stream' : 'status') : refusal),
  };
}
