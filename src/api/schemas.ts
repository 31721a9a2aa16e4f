/**
 * What goes in and comes out, once: the same schemas validate requests and make the OpenAPI document, so the two cannot
 * disagree. Names in JSON are snake_case; durations that come in are seconds, times are ms since 1970.
 */
import * as z from 'zod';
import { MAX_EVENT_NAME_LENGTH, RESERVED_EVENT_NAMES } from '../core/event.js';
import { MAX_NAME_LENGTH } from '../core/topic.js';

/** Most messages or clients of one page. */
const MAX_PAGE = 1_000;
/** Most ids, or types, of one call. */
const MAX_LIST = 1_000;
/** Ten years: what is meant to last longer has no end. */
const MAX_TTL_SECONDS = 10 * 365 * 24 * 3600;

const wellFormed = (text: string): boolean => text.isWellFormed();
const UNPAIRED = 'must be well-formed Unicode';

/** Zod and JSON Schema count code points, the core counts UTF-16 units: what is longer only so is refused here, too. */
const units = (max: number) =>
  [(text: string): boolean => text.length <= max, `must have at most ${max} UTF-16 units`] as const;

/** As `nameProblem` of the core has it. */
const name = (description: string) =>
  z
    .string()
    .min(1)
    .max(MAX_NAME_LENGTH)
    .refine(...units(MAX_NAME_LENGTH))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: refusing control characters is what it is for
    .regex(/^[^\u0000-\u001f\u007f]*$/, 'must not contain control characters')
    .refine(wellFormed, UNPAIRED)
    .meta({ description });

const userId = name('A user.');
const group = name('A group, which is a topic of the streams.');

const eventType = z
  .string()
  .min(1)
  .max(MAX_EVENT_NAME_LENGTH)
  .refine(...units(MAX_EVENT_NAME_LENGTH))
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what would end or cut off the line on the wire
  .regex(/^[^\u0000\r\n]*$/, 'must not contain CR, LF or NUL')
  .refine((type) => !RESERVED_EVENT_NAMES.has(type), 'is reserved for the broker itself')
  .refine(wellFormed, UNPAIRED)
  .meta({ description: 'The name of the event.', not: { enum: [...RESERVED_EVENT_NAMES] } });

const data = z
  .unknown()
  .refine((value) => value !== undefined, 'is required')
  // In an object JSON escapes what has no UTF-8.
  .refine((value) => typeof value !== 'string' || wellFormed(value), UNPAIRED)
  .meta({ description: 'Any JSON value. A string is sent as it is, anything else as JSON.' });

const priority = z.literal([0, 1, 2]).meta({
  description: '0 normal, 1 high, 2 urgent. Orders what waits: at a connect, and in the queue of a slow client.',
});

const ttl = z
  .int()
  .min(0)
  .max(MAX_TTL_SECONDS)
  .meta({ description: 'How long it is worth delivering, in seconds. 0 or absent: for ever.' });

const messageId = z
  .string()
  .min(1)
  .max(128)
  .meta({ description: 'The id of a message: its `event_id`, or the SSE id it came with.' });

const ms = (description: string) =>
  z
    .int()
    .min(0)
    .meta({ description: `${description}, in ms since 1970` });
const count = (description: string) => z.int().min(0).meta({ description });

const persist = z.boolean().optional().meta({ description: 'False: only to who is connected now. Default true.' });

/** What every send takes; what only an inbox can keep to is there only with one. */
const sendFields = (hasInbox: boolean) => ({
  event_type: eventType,
  data,
  priority: priority.optional(),
  ttl: ttl.optional(),
  ...((hasInbox ? { persist } : {}) as { persist: typeof persist }),
});

/** The fields of a send as the routes read them. */
export interface SendFields {
  readonly event_type: string;
  readonly data?: unknown;
  readonly priority?: 0 | 1 | 2 | undefined;
  readonly ttl?: number | undefined;
  readonly persist?: boolean | undefined;
}

