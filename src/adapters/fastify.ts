/**
 * Fastify 5: a route handler and a plugin around it. Typed by the part of Fastify that is used; Fastify itself is not
 * imported.
 */
import type { IncomingMessage } from 'node:http';
import type { Broker } from '../core/broker.js';
import { SseError, shown } from '../core/errors.js';
import type { EventMap } from '../core/event.js';
import type { CloseOptions } from '../core/shutdown.js';
import type { HandlerBroker } from '../http/arrival.js';
import { createHandler } from '../http/handler.js';
import type { HandlerOptions } from '../http/options.js';
import type { NodeHandler, NodeRequest, NodeResponse } from '../http/serve-node.js';

/** The part of Fastify's request that the adapter uses. */
export interface FastifyRequestLike {
  readonly raw: NodeRequest;
  /** Whatever else Fastify, its plugins and decorators have there; name `FastifyRequest` to have it checked. */
  // biome-ignore lint/suspicious/noExplicitAny: see above
  readonly [key: string]: any;
}

/** The part of Fastify's reply that the adapter uses. */
export interface FastifyReplyLike {
  readonly raw: NodeResponse;
  hijack(): unknown;
  getHeaders(): Record<string, number | string | string[] | undefined>;
}

/** The part of a Fastify instance that the plugin uses. */
export interface FastifyLike {
  all(path: string, options: object, handler: (request: never, reply: never) => unknown): unknown;
  addHook(name: 'preClose', hook: () => Promise<void>): unknown;
}

/** A handler for one route. */
export type FastifyHandler<Request extends FastifyRequestLike = FastifyRequestLike> = (
  request: Request,
  reply: FastifyReplyLike,
) => Promise<void>;

/**
 * Makes a route handler that turns requests into streams of `broker`. Callbacks get Node's request and, as their context,
 * Fastify's, so `request.user` of an earlier hook is there. Headers that earlier hooks set on the reply (CORS, helmet) are
 * kept. The reply is hijacked: `onSend` hooks do not run, `onResponse` hooks run when the stream ends.
 *
 * @example
 * fastify.get('/events', createFastifyHandler(broker, {
 *   authenticator: (_req, { user }) => (user ? { userId: user.id } : null),
 * }));
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function createFastifyHandler<Request extends FastifyRequestLike = FastifyRequestLike>(
  broker: HandlerBroker,
  options: HandlerOptions<IncomingMessage, Request> = {},
): FastifyHandler<Request> {
  return toFastifyHandler(createHandler(broker, options));
}

/** Makes a route handler of another handler of this package, as `createApi` makes one, in the same way. */
export function toFastifyHandler<Request extends FastifyRequestLike = FastifyRequestLike>(
  handle: NodeHandler<Request>,
): FastifyHandler<Request> {
  return (request, reply) => {
    // Fastify keeps them to itself until it sends. One that cannot be sent throws, and that is still Fastify's to answer.
    for (const [name, value] of Object.entries(reply.getHeaders())) {
      if (value !== undefined) reply.raw.setHeader(name, value);
    }
    reply.hijack();
    return handle(request.raw, reply.raw, request);
  };
}

/** A callback whose parameters may be annotated with Fastify's own types. */
type Callback<F extends (...args: never[]) => unknown> = { call(...args: Parameters<F>): ReturnType<F> }['call'];

type Options = HandlerOptions<IncomingMessage, FastifyRequestLike>;

/** Options of the plugin: those of every handler, and where to mount it. */
export interface FastifySseBrokerOptions extends Omit<Options, 'authenticator' | 'topicResolver' | 'onConnect'> {
  /** See `HandlerOptions`. */
  authenticator?: Callback<NonNullable<Options['authenticator']>> | undefined;
  /** See `HandlerOptions`. */
  topicResolver?: Callback<NonNullable<Options['topicResolver']>> | undefined;
  /** See `HandlerOptions`. */
  onConnect?: Callback<NonNullable<Options['onConnect']>> | undefined;
  /** Required. */
  broker: HandlerBroker & Pick<Broker<EventMap>, 'close'>;
  /** Default `/events`. */
  path?: string | undefined;
  /** Fastify's own option, for all routes of a plugin. */
  prefix?: string | undefined;
  /**
   * Whether `fastify.close()` closes the broker, which it must wait for: the server does not close while streams are
   * open. Options say how. Set it to false for a broker that outlives this server, and end its streams yourself.
   * Default true.
   */
  closeBroker?: boolean | CloseOptions | undefined;
}

async function mount(fastify: FastifyLike, options: FastifySseBrokerOptions): Promise<void> {
  const { broker, path = '/events', prefix = '', closeBroker = true, ...handlerOptions } = options;
  if (typeof broker?.connect !== 'function') {
    throw new SseError('SSE_ERR_INVALID_OPTION', `broker must be a Broker; got ${shown(broker)}`);
  }
  if (typeof path !== 'string' || !path.startsWith('/')) {
    throw new SseError('SSE_ERR_INVALID_OPTION', `path must be a string that starts with '/'; got ${shown(path)}`);
  }
  if (typeof closeBroker !== 'boolean' && (typeof closeBroker !== 'object' || closeBroker === null)) {
    throw new SseError(
      'SSE_ERR_INVALID_OPTION',
      `closeBroker must be true, false or options of broker.close; got ${shown(closeBroker)}`,
    );
  }
  const handler = createFastifyHandler(broker, handlerOptions);
  for (const route of routesOf(prefix, path)) fastify.all(route, {}, handler);
  if (closeBroker === false) return;
  // Before the server closes, which waits for every stream.
  fastify.addHook('preClose', async () => {
    await broker.close(closeBroker === true ? {} : closeBroker);
  });
}

/** Joined as Fastify joins them for plugins with a context: one slash between the two, and a path of `/` is there without it, too. */
function routesOf(prefix: string, path: string): string[] {
  const bare = prefix.replace(/\/+$/, '');
  const base = bare === '' || bare.startsWith('/') ? bare : `/${bare}`;
  return path === '/' && base !== '' ? [base, `${base}/`] : [base + path];
}

/**
 * Fastify plugin: mounts a broker on `path`, for every method, so that all but GET, HEAD and OPTIONS get their 405.
 *
 * It opens no context of its own, as if wrapped in `fastify-plugin`; `prefix`, which Fastify then ignores, is applied here.
 * Hooks of the instance that it is registered on guard the route wherever they are added, also later. Register it more
 * than once for more than one path; closing the broker twice is harmless. Nonsense rejects with `SSE_ERR_INVALID_OPTION`.
 *
 * @example
 * await fastify.register(sseBroker, {
 *   broker,
 *   path: '/events',
 *   authenticator: (_req, { user }) => (user ? { userId: user.id } : null),
 * });
 */
export const sseBroker = Object.assign(mount, {
  // What the package fastify-plugin would do; see "Plugins" in Fastify's reference.
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'sse-broker',
  [Symbol.for('plugin-meta')]: { name: 'sse-broker', fastify: '5.x' },
});
