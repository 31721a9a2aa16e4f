/**
 * NestJS 11 and newer: a handler for a controller's method, on the Express and on the Fastify platform, and a module that
 * provides the broker and closes it. Typed by the part of Nest that is used; Nest itself is not imported.
 */
import type { IncomingMessage } from 'node:http';
import { Broker } from '../core/broker.js';
import type { EventMap } from '../core/event.js';
import type { CloseOptions } from '../core/shutdown.js';
import { checkBroker, type HandlerBroker } from '../http/arrival.js';
import { createHandler } from '../http/handler.js';
import type { HandlerOptions } from '../http/options.js';
import type { NodeHandler, NodeRequest, NodeResponse } from '../http/serve-node.js';
import { type FastifyReplyLike, type FastifyRequestLike, toFastifyHandler } from './fastify.js';

/** What `@Req()` gives; name the platform's own type to have it checked. */
export interface NestRequestLike {
  // biome-ignore lint/suspicious/noExplicitAny: see above
  readonly [key: string]: any;
}

/** Takes what `@Req()` and `@Res()` give. */
export type NestHandler<Request extends NestRequestLike = NestRequestLike> = (
  req: Request,
  res: object,
) => Promise<void>;

/**
 * Makes a handler that turns requests into streams of `broker`. Callbacks get Node's request and, as their context, what
 * `@Req()` gives, which is also what guards see: `request.user` of a guard is there on both platforms.
 *
 * @example
 * ```ts
 * @Controller('events')
 * class EventsController {
 *   readonly #open;
 *   constructor(broker: Broker) {
 *     this.#open = createNestHandler<Request>(broker, {
 *       authenticator: (_req, { user }) => (user ? { userId: user.id } : null),
 *     });
 *   }
 *   @All() events(@Req() req: Request, @Res() res: Response) { return this.#open(req, res); }
 * }
 * ```
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function createNestHandler<Request extends NestRequestLike = NestRequestLike>(
  broker: HandlerBroker,
  options: HandlerOptions<IncomingMessage, Request> = {},
): NestHandler<Request> {
  return toNestHandler(createHandler(broker, options));
}

/** Makes a handler of another one of this package, as `createApi` makes one, in the same way. */
export function toNestHandler<Request extends NestRequestLike = NestRequestLike>(
  handle: NodeHandler<Request>,
): NestHandler<Request> {
  const handleHijacked = toFastifyHandler<FastifyRequestLike & Request>(handle);
  return async (req, res) => {
    checkDecorators(req, res);
    return isFastifyReply(res)
      ? handleHijacked(req as FastifyRequestLike & Request, res)
      : handle(req as unknown as NodeRequest, res as NodeResponse, req);
  };
}

/** @throws {TypeError} A parameter that nothing decorates is undefined. */
function checkDecorators(req: unknown, res: unknown): void {
  if (typeof req === 'object' && req !== null && typeof res === 'object' && res !== null) return;
  throw new TypeError('this handler takes what @Req() and @Res() of NestJS give, in this order');
}

const isFastifyReply = (res: object): res is FastifyReplyLike => 'raw' in res && 'hijack' in res;

/** A broker of whatever events, as far as the module uses it. */
export type NestBroker = HandlerBroker & Pick<Broker<EventMap>, 'close'>;

/** Where the broker comes from, as in the `forRootAsync` of other modules. */
export interface NestAsyncOptions<Imports extends unknown[], Dependencies extends unknown[]> {
  /** Modules that provide what is injected. */
  imports?: Imports;
  /** Tokens of what `useFactory` is called with. */
  // biome-ignore lint/suspicious/noExplicitAny: a token is a class, a string, a symbol, or an object around one of them
  inject?: any[];
  /** Makes the broker. */
  useFactory: (...dependencies: Dependencies) => NestBroker | Promise<NestBroker>;
  /** How the broker is closed. */
  closeOptions?: CloseOptions | undefined;
}

/** What Nest calls a dynamic module. */
export interface NestDynamicModule<Imports extends unknown[]> {
  module: typeof SseBrokerModule;
  global: true;
  imports: Imports;
  // biome-ignore lint/suspicious/noExplicitAny: the arguments are what Nest injects
  providers: { provide: typeof Broker | symbol; inject: any[]; useFactory: (...dependencies: any[]) => unknown }[];
  exports: (typeof Broker)[];
}

/** Token of the provider whose only use is to be there when Nest shuts down. */
const CLOSER = Symbol('sse-broker.closer');

/**
 * Provides a broker to the whole application, by the token `Broker`, and closes it when the application shuts down: after
 * `onModuleDestroy` and before the server stops, which would otherwise wait for every stream. On a signal Nest does so
 * only after `app.enableShutdownHooks()`.
 *
 * @example
 * ```ts
 * @Module({ imports: [SseBrokerModule.forRoot(new Broker())], controllers: [EventsController] })
 * class AppModule {}
 * ```
 */
// biome-ignore lint/complexity/noStaticOnlyClass: Nest's modules are classes
export class SseBrokerModule {
  /**
   * Provides `broker`.
   *
   * @throws {SseError} `SSE_ERR_INVALID_OPTION`
   */
  static forRoot(broker: NestBroker, closeOptions?: CloseOptions): NestDynamicModule<[]> {
    checkBroker(broker);
    return SseBrokerModule.forRootAsync({ useFactory: () => broker, closeOptions });
  }

  /** Provides the broker that `useFactory` makes; where it makes none, the application does not start. */
  static forRootAsync<Imports extends unknown[] = [], Dependencies extends unknown[] = []>({
    imports,
    inject = [],
    useFactory,
    closeOptions,
  }: NestAsyncOptions<Imports, Dependencies>): NestDynamicModule<Imports> {
    return {
      module: SseBrokerModule,
      global: true,
      imports: imports ?? ([] as unknown[] as Imports),
      providers: [
        {
          provide: Broker,
          inject,
          useFactory: async (...dependencies: Dependencies) => {
            const broker = await useFactory(...dependencies);
            checkBroker(broker);
            return broker;
          },
        },
        {
          provide: CLOSER,
          inject: [Broker],
          useFactory: (broker: NestBroker) => ({
            beforeApplicationShutdown: async () => {
              await broker.close(closeOptions);
            },
          }),
        },
      ],
      exports: [Broker],
    };
  }
}