/** Where a body may name the user whom the credentials name anyway. */
const ownUserId = userId.optional().meta({ description: 'May be given, and must be who is asking.' });

const page = {
  limit: z.coerce.number().int().min(1).max(MAX_PAGE).optional().meta({ description: 'Most of them. Default 100.' }),
};

const message = z.strictObject({
  event_id: z.string(),
  event_type: z.string(),
  data: z.unknown().meta({ description: 'As it was sent.' }),
  priority,
  status: z.enum(['pending', 'sent', 'read']).meta({
    description:
      '`pending` until a device of its user is known to have it; what is for many is `sent` once it is published.',
  }),
  group: z.string().nullable().meta({ description: 'The group it was sent to.' }),
  is_broadcast: z.boolean().meta({ description: 'Whether it was sent to everybody.' }),
  created_at: ms('When it was sent'),
  expire_at: z.int().min(0).nullable().meta({ description: 'When it expires, in ms since 1970. Null: never' }),
});

const subscription = z.strictObject({
  group,
  event_types: z.array(z.string()).nullable().meta({ description: 'Null: all types.' }),
});

const node = z.strictObject({
  id: z.string(),
  name: z.string().nullable(),
  is_self: z.boolean().meta({ description: 'Whether it is the one that answers.' }),
  clients: count('Open streams'),
  users: count('Users with a stream'),
  topics: count('Topics that clients have'),
});

const connection = z.strictObject({
  client_id: z.string(),
  node_id: z.string(),
  user_id: z.string().nullable(),
  tenant_id: z.string().nullable(),
  session_id: z.string().nullable(),
  connected_at: ms('Since when'),
  topics: z.array(z.string()).nullable().meta({ description: 'Null for a client of another node.' }),
  queued_bytes: z.int().min(0).nullable().meta({
    description: 'Bytes that wait because its socket is full. Null for a client of another node.',
  }),
});

