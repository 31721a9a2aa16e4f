/**
 * From a request to somebody who may connect: method and Accept, authenticator, topics and their authorisation,
 * limits. The same steps for every kind of handler; nothing here answers, and nothing here is left behind.
 */
import type { Broker } from '../core/broker.js';
import { isSseError, SseError } from '../core/errors.js';
import type { EventMap } from '../core/event.js';
import { ANONYMOUS, type Identity } from '../core/identity.js';
import type { ResolvedHandlerOptions } from './options.js';
import { accepts, lastEventIdOf, type MediaType, type RequestLike } from './request.js';

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

const NO_TOPICS: readonly string[] = [];

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
 * Runs the application's callbacks and the broker's admission.
 *
 * @throws {SseError} with a status, and with a message that may be shown to the client.
 */
export async function arrive<Req extends RequestLike, Context>(
  broker: HandlerBroker,
  options: ResolvedHandlerOptions<Req, Context>,
  req: Req,
  context: Context,
): Promise<Arrival> {
  const { authenticationTimeout } = options;
  const { authenticator, topicResolver } = options;
  let identity: Identity = ANONYMOUS;
  let topics: readonly string[] = NO_TOPICS;
  if (authenticator !== undefined || topicResolver !== undefined) {
    const identified = identify(broker, options, req, context);
    [identity, topics] =
      authenticationTimeout > 0 ? await withinTime(identified, authenticationTimeout) : await identified;
  }
  broker.admit(identity, topics);
  return { identity, topics, lastEventId: lastEventIdOf(req) };
}

async function identify<Req extends RequestLike, Context>(
  broker: HandlerBroker,
  options: ResolvedHandlerOptions<Req, Context>,
  req: Req,
  context: Context,
): Promise<[Identity, readonly string[]]> {
  const { authenticator, topicResolver, authorizeTopic } = options;
  let identity: Identity | null = ANONYMOUS;
  try {
    if (authenticator !== undefined) identity = await authenticator(req, context);
  } catch (error) {
    broker.reportError(error, 'authenticator', 'SSE_ERR_UNAUTHENTICATED');
    // The application may choose the status; what it says of the reason stays here.
    if (isSseError(error) && error.status !== undefined) {
      throw new SseError(error.code, 'authentication failed', { status: error.status, retryable: error.retryable });
    }
    throw unauthenticated();
  }
  if (typeof identity !== 'object' || identity === null) throw unauthenticated();
  if (
    identity.expiresAt !== undefined &&
    identity.expiresAt !== 0 &&
    !(identity.expiresAt > broker.options.clock.now())
  ) {
    throw unauthenticated();
  }
  if (topicResolver === undefined) return [identity, NO_TOPICS];
  try {
    const topics = await topicResolver(req, identity, context);
    if (!Array.isArray(topics)) throw new TypeError('a topic resolver must return an array of topics');
    // Before anybody is asked about ten thousand of them.
    broker.admit(identity, topics);
    if (authorizeTopic !== undefined) {
      for (const topic of topics) {
        if ((await authorizeTopic(identity, topic)) !== true) {
          throw new SseError('SSE_ERR_FORBIDDEN', 'one of the topics is not for this client');
        }
      }
    }
    return [identity, topics];
  } catch (error) {
    if (isSseError(error) && error.status !== undefined) throw error;
    broker.reportError(error, 'topic-resolver');
    throw new SseError('SSE_ERR_INTERNAL', 'the topics could not be determined');
  }
}

function unauthenticated(): SseError {
  return new SseError('SSE_ERR_UNAUTHENTICATED', 'authentication is required');
}

function withinTime<T>(promise: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new SseError('SSE_ERR_AUTHENTICATION_TIMEOUT', 'authentication took too long; try again')),
      ms,
    );
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
