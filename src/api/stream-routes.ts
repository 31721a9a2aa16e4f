/** The routes of streams and polling. The handlers of streams serve them, once it is known who comes and for which topics. */
import * as z from 'zod';
import type { Route, StreamRoute } from './route.js';
import { pathParameters, queryParameters, type Schemas } from './schemas.js';

export function streamRoutes(schemas: Schemas): Route[] {
  const common: Pick<StreamRoute, 'kind' | 'method' | 'tag' | 'access' | 'query' | 'replies' | 'errors'> = {
    kind: 'stream',
    method: 'GET',
    tag: 'streams',
    access: 'visitor',
    query: queryParameters.stream,
    replies: {
      200: {
        description: 'The stream. To a browser\'s EventSource also "come later", where the broker is full or closing.',
        body: z.string(),
        mediaType: 'text/event-stream',
      },
    },
    errors: { 406: 'The Accept header excludes event streams.' },
  };
  return [
    {
      ...common,
      path: '/stream',
      operationId: 'openStream',
      summary: 'Opens the event stream of who is asking, with the topics of the topic resolver.',
    },
    {
      ...common,
      path: '/stream/:id',
      operationId: 'openOwnStream',
      summary: 'Opens the same stream; `id` is the user, and must be who is asking.',
      params: pathParameters.ownId,
      asks: ({ id }) => ({ userId: id! }),
    },
    {
      ...common,
      path: '/stream/:group/:id',
      operationId: 'openTopicStream',
      summary: 'Opens the same stream with one topic more, `group:id`.',
      description:
        'The topic must be allowed: by `authorizeTopic`, or where that is not given by being among those of the topic resolver.',
      params: pathParameters.groupAndId,
      asks: ({ group, id }) => ({ topic: `${group}:${id}` }),
    },
    {
      ...common,
      kind: 'poll',
      path: '/poll',
      operationId: 'poll',
      summary: 'Gets what came after an event, and waits for it where it must: for clients without streams.',
      query: queryParameters.poll,
      replies: { 200: { description: 'What came, which may be nothing.', body: schemas.Poll } },
      errors: { 406: 'The Accept header excludes JSON.' },
    },
  ];
}
