/** Which topics a stream starts with. */
import type { IncomingMessage } from 'node:http';
import type { Identity } from '../core/identity.js';
import { queryOf, type RequestLike } from './request.js';

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
 */
export function queryTopicResolver(options: QueryTopicResolverOptions = {}): TopicResolver<RequestLike> {
  const { parameter = 'topics' } = options;
  return (req) =>
    queryOf(req)
      .getAll(parameter)
      .flatMap((value) => value.split(','))
      .map((topic) => topic.trim())
      .filter((topic) => topic !== '');
}
