/**
 * From a request to somebody who may connect: method and Accept, authenticator, topics and their authorisation.
 * The same steps for every kind of handler; nothing here answers, and nothing here is left behind.
 */
import type { Broker } from '../core/broker.js';
import { isThenable } from '../core/diagnostics.js';
import { type ErrorCode, isSseError, SseError, shown } from '../core/errors.js';
import type { EventMap } from '../core/event.js';
import { ANONYMOUS, type Identity } from '../core/identity.js';
import { checkTenantId, checkUserId } from '../core/topic.js';
import type { ResolvedHandlerOptions } from './options.js';
import { accepts, lastEventIdOf, type MediaType, type RequestLike } from './request.js';
import { type Steps, settled, take } from './steps.js';

/** Somebody who may connect. */
export interface Arrival {
  readonly identity: Identity;
  readonly topics: readonly string[];
  readonly lastEventId: string | undefined;
}

/** The part of a broker that handlers use, whatever its events. */
export type HandlerBroker = Pick<
  Broker<EventMap>,
  'admit' | 'connect' | 'getClient' | 'refused' | 'reportError' | 'options'
>;

/** Calls `callback` when the client leaves, not from inside; returns its undo, which may be called twice. */
export type OnceLeft = (callback: () => void) => () => void;

const NO_TOPICS: readonly string[] = [];

/** @throws {SseError} `SSE_ERR_INVALID_OPTION`: a handler without a broker would fail at every request. */
export function checkBroker(broker: unknown): void {
  const { admit, connect } = (broker ?? {}) as Partial<HandlerBroker>;
  if (typeof admit !== 'function' || typeof connect !== 'function') {
    throw new SseError('SSE_ERR_INVALID_OPTION', `broker must be a Broker; got ${shown(broker)}`);
  }
}

/** @throws {SseError} `SSE_ERR_METHOD_NOT_ALLOWED`, `SSE_ERR_NOT_ACCEPTABLE` */
export function checkRequest(req: RequestLike, mediaType: MediaType): void {
  if (req.method !== 'GET' && req.method !== 'HEAD') {
    throw new SseError('SSE_ERR_METHOD_NOT_ALLOWED', 'use GET');
  }
  if (!accepts(req, mediaType)) {
    throw new SseError('SSE_ERR_NOT_ACCEPTABLE', `this resource is ${mediaType} only; check the Accept header`);
  }
}

/**
 * Runs the application's callbacks, at once where none of them waits. Whoever calls this asks the broker's `admit` in the turn in which it connects: of many
 * who arrive at once each is still alone here. Undefined where the client left before the callbacks were through: they
 * may never be.
 *
 * @throws {SseError} (or rejects) with a status, and with a message that may be shown to the client.
 */
export function arrive<Req extends RequestLike, Context>(
  broker: HandlerBroker,
  options: ResolvedHandlerOptions<Req, Context>,
  req: Req,
  context: Context,
  onceLeft: OnceLeft,
): Arrival | Promise<Arrival | undefined> {
  const identified = take(identify(broker, options, req, context));
  return isThenable(identified) ? whilePresent(identified, options.authenticationTimeout, onceLeft) : identified;
}

function* identify<Req extends RequestLike, Context>(
  broker: HandlerBroker,
  { authenticator, topicResolver, authorizeTopic }: ResolvedHandlerOptions<Req, Context>,
  req: Req,
  context: Context,
): Steps<Arrival> {
  let identity: Identity = ANONYMOUS;
  if (authenticator !== undefined) {
    const given = yield* guarded(broker, 'authenticator', () => authenticator(req, context));
    // Undefined and false are what `req.user` and `isValid && …` come to.
    if (given === null || given === undefined || (given as unknown) === false) throw unauthenticated();
    identity = checkIdentity(broker, given);
    checkExpiry(broker, identity);
  }
  const lastEventId = lastEventIdOf(req);
  if (topicResolver === undefined) return { identity, topics: NO_TOPICS, lastEventId };
  const topics = yield* guarded(broker, 'topic-resolver', () => topicResolver(req, identity, context), checkList);
  // Before anybody is asked about ten thousand of them.
  broker.admit(identity, topics);
  if (authorizeTopic !== undefined) {
    for (const topic of topics) {
      if ((yield* guarded(broker, 'topic-resolver', () => authorizeTopic(identity, topic))) !== true) {
        throw new SseError('SSE_ERR_FORBIDDEN', 'one of the topics is not for this client');
      }
    }
  }
  checkExpiry(broker, identity);
  return { identity, topics, lastEventId };
}

