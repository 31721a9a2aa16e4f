/**
 * The API without a framework: a request in, an answer out, or a stream's own handler to hand the request to.
 *
 * The order for every request: path and method, rate limit, who is asking, what goes in, and only then the deed. Nothing of a
 * body is read for somebody who may not send it.
 */
import type { ZodType } from 'zod';
import { isSseError, SseError, shown } from '../core/errors.js';
import type { Identity } from '../core/identity.js';
import { type Arrival, arrive, checkBroker, type OnceLeft, whilePresent } from '../http/arrival.js';
import type { RefusalStyle } from '../http/options.js';
import { type Answer, refusalOf, STREAM_HEADERS } from '../http/refusal.js';
import { headerOf, queryOf, type RequestLike } from '../http/request.js';
import { addVary, NO_HEADERS } from '../http/response-headers.js';
import type { TopicResolver } from '../http/topic-resolver.js';
import { adminRoutes, operationRoutes } from './admin-routes.js';
import { jsonBodyOf, type ReadBody } from './body.js';
import type { ApiBroker } from './contracts.js';
import { ApiError, errorAnswer, forbidden, invalid, JSON_HEADERS } from './errors.js';
import { checkIdempotencyKey, fingerprintOf, IdempotencyCache } from './idempotency.js';
import { inboxRoutes } from './inbox-routes.js';
import { makeDocument } from './openapi.js';
import { type ApiOptions, type ResolvedApiOptions, resolveApiOptions } from './options.js';
import type { Caller, JsonRoute, Route, StreamRoute } from './route.js';
import { below, makeRouter, type Place, pathOf } from './router.js';
import { makeSchemas } from './schemas.js';
import { type Authorize, checkGrant, grantOf, identityOf } from './scopes.js';
import { sendRoutes } from './send-routes.js';
import { streamRoutes } from './stream-routes.js';

/** A request, whatever brought it. */
export interface ApiRequest<Req, Context> {
  readonly raw: Req;
  readonly context: Context;
  readonly onceLeft: OnceLeft;
  /** Reads the body once, at most so many bytes; 0: any number. */
  readBody(maxBytes: number): Promise<ReadBody>;
}

/** What becomes of a request. Undefined: its sender left. */
export type ApiResult =
  | { readonly kind: 'answer'; readonly answer: Answer }
  | { readonly kind: 'stream' | 'poll'; readonly arrival: Arrival }
  | undefined;

const NOBODY: Caller = { userId: '', tenantId: undefined, name: '' };

