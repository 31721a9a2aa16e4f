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
import { accepts, deviceOf, lastEventIdOf, type MediaType, type RequestLike } from './request.js';

/** Somebody who may connect. */
export interface Arrival {
  readonly identity: Identity;
  readonly topics: readonly string[];
  readonly lastEventId: string | undefined;
  /** How the client names its device, for an inbox. */
  readonly device: string | undefined;
}

/** The part of a broker that handlers use, whatever its events. */
export type HandlerBroker = Pick<
  Broker<EventMap>,
  'admit' | 'connect' | 'getClient' | 'refused' | 'reportError' | 'options' | 'whenStreaming'
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

/** The refusal of a broker that is closing or closed; undefined where it is open, full or not. */
export function closingOf(broker: HandlerBroker): SseError | undefined {
  try {
    broker.admit(ANONYMOUS);
  } catch (error) {
    if (isSseError(error) && error.code === 'SSE_ERR_BROKER_CLOSED') return error;
  }
  return undefined;
}

/**
 * Runs the application's callbacks, at once where none of them waits: without a promise, a timer or a listener, and most
 * connects go that way. Whoever calls this asks the broker's `admit` in the turn in which it connects: of many who arrive
 * at once each is still alone here. A promise resolves to undefined where the client left before the callbacks were
 * through: they may never be. `presence` gives what tells that; it is asked for only where somebody waits.
 *
 * @throws {SseError} (or rejects) with a status, and with a message that may be shown to the client.
 */
export function arrive<Req extends RequestLike, Context>(
  broker: HandlerBroker,
  options: ResolvedHandlerOptions<Req, Context>,
  req: Req,
  context: Context,
  presence: () => OnceLeft,
): Arrival | Promise<Arrival | undefined> {
  const arrived = new Arriving(broker, options, req, context).identify();
  return isThenable(arrived) ? whilePresent(arrived, options.authenticationTimeout, presence()) : arrived;
}

/** The steps, one after the other: each goes on to the next, or leaves that to the promise it was given. */
class Arriving<Req extends RequestLike, Context> {
  readonly #broker: HandlerBroker;
  readonly #options: ResolvedHandlerOptions<Req, Context>;
  readonly #req: Req;
  readonly #context: Context;
  #identity: Identity = ANONYMOUS;
  #topics: readonly string[] = NO_TOPICS;

  constructor(broker: HandlerBroker, options: ResolvedHandlerOptions<Req, Context>, req: Req, context: Context) {
    this.#broker = broker;
    this.#options = options;
    this.#req = req;
    this.#context = context;
  }