/**
 * Calls the application, and `check` with what it gives. What either throws is reported, and not shown to the client; an `SseError` keeps its status, so that
 * the application may choose one.
 */
function* guarded<T>(
  broker: HandlerBroker,
  origin: CallbackOrigin,
  call: () => T | Promise<T>,
  check: (value: T) => T = (value) => value,
): Steps<T> {
  try {
    return check(yield* settled(call()));
  } catch (error) {
    const { code, message } = FAILURES[origin];
    broker.reportError(error, origin, code);
    if (isSseError(error) && error.status !== undefined) {
      throw new SseError(error.code, message, { status: error.status, retryable: error.retryable });
    }
    throw new SseError(code, message);
  }
}

type CallbackOrigin = 'authenticator' | 'topic-resolver';

const FAILURES: Readonly<Record<CallbackOrigin, { code: ErrorCode; message: string }>> = {
  authenticator: { code: 'SSE_ERR_UNAUTHENTICATED', message: 'authentication failed' },
  'topic-resolver': { code: 'SSE_ERR_INTERNAL', message: 'the topics could not be determined' },
};

/** An identity that cannot be one is the application's mistake, not the client's: it is reported, and 500. */
function checkIdentity(broker: HandlerBroker, given: Identity): Identity {
  try {
    if (typeof given !== 'object' || Array.isArray(given)) {
      throw new TypeError(`an authenticator must give an identity or null; got ${shown(given)}`);
    }
    const { userId, tenantId, expiresAt } = given;
    if (userId !== undefined) checkUserId(userId);
    if (tenantId !== undefined) checkTenantId(tenantId);
    if (expiresAt !== undefined && (typeof expiresAt !== 'number' || Number.isNaN(expiresAt))) {
      throw new TypeError(`expiresAt of an identity must be a number, ms since 1970; got ${shown(expiresAt)}`);
    }
    return given;
  } catch (error) {
    broker.reportError(error, 'authenticator');
    throw new SseError('SSE_ERR_INTERNAL', 'authentication failed');
  }
}

/** Asked again after every wait: authorisation may have taken longer than the identity lives. */
function checkExpiry(broker: HandlerBroker, { expiresAt = 0 }: Identity): void {
  if (expiresAt !== 0 && expiresAt <= broker.options.clock.now()) throw unauthenticated();
}

/** A copy: what is authorised is what the client gets. */
function checkList(topics: unknown): readonly string[] {
  if (!Array.isArray(topics)) throw new TypeError(`a topic resolver must give an array; got ${shown(topics)}`);
  const copy: unknown[] = [...topics];
  const stranger = copy.findIndex((topic) => typeof topic !== 'string');
  if (stranger !== -1) {
    throw new TypeError(`a topic resolver must give strings; got ${shown(copy[stranger])} at ${stranger}`);
  }
  return copy as string[];
}

function unauthenticated(): SseError {
  return new SseError('SSE_ERR_UNAUTHENTICATED', 'authentication is required');
}

/** Waits at most `ms` (0: for ever), and only for as long as the client does; undefined where it left. */
function whilePresent<T>(promise: Promise<T>, ms: number, onceLeft: OnceLeft): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const timer = ms > 0 ? setTimeout(() => settle(() => reject(timedOut())), ms) : undefined;
    // The connection holds the process, where there is still one.
    timer?.unref?.();
    const stay = onceLeft(() => settle(() => resolve(undefined)));
    const settle = (how: () => void): void => {
      clearTimeout(timer);
      stay();
      how();
    };
    promise.then(
      (value) => settle(() => resolve(value)),
      (error: unknown) => settle(() => reject(error)),
    );
  });
}

function timedOut(): SseError {
  return new SseError('SSE_ERR_AUTHENTICATION_TIMEOUT', 'authentication took too long; try again');
}

/** Calls `onConnect`. What it throws is reported; the stream stays. */
export async function tellConnected<Req, Context>(
  broker: HandlerBroker,
  { onConnect }: ResolvedHandlerOptions<Req, Context>,
  clientId: string | undefined,
  req: Req,
  context: Context,
): Promise<void> {
  const client = clientId === undefined || onConnect === undefined ? undefined : broker.getClient(clientId);
  if (client === undefined) return;
  try {
    await onConnect!(client, req, context);
  } catch (error) {
    broker.reportError(error, 'handler');
  }
}