/** The routes of one broker, with everything that they need between requests. */
export class Api<Req extends RequestLike, Context> {
  readonly #broker: ApiBroker;
  readonly #options: ResolvedApiOptions<Req, Context>;
  readonly #placeOf: (path: string) => Place | undefined;
  readonly #idempotency: IdempotencyCache<Answer>;

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
  constructor(broker: ApiBroker, options: ApiOptions<Req, Context>) {
    checkBroker(broker);
    this.#broker = broker;
    this.#options = resolveApiOptions(options);
    const { inbox, idempotencyTtl, maxIdempotencyKeys } = this.#options;
    this.#idempotency = new IdempotencyCache(
      { ttl: idempotencyTtl, maxKeys: maxIdempotencyKeys },
      broker.options.clock,
    );
    this.#placeOf = makeRouter(makeRoutes(broker, inbox));
  }

  /** The options of the stream's handlers, as given. */
  get handlerOptions(): ResolvedApiOptions<Req, Context>['handler'] {
    return this.#options.handler;
  }

  /** Serves one request; never rejects. */
  async serve(request: ApiRequest<Req, Context>): Promise<ApiResult> {
    const { raw } = request;
    let cors = NO_HEADERS;
    let route: Route | undefined;
    try {
      const path = below(this.#options.path, pathOf(raw.url ?? '/'));
      const place = path === undefined ? undefined : this.#placeOf(path);
      cors = this.#corsOf(raw, place);
      if (place === undefined) {
        throw new ApiError('SSE_ERR_NOT_FOUND', 'there is nothing at this path; see /openapi.json');
      }
      if (raw.method === 'OPTIONS') {
        return answering({ status: 204, headers: { Allow: methodsOf(place), ...cors }, body: '' });
      }
      route = place.routes.get(raw.method === 'HEAD' ? 'GET' : (raw.method ?? ''));
      if (route === undefined) {
        const headers = { Allow: methodsOf(place) };
        throw new ApiError('SSE_ERR_METHOD_NOT_ALLOWED', `use ${headers.Allow}`, { headers });
      }
      if (route.access !== 'everybody' && !(await this.#mayPass(request, route))) return undefined;
      if (route.kind !== 'json') return await this.#stream(request, route, place);
      const answer = await this.#json(request, route, place);
      return answer === undefined ? undefined : answering({ ...answer, headers: { ...answer.headers, ...cors } });
    } catch (error) {
      const answer = this.#refusalOf(raw, route, error);
      return answering({ ...answer, headers: { ...answer.headers, ...cors } });
    }
  }

  /** What the option says, which is about streams, with what other methods need. */
  #corsOf(raw: Req, place: Place | undefined): Readonly<Record<string, string>> {
    const isPreflight = raw.method === 'OPTIONS';
    const cors = this.#options.resolved.cors(raw, isPreflight);
    if (cors['Access-Control-Allow-Origin'] === undefined) return cors;
    if (!isPreflight) return { ...cors, 'Access-Control-Expose-Headers': 'Retry-After, Idempotency-Replayed' };
    return {
      ...addVary(cors, 'Access-Control-Request-Method'),
      'Access-Control-Allow-Methods': place === undefined ? '' : [...place.routes.keys()].join(', '),
      'Access-Control-Allow-Headers': `${cors['Access-Control-Allow-Headers']}, Content-Type, Idempotency-Key`,
    };
  }

  /**
   * False where the sender left meanwhile.
   *
   * @throws {SseError} `SSE_ERR_RATE_LIMITED`, `SSE_ERR_INTERNAL`, `SSE_ERR_AUTHENTICATION_TIMEOUT`
   */
  async #mayPass({ raw, context, onceLeft }: ApiRequest<Req, Context>, { method, path }: Route): Promise<boolean> {
    const { rateLimit, resolved } = this.#options;
    if (rateLimit === undefined) return true;
    const ask = async (): Promise<number> => {
      try {
        return checkWait(await rateLimit(raw, context, `${method} ${path}`));
      } catch (error) {
        // Whatever it is, and whatever status it has: the application's, and not for strangers.
        this.#broker.reportError(error, 'handler');
        throw new SseError('SSE_ERR_INTERNAL', 'the request could not be served');
      }
    };
    // What counts may be away, and then it would keep every request for ever.
    const wait = await whilePresent(ask(), resolved.authenticationTimeout, onceLeft);
    if (wait === undefined) return false;
    if (wait > 0) {
      throw new ApiError('SSE_ERR_RATE_LIMITED', 'too many requests; wait as long as Retry-After says', {
        retryAfter: wait,
      });
    }
    return true;
  }

  async #stream(request: ApiRequest<Req, Context>, route: StreamRoute, place: Place): Promise<ApiResult> {
    const asked = route.asks?.(checked(route.params, place.params) as Readonly<Record<string, string>>);
    const arrival = await this.#arrive(request, asked?.topic);
    if (arrival === undefined) return undefined;
    if (asked?.userId !== undefined && arrival.identity.userId !== asked.userId) {
      throw forbidden('this is the stream of somebody else');
    }
    return { kind: route.kind, arrival };
  }

  /** Whoever the Authenticator says, with the topics of the resolver, and `extra` where that is allowed. */
  #arrive({ raw, context, onceLeft }: ApiRequest<Req, Context>, extra: string | undefined) {
    const { resolved } = this.#options;
    if (extra === undefined) return arrive(this.#broker, resolved, raw, context, () => onceLeft);
    let given: readonly string[] = [];
    const topicResolver: TopicResolver<Req, Context> = async (req, identity, context) => {
      given = (await resolved.topicResolver?.(req, identity, context)) ?? [];
      return Array.isArray(given) && !given.includes(extra) ? [...given, extra] : given;
    };
    const authorizeTopic = resolved.authorizeTopic ?? ((_identity: Identity, topic: string) => given.includes(topic));
    return arrive(this.#broker, { ...resolved, topicResolver, authorizeTopic }, raw, context, () => onceLeft);
  }

  async #json(request: ApiRequest<Req, Context>, route: JsonRoute, place: Place): Promise<Answer | undefined> {
    const { raw, onceLeft } = request;
    const { authenticationTimeout } = this.#options.resolved;
    const known = await this.#callerOf(request, route);
    if (known === undefined) return undefined;
    const { caller, identity } = known;
    const params = checked(route.params, place.params);
    const query = checked(route.query, firstValuesOf(raw));
    const header = route.isIdempotent ? headerOf(raw, 'idempotency-key') : undefined;
    const idempotencyKey = header === undefined ? undefined : checkIdempotencyKey(header);
    let body: unknown;
    if (route.body !== undefined) {
      const read = await jsonBodyOf(raw, this.#options.maxBodyBytes, route.isBodyOptional === true, request.readBody);
      if (read === undefined) return undefined;
      body = checked(route.body, read.value);
    }
    const run = async (): Promise<Answer> => {
      const mayHave = async (topic: string) =>
        // Whoever has left is answered no more, so it may be no.
        (await whilePresent(this.#mayHave(identity, topic), authenticationTimeout, onceLeft)) ?? false;
      const outcome = await route.run({ caller, params, query, body, idempotencyKey, mayHave });
      return { status: outcome.status, headers: JSON_HEADERS, body: JSON.stringify(outcome.body) };
    };
    if (idempotencyKey === undefined) return run();
    const { value, isReplay } = await this.#idempotency.run(
      JSON.stringify([caller.tenantId, caller.name, idempotencyKey]),
      fingerprintOf(route.operationId, body),
      run,
    );
    return isReplay ? { ...value, headers: { ...value.headers, 'Idempotency-Replayed': 'true' } } : value;
  }

  /**
   * @returns undefined where the sender left meanwhile.
   * @throws {SseError} `SSE_ERR_UNAUTHENTICATED`, `SSE_ERR_FORBIDDEN`, and what the application's callbacks chose
   */
  async #callerOf(
    { raw, context, onceLeft }: ApiRequest<Req, Context>,
    { access }: JsonRoute,
  ): Promise<{ readonly caller: Caller; readonly identity: Identity } | undefined> {
    if (access === 'everybody') return { caller: NOBODY, identity: {} };
    const { resolved, authorize } = this.#options;
    const isUser = access === 'user' || access === 'visitor';
    if (!isUser && authorize === undefined) throw forbidden('nobody may do this: the API has no `authorize`');
    const arrival = await arrive(
      this.#broker,
      {
        ...resolved,
        authenticator: isUser ? resolved.authenticator : grantingIdentity(authorize!),
        topicResolver: undefined,
        authorizeTopic: undefined,
      },
      raw,
      context,
      () => onceLeft,
    );
    if (arrival === undefined) return undefined;
    const { identity } = arrival;
    const { userId, tenantId } = identity;
    if (!isUser) {
      const { scopes, name = '' } = grantOf(identity);
      if (!scopes.includes(access)) throw forbidden(`this needs the scope ${access}`);
      return { caller: { userId: '', tenantId, name }, identity };
    }
    if (userId === undefined) throw new SseError('SSE_ERR_UNAUTHENTICATED', 'a user is required');
    return { caller: { userId, tenantId, name: '' }, identity };
  }

  async #mayHave(identity: Identity, topic: string): Promise<boolean> {
    const { authorizeTopic } = this.#options.resolved;
    try {
      return authorizeTopic !== undefined && (await authorizeTopic(identity, topic)) === true;
    } catch (error) {
      this.#broker.reportError(error, 'topic-resolver', 'SSE_ERR_INTERNAL');
      const status = isSseError(error) && error.status !== undefined ? error.status : 500;
      throw new SseError('SSE_ERR_INTERNAL', 'it could not be determined who may have this group', { status });
    }
  }

  #refusalOf(raw: Req, route: Route | undefined, error: unknown): Answer {
    if (route === undefined || route.kind === 'json') return errorAnswer(this.#broker, error);
    const style = () => (route.kind === 'stream' ? this.#options.resolved.refusalOf(raw) : 'status');
    if (!(error instanceof ApiError)) return refusalOf(this.#broker, error, style);
    const answer = errorAnswer(this.#broker, error);
    if (error.retryAfter === undefined || !this.#isToldInStream(style)) return answer;
    const body = `retry: ${Math.ceil(error.retryAfter)}\n: ${error.code}\n\n`;
    return { status: 200, headers: STREAM_HEADERS, body };
  }

  /** Whether it is an EventSource, which takes a status for good. */
  #isToldInStream(style: () => RefusalStyle): boolean {
    try {
      return style() === 'stream';
    } catch (error) {
      this.#broker.reportError(error, 'handler');
      return false;
    }
  }
}

function makeRoutes(broker: ApiBroker, inbox: ResolvedApiOptions<never, never>['inbox']): Route[] {
  const schemas = makeSchemas(inbox !== undefined);
  let document: object | undefined;
  const routes: Route[] = [
    ...streamRoutes(schemas),
    ...sendRoutes(schemas, broker, inbox),
    ...(inbox === undefined ? [] : inboxRoutes(schemas, inbox)),
    ...adminRoutes(schemas, broker),
    // Made when it is first asked for.
    ...operationRoutes(schemas, broker, () => {
      document ??= makeDocument(routes, schemas);
      return document;
    }),
  ];
  return routes;
}

const answering = (answer: Answer): ApiResult => ({ kind: 'answer', answer });

/** `authorize` as an Authenticator: see `identityOf`. */
function grantingIdentity<Req, Context>(authorize: Authorize<Req, Context>) {
  return async (req: Req, context: Context): Promise<Identity | null> => {
    const given: unknown = await authorize(req, context);
    if (given === null || given === undefined || given === false) return null;
    try {
      return identityOf(checkGrant(given));
    } catch (cause) {
      // The application's mistake, not the caller's.
      throw new SseError('SSE_ERR_INTERNAL', 'authorize gave what is no grant; see cause', { cause });
    }
  };
}

/** @throws a TypeError where `rateLimit` gave what is no time: what is no number would let everybody pass. */
function checkWait(given: unknown): number {
  const wait = given ?? 0;
  if (typeof wait === 'number' && Number.isFinite(wait)) return wait;
  throw new TypeError(`rateLimit must give ms, or undefined; got ${shown(wait)}`);
}

/** Methods of a place, for `Allow`. */
function methodsOf({ routes }: Place): string {
  return [...routes.keys()]
    .flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method]))
    .join(', ')
    .concat(', OPTIONS');
}

/** Of a parameter that stands there twice the first counts, as it does for authenticators. */
function firstValuesOf(raw: RequestLike): Record<string, string> {
  const values: [string, string][] = [...queryOf(raw)];
  return Object.fromEntries(values.reverse());
}

/** @throws {SseError} `SSE_ERR_INVALID_REQUEST`, naming the first field that is wrong, and never its value. */
function checked(schema: ZodType | undefined, value: unknown): unknown {
  if (schema === undefined) return {};
  const { success, data, error } = schema.safeParse(value);
  if (success) return data;
  const [issue] = error.issues;
  if (issue?.code === 'unrecognized_keys') {
    const field = [...issue.path, issue.keys[0]!].join('.').slice(0, 100);
    throw invalid(field, 'is not known here');
  }
  const field = issue === undefined || issue.path.length === 0 ? 'body' : issue.path.join('.');
  throw invalid(field, problemOf(issue?.message ?? 'Invalid input'));
}

/** zod's words after a name: `Invalid input: expected string, …` as `is invalid: expected string, …`. */
function problemOf(message: string): string {
  return /^(must|is) /.test(message) ? message : `is invalid: ${message.replace(/^Invalid (input|option): /, '')}`;
}