/** Every schema that has a name in the document, by that name. Made once for each API. */
export function makeSchemas(hasInbox: boolean) {
  return {
    Error: z
      .strictObject({
        error: z.strictObject({
          code: z
            .string()
            .regex(/^SSE_ERR_[A-Z_]+$/)
            .meta({ description: 'Stable; for programs.' }),
          message: z.string().meta({ description: 'For people.' }),
          field: z.string().optional().meta({ description: 'What is wrong, with 400.' }),
        }),
      })
      .meta({ description: 'Why a request was refused.' }),
    SendToUser: z.strictObject({ user_id: userId, ...sendFields(hasInbox) }),
    SendToGroup: z.strictObject({ group, ...sendFields(hasInbox) }),
    Broadcast: z.strictObject(sendFields(hasInbox)),
    Sent: z.strictObject({ event_id: z.string().meta({ description: 'The id of the event or message.' }) }),
    Message: message,
    Messages: z.strictObject({
      messages: z.array(message).meta({ description: 'The oldest first.' }),
      next: z
        .string()
        .nullable()
        .meta({ description: 'What to give as `after` for the next page; null after the last.' }),
    }),
    MarkRead: z
      .strictObject({
        user_id: ownUserId,
        event_ids: z.array(messageId).min(1).max(MAX_LIST).optional().meta({ description: 'These.' }),
        up_to: messageId.optional().meta({ description: 'This one, and all that are not newer.' }),
        all: z.literal(true).optional().meta({ description: 'All there are.' }),
      })
      .refine(
        ({ event_ids, up_to, all }) => [event_ids, up_to, all].filter((one) => one !== undefined).length === 1,
        'must have exactly one of event_ids, up_to and all',
      )
      .meta({ oneOf: [{ required: ['event_ids'] }, { required: ['up_to'] }, { required: ['all'] }] }),
    Marked: z.strictObject({ marked: count('Messages that were unread and are read now') }),
    Unread: z.strictObject({ unread: count('Messages that wait') }),
    Subscribe: z.strictObject({
      user_id: ownUserId,
      group,
      event_types: z
        .array(eventType)
        .min(1)
        .max(MAX_LIST)
        .optional()
        .meta({ description: 'Only these. Default: all.' }),
    }),
    Subscribed: z.strictObject({
      created: z.boolean().meta({ description: 'False: it was there, and was replaced.' }),
    }),
    Unsubscribe: z.strictObject({ user_id: ownUserId, group }),
    Unsubscribed: z.strictObject({ removed: z.boolean().meta({ description: 'False: there was none.' }) }),
    Subscriptions: z.strictObject({ subscriptions: z.array(subscription) }),
    Info: z.strictObject({
      node_id: z.string().meta({ description: 'The node that answers; another at every start.' }),
      clients: count('Open streams, on all nodes'),
      users: count('Users with a stream, on all nodes'),
      topics: count('Topics that clients have; those of several nodes count once for each'),
      nodes: z.array(node),
      bus: z.strictObject({ name: z.string(), state: z.enum(['up', 'down']) }),
      published: count('Events sent by this node since its start'),
      delivered: count('Events handed to sockets by this node, counted per recipient'),
      dropped: count('Events that slow clients of this node lost'),
      queued_bytes: count('Bytes that wait for slow clients of this node'),
    }),
    Group: z.strictObject({
      group,
      clients: count('Clients that have it, on the node that answers'),
      node_id: z.string().meta({ description: 'That node.' }),
    }),
    Connection: connection,
    Connections: z.strictObject({
      connections: z.array(connection).meta({ description: 'In the order of their `client_id`.' }),
      next: z
        .string()
        .nullable()
        .meta({ description: 'What to give as `after` for the next page; null after the last.' }),
    }),
    Disconnect: z.strictObject({
      reason: z.string().max(256).optional().meta({ description: 'Told to the client in the event `closing`.' }),
    }),
    Disconnected: z.strictObject({ disconnected: z.literal(true) }),
    Document: z.looseObject({ openapi: z.string() }),
    Health: z.strictObject({ status: z.literal('ok') }),
    Readiness: z.strictObject({
      status: z.enum(['ready', 'unready']),
      bus: z.enum(['up', 'down']),
      is_closing: z.boolean(),
    }),
    Poll: z.strictObject({
      events: z.array(z.strictObject({ id: z.string(), type: z.string(), data: z.unknown() })),
      lastEventId: z.string().nullable(),
      gap: z.unknown().optional(),
    }),
  };
}

export type Schemas = ReturnType<typeof makeSchemas>;

/** Parameters in paths. */
export const pathParameters = {
  group: z.strictObject({ group }),
  groupAndId: z.strictObject({ group: name('First part of a topic.'), id: name('Rest of the topic.') }),
  ownId: z.strictObject({ id: name('The user, who must be who is asking.') }),
  clientId: z.strictObject({ id: name('A client id, as `GET /connections` gives it.') }),
};

/** Of streams and polling, where the header `Device-Id` cannot be set. */
const device = z.string().optional().meta({ description: 'How the client names its device, for an inbox.' });

/** Parameters in queries. What else stands there is the application's own, a token for instance. */
export const queryParameters = {
  own: z.object({ user_id: ownUserId }),
  pending: z.object({
    user_id: ownUserId,
    after: messageId.optional().meta({ description: 'The last message of the page before.' }),
    ...page,
  }),
  connections: z.object({
    user_id: userId.optional().meta({ description: 'Only those of this user. Default: all.' }),
    after: name('The last `client_id` of the page before.').optional(),
    ...page,
  }),
  stream: z.object({
    lastEventId: z
      .string()
      .optional()
      .meta({ description: 'Where to go on, where the header `Last-Event-ID` cannot be set.' }),
    device,
  }),
  poll: z.object({
    lastEventId: z.string().optional().meta({ description: 'Where to go on.' }),
    wait: z
      .string()
      .optional()
      .meta({ description: 'How long to wait for something, in ms; at most 55 000. Default 0.' }),
    device,
  }),
};
