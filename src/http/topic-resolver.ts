/** Which topics a stream starts with. */
import type { IncomingMessage } from 'node:http';
import type { Identity } from '../core/identity.js';
import { checkParameters, parametersOf, type RequestLike } from './request.js';

/** Tells which topics a client gets. What it throws refuses the request: see `Authenticator`. */
export type TopicResolver<Req = IncomingMessage, Context = unknown> = (
  req: Req,
  identity: Identity,
  context: Context,
) => readonly string[] | Promise<readonly string[]>;

/** Whether a client may have a topic; anything but true is 403. Asked for every topic of the resolver. */
export type AuthorizeTopic = (identity: Identity, topic: string) => boolean | Promise<boolean>;

/** Name of the query parameter that {@link queryTopicResolver} reads. */
export interface QueryTopicResolverOptions {
  /** Default `topics`. */
  parameter?: string | undefined;
}

/**
 * Topics as the client asks for them: `?topics=a,b`, also repeated. The client chooses freely, so give
 * `authorizeTopic` too, unless every topic is public.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function queryTopicResolver<Req extends RequestLike = IncomingMessage>(
  options: QueryTopicResolverOptions = {},
): TopicResolver<Req> {
  checkParameters('queryTopicResolver', options, ['parameter']);
  const { parameter = 'topics' } = options;
  return (req) => {
    const topics: string[] = [];
    for (const value of parametersOf(req, parameter)) {
      for (const part of value.includes(',') ? value.split(',') : [value]) {
        const topic = part.trim();
        if (topic !== '') topics.push(topic);
      }
    }
    return topics;
  };
}
