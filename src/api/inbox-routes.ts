/** The routes of a user's own inbox. Whose it is, the credentials say; what else names a user is compared with them. */
import { PRIORITIES } from '../core/event.js';
import type { InboxMessage } from '../inbox/inbox-types.js';
import type { ApiInbox } from './contracts.js';
import { forbidden } from './errors.js';
import { type Caller, jsonRoute, type Route } from './route.js';
import { queryParameters, type Schemas } from './schemas.js';

/** Messages of a page where nothing else is asked for. */
const PAGE = 100;

export function inboxRoutes(schemas: Schemas, inbox: ApiInbox): Route[] {
  const common = { tag: 'inbox', access: 'user' } as const;
  const noSuchMessage = { 404: 'There is no such message for this user (any more).' };
  return [
    jsonRoute({
      ...common,
      method: 'GET',
      path: '/messages/pending',
      operationId: 'listPending',
      summary: 'Lists the messages of the user that wait: unread and unexpired, the oldest first.',
      query: queryParameters.pending,
      replies: { 200: { description: 'A page of them.', body: schemas.Messages } },
      errors: noSuchMessage,
      run: async ({ caller, query: { user_id, after, limit = PAGE } }) => {
        const { userId, tenantId } = own(caller, user_id);
        const messages = await inbox.pending(userId, { tenantId, after, limit });
        const next = messages.length < limit ? null : messages.at(-1)!.id;
        return { status: 200, body: { messages: messages.map(shownMessage), next } };
      },
    }),
    jsonRoute({
      ...common,
      method: 'POST',
      path: '/messages/read',
      operationId: 'markRead',
      summary: 'Marks messages of the user as read.',
      body: schemas.MarkRead,
      replies: { 200: { description: 'Done.', body: schemas.Marked } },
      errors: noSuchMessage,
      run: async ({ caller, body: { user_id, event_ids, up_to } }) => {
        const { userId, tenantId } = own(caller, user_id);
        const selection = event_ids ?? (up_to === undefined ? 'all' : { upTo: up_to });
        return { status: 200, body: { marked: await inbox.markRead(userId, selection, { tenantId }) } };
      },
    }),
    jsonRoute({
      ...common,
      method: 'GET',
      path: '/messages/unread',
      operationId: 'countUnread',
      summary: 'Counts the messages of the user that wait.',
      query: queryParameters.own,
      replies: { 200: { description: 'The count.', body: schemas.Unread } },
      run: async ({ caller, query: { user_id } }) => {
        const { userId, tenantId } = own(caller, user_id);
        return { status: 200, body: { unread: await inbox.unreadCount(userId, { tenantId }) } };
      },
    }),
    jsonRoute({
      ...common,
      method: 'POST',
      path: '/subscribe',
      operationId: 'subscribe',
      summary: 'Subscribes the user to a group, for good. Open streams have it at once.',
      description:
        'Needs the option `authorizeTopic`, which is asked whether the user may have the group; 403 without it.',
      body: schemas.Subscribe,
      replies: { 200: { description: 'Subscribed.', body: schemas.Subscribed } },
      errors: { 409: 'The user has `maxSubscriptionsPerUser` already.' },
      run: async ({ caller, body: { user_id, group, event_types }, mayHave }) => {
        const { userId, tenantId } = own(caller, user_id);
        if (!(await mayHave(group))) throw forbidden('this group is not for this user');
        return { status: 200, body: { created: await inbox.subscribe(userId, group, event_types, { tenantId }) } };
      },
    }),
    jsonRoute({
      ...common,
      method: 'POST',
      path: '/unsubscribe',
      operationId: 'unsubscribe',
      summary: 'Ends a subscription of the user. Its messages do not wait any more.',
      body: schemas.Unsubscribe,
      replies: { 200: { description: 'There is none now.', body: schemas.Unsubscribed } },
      run: async ({ caller, body: { user_id, group } }) => {
        const { userId, tenantId } = own(caller, user_id);
        return { status: 200, body: { removed: await inbox.unsubscribe(userId, group, { tenantId }) } };
      },
    }),
    jsonRoute({
      ...common,
      method: 'GET',
      path: '/subscriptions',
      operationId: 'listSubscriptions',
      summary: 'Lists the subscriptions of the user.',
      query: queryParameters.own,
      replies: { 200: { description: 'All of them.', body: schemas.Subscriptions } },
      run: async ({ caller, query: { user_id } }) => {
        const { userId, tenantId } = own(caller, user_id);
        const subscriptions = await inbox.subscriptions(userId, { tenantId });
        return {
          status: 200,
          body: {
            subscriptions: subscriptions.map(({ group, eventTypes }) => ({ group, event_types: eventTypes ?? null })),
          },
        };
      },
    }),
  ];
}

/** @throws {SseError} `SSE_ERR_FORBIDDEN` where the request names somebody else. */
function own(caller: Caller, named: string | undefined): Caller {
  if (named !== undefined && named !== caller.userId) throw forbidden('user_id is somebody else');
  return caller;
}

function shownMessage(message: InboxMessage): object {
  const { id, event, data, priority, status, group, isBroadcast, createdAt, expiresAt } = message;
  return {
    event_id: id,
    event_type: event,
    data,
    priority: PRIORITIES.indexOf(priority),
    status,
    group: group ?? null,
    is_broadcast: isBroadcast,
    created_at: createdAt,
    expire_at: expiresAt === 0 ? null : expiresAt,
  };
}