  identify(): Arrival | Promise<Arrival> {
    const { authenticator } = this.#options;
    if (authenticator === undefined) return this.#resolveTopics();
    let given: Identity | null | Promise<Identity | null>;
    try {
      given = authenticator(this.#req, this.#context);
    } catch (error) {
      throw failed(this.#broker, 'authenticator', error);
    }
    return isThenable(given) ? this.#identifiedLater(given) : this.#identified(given);
  }

  async #identifiedLater(promise: PromiseLike<Identity | null>): Promise<Arrival> {
    return this.#identified(await outcomeOf(this.#broker, 'authenticator', promise));
  }

  #identified(given: Identity | null): Arrival | Promise<Arrival> {
    // Undefined and false are what `req.user` and `isValid && …` come to.
    if (given === null || given === undefined || (given as unknown) === false) throw unauthenticated();
    this.#identity = checkIdentity(this.#broker, given);
    checkExpiry(this.#broker, this.#identity);
    return this.#resolveTopics();
  }

  #resolveTopics(): Arrival | Promise<Arrival> {
    const { topicResolver } = this.#options;
    if (topicResolver === undefined) return this.#arrived();
    let given: readonly string[] | Promise<readonly string[]>;
    try {
      given = topicResolver(this.#req, this.#identity, this.#context);
    } catch (error) {
      throw failed(this.#broker, 'topic-resolver', error);
    }
    return isThenable(given) ? this.#resolvedLater(given) : this.#resolved(given);
  }

  async #resolvedLater(promise: PromiseLike<readonly string[]>): Promise<Arrival> {
    return this.#resolved(await outcomeOf(this.#broker, 'topic-resolver', promise));
  }

  #resolved(given: readonly string[]): Arrival | Promise<Arrival> {
    try {
      this.#topics = checkList(given);
    } catch (error) {
      throw failed(this.#broker, 'topic-resolver', error);
    }
    if (this.#options.authorizeTopic !== undefined) {
      // Before anybody is asked about ten thousand of them.
      this.#broker.admit(this.#identity, this.#topics);
      for (let i = 0; i < this.#topics.length; i++) {
        const isAllowed = this.#ask(i);
        if (isThenable(isAllowed)) return this.#authorizedLater(i, isAllowed);
        if (isAllowed !== true) throw forbidden();
      }
    }
    return this.#arrived();
  }

  async #authorizedLater(at: number, first: PromiseLike<boolean>): Promise<Arrival> {
    if ((await outcomeOf(this.#broker, 'topic-resolver', first)) !== true) throw forbidden();
    for (let i = at + 1; i < this.#topics.length; i++) {
      const isAllowed = this.#ask(i);
      const answer = isThenable(isAllowed) ? await outcomeOf(this.#broker, 'topic-resolver', isAllowed) : isAllowed;
      if (answer !== true) throw forbidden();
    }
    return this.#arrived();
  }

  #ask(at: number): boolean | Promise<boolean> {
    try {
      return this.#options.authorizeTopic!(this.#identity, this.#topics[at]!);
    } catch (error) {
      throw failed(this.#broker, 'topic-resolver', error);
    }
  }

  #arrived(): Arrival {
    checkExpiry(this.#broker, this.#identity);
    const lastEventId = lastEventIdOf(this.#req);
    return { identity: this.#identity, topics: this.#topics, lastEventId, device: deviceOf(this.#req) };
  }
}

/** What a callback's promise comes to; its rejection like a throw: see {@link failed}. */
async function outcomeOf<T>(broker: HandlerBroker, origin: CallbackOrigin, promise: PromiseLike<T>): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    throw failed(broker, origin, error);
  }
}

/**
 * What a callback threw, as the client may know it. The error itself is reported, and not shown; an `SseError` keeps its
 * status, so that the application may choose one.
 */
function failed(broker: HandlerBroker, origin: CallbackOrigin, error: unknown): SseError {
  const { code, message } = FAILURES[origin];
  broker.reportError(error, origin, code);
  if (isSseError(error) && error.status !== undefined) {
    return new SseError(error.code, message, { status: error.status, retryable: error.retryable });
  }
  return new SseError(code, message);
}

type CallbackOrigin = 'authenticator' | 'topic-resolver';

const FAILURES: Readonly<Record<CallbackOrigin, { code: ErrorCode; message: string }>> = {
  authenticator: { code: 'SSE_ERR_UNAUTHENTICATED', message: 'authentication failed' },
  'topic-resolver': { code: 'SSE_ERR_INTERNAL', message: 'the topics could not be determined' },
};

/** Seconds from 2001 to 5138; as milliseconds, days of the early seventies. */
const SECONDS_FROM = 1e9;
const SECONDS_TO = 1e11;

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
    // As a JWT's `exp` has it: every request would be refused as expired, and nothing would say why.
    if (expiresAt !== undefined && expiresAt >= SECONDS_FROM && expiresAt < SECONDS_TO) {
      throw new TypeError(`expiresAt of an identity must be ms since 1970; got ${expiresAt}, which looks like seconds`);
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

function forbidden(): SseError {
  return new SseError('SSE_ERR_FORBIDDEN', 'one of the topics is not for this client');
}

function unauthenticated(): SseError {
  return new SseError('SSE_ERR_UNAUTHENTICATED', 'authentication is required');
}

/** Waits at most `ms` (0: for ever), and only for as long as the client does; undefined where it left. */
export function whilePresent<T>(promise: Promise<T>, ms: number, onceLeft: OnceLeft): Promise<T | undefined> {
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

/**
 * Calls `onConnect` when the client gets what is sent from then on: a bus across a network needs time to join. What it
 * throws is reported; the stream stays.
 */
export async function tellConnected<Req, Context>(
  broker: HandlerBroker,
  { onConnect }: ResolvedHandlerOptions<Req, Context>,
  clientId: string | undefined,
  req: Req,
  context: Context,
): Promise<void> {
  if (clientId === undefined || onConnect === undefined) return;
  const streaming = broker.whenStreaming(clientId);
  if (streaming !== undefined) await streaming;
  const client = broker.getClient(clientId);
  if (client === undefined) return;
  try {
    await onConnect(client, req, context);
  } catch (error) {
    broker.reportError(error, 'handler');
  }
}
