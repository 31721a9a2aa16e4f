/** The routes that publish. With an inbox what they send waits for who is away; without one it reaches who is connected. */
import { isSseError } from '../core/errors.js';
import { PRIORITIES } from '../core/event.js';
import type { ApiBroker, ApiInbox } from './contracts.js';
import { conflict, dedupKeyOf } from './idempotency.js';
import { type Call, jsonRoute, type Outcome, type Route } from './route.js';
import type { Schemas, SendFields } from './schemas.js';

type Send = (options: object) => Promise<string>;

/** Gives the routes for a broker, and its inbox where there is one. */
export function sendRoutes(schemas: Schemas, broker: ApiBroker, inbox: ApiInbox | undefined): Route[] {
  const { Sent } = schemas;
  const replies = {
    202: { description: 'It has its place in the order, and is stored where it is to wait.', body: Sent },
  };
  const common = {
    method: 'POST',
    tag: 'sending',
    access: 'publish',
    isIdempotent: true,
    replies,
  } as const;
  const sent = async (call: Call<unknown, unknown, SendFields>, send: Send): Promise<Outcome> => ({
    status: 202,
    body: { event_id: await send(optionsOf(call, inbox !== undefined)).catch(inTermsOfTheHeader) },
  });

  return [
    jsonRoute({
      ...common,
      path: '/send',
      operationId: 'sendToUser',
      summary: 'Sends to all connections of a user.',
      body: schemas.SendToUser,
      run: (call) => {
        const { user_id, event_type, data } = call.body;
        return sent(call, (options) =>
          (inbox ?? broker).sendToUser(user_id, event_type as never, data as never, options),
        );
      },
    }),
    jsonRoute({
      ...common,
      path: '/send/group',
      operationId: 'sendToGroup',
      summary: 'Sends to who is in a group.',
      body: schemas.SendToGroup,
      run: (call) => {
        const { group, event_type, data } = call.body;
        return sent(call, (options) =>
          inbox === undefined
            ? broker.sendToTopic(group, event_type as never, data as never, options)
            : inbox.sendToGroup(group, event_type as never, data as never, options),
        );
      },
    }),
    jsonRoute({
      ...common,
      path: '/broadcast',
      operationId: 'broadcast',
      summary: 'Sends to everybody.',
      body: schemas.Broadcast,
      run: (call) => {
        const { event_type, data } = call.body;
        return sent(call, (options) => (inbox ?? broker).broadcast(event_type as never, data as never, options));
      },
    }),
  ];
}

/** The inbox knows no header. */
function inTermsOfTheHeader(error: unknown): never {
  throw isSseError(error) && error.code === 'SSE_ERR_IDEMPOTENCY_CONFLICT' ? conflict() : error;
}

/** The options of a send method, as the broker and the inbox both take them; what was not said is left out. */
function optionsOf({ body, caller, idempotencyKey }: Call<unknown, unknown, SendFields>, hasInbox: boolean): object {
  const { priority, ttl, persist } = body;
  return {
    ...(caller.tenantId !== undefined && { tenantId: caller.tenantId }),
    ...(priority !== undefined && { priority: PRIORITIES[priority] }),
    ...(ttl !== undefined && { ttl: ttl * 1_000 }),
    ...(persist !== undefined && { persist }),
    // What is not stored cannot be found again.
    ...(hasInbox &&
      persist !== false &&
      idempotencyKey !== undefined && { dedupKey: dedupKeyOf(caller.name, idempotencyKey), dedupConflict: 'reject' }),
  };
}
