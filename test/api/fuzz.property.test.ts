/**
 * Whatever comes: the API takes exactly the bodies that its document describes, and nothing that is sent makes it answer 500,
 * break, or report a mistake of its own.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { connectRaw } from '../support/raw.js';
import { until } from '../support/until.js';
import { inboxOf } from './inboxes.js';
import { mountApi } from './mounted.js';

/** Everybody is alice, and may do everything. */
const mount = () =>
  mountApi((broker) => ({
    inbox: inboxOf(broker),
    authenticator: () => ({ userId: 'alice' }),
    authorize: () => ['publish', 'read', 'admin'],
    authorizeTopic: () => true,
  }));

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const runs = { seed, numRuns: 300 };

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.constantFrom(
    '',
    'alice',
    'connected',
    'gap',
    'news:sport',
    '\u0000',
    'a\nb',
    '😀',
    "'; DROP TABLE sse_message; --",
    '__proto__',
    'x'.repeat(257),
  ),
);
const anything = fc.oneof(
  { weight: 3, arbitrary: text },
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
  fc.array(text, { maxLength: 3 }),
  fc.jsonValue({ maxDepth: 3 }),
);
const field = fc.constantFrom(
  'user_id',
  'group',
  'event_type',
  'data',
  'priority',
  'ttl',
  'persist',
  'event_ids',
  'up_to',
  'all',
  'event_types',
  'reason',
  'extra',
  '__proto__',
);

/** Mostly what the route wants, with something wrong now and then. */
const bodyFor = (wanted: Readonly<Record<string, fc.Arbitrary<unknown>>>): fc.Arbitrary<unknown> =>
  fc.oneof(
    { weight: 4, arbitrary: fc.record(wanted, { requiredKeys: [] }) },
    {
      weight: 4,
      arbitrary: fc
        .tuple(fc.record(wanted, { requiredKeys: [] }), field, anything)
        .map(([body, name, value]) => Object.defineProperty({ ...body }, name, { value, enumerable: true })),
    },
    { weight: 1, arbitrary: anything },
  );

const send = {
  event_type: fc.oneof({ weight: 4, arbitrary: fc.constant('note') }, text),
  data: anything,
  priority: fc.constantFrom(0, 1, 2),
  ttl: fc.integer({ min: 0, max: 1_000 }),
  persist: fc.boolean(),
};
const name = fc.oneof({ weight: 3, arbitrary: fc.constant('alice') }, text);
const BODIES: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  '/send': bodyFor({ user_id: name, ...send }),
  '/send/group': bodyFor({ group: name, ...send }),
  '/broadcast': bodyFor(send),
  '/messages/read': fc.oneof(
    bodyFor({ event_ids: fc.array(text, { minLength: 1, maxLength: 3 }) }),
    bodyFor({ up_to: text }),
    bodyFor({ all: fc.constant(true) }),
    bodyFor({ up_to: text, all: fc.constant(true) }),
  ),
  '/subscribe': bodyFor({ group: name, event_types: fc.array(send.event_type, { minLength: 1, maxLength: 3 }) }),
  '/unsubscribe': bodyFor({ group: name }),
  '/disconnect/nobody': bodyFor({ reason: text }),
};

describe(`whatever is sent (SEED=${seed})`, () => {
  test.each(Object.keys(BODIES))(
    'POST %s takes exactly what the document describes',
    async (path) => {
      const { post, check, broker } = await mount();
      const isDescribed = check.at(
        'paths',
        check.templateOf(path)!,
        'post',
        'requestBody',
        'content',
        'application/json',
        'schema',
      );
      let taken = 0;
      await fc.assert(
        fc.asyncProperty(BODIES[path]!, async (body) => {
          const sent = JSON.stringify(body);
          // What a schema cannot say is that text must be well-formed, and counts in UTF-16 units; it has code points.
          const canBeTold = !/\\ud[89a-f]/i.test(sent) && !/[^"]{257}/.test(sent);
          const { status, json } = await post(path, sent);
          expect(status, sent).not.toBe(500);
          if (!isDescribed(JSON.parse(sent))) {
            expect(status, `${sent} is not described`).toBe(400);
          } else if (canBeTold) {
            taken++;
            // 403: user_id is somebody else. 404: there is no such message or client.
            expect([200, 202, 403, 404], `${sent} is described: ${JSON.stringify(json)}`).toContain(status);
          }
        }),
        runs,
      );
      expect(taken).toBeGreaterThan(20);
      expect(broker.reported.filter(({ code }) => code === 'SSE_ERR_INTERNAL')).toEqual([]);
    },
    60_000,
  );

  test('no path, query or header makes it break', async () => {
    const { ask, broker } = await mount();
    const segment = fc.oneof(
      fc.constantFrom(
        'stream',
        'send',
        'group',
        'messages',
        'pending',
        'unread',
        'connections',
        'disconnect',
        'info',
        '',
        '%',
        '%00',
        '%ff',
        '__proto__',
        'constructor',
      ),
      // The client takes `.` and `..` out of a path.
      fc
        .string({ unit: 'binary', maxLength: 30 })
        .map((part) => encodeURIComponent(part.toWellFormed()))
        .filter((part) => !/^\.+$/.test(part)),
    );
    const query = fc.array(
      fc.tuple(
        fc.constantFrom('limit', 'after', 'user_id', 'wait', 'lastEventId', '__proto__'),
        fc.oneof(segment, fc.integer().map(String)),
      ),
      { maxLength: 3 },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'HEAD', 'PATCH'),
        fc.array(segment, { minLength: 1, maxLength: 4 }),
        query,
        async (method, segments, pairs) => {
          // A stream does not end.
          if (method === 'GET' && segments[0] === 'stream') segments[0] = 'streams';
          const path = `/${segments.join('/')}?${pairs.map((pair) => pair.join('=')).join('&')}`;
          const headers = { 'content-type': 'application/json', 'idempotency-key': segments.join('-') };
          expect(
            (await ask(method, path, { headers, ...(method === 'POST' && { body: '{}' }) })).status,
            `${method} ${path}`,
          ).not.toBe(500);
        },
      ),
      runs,
    );
    expect(broker.reported.filter(({ code }) => code === 'SSE_ERR_INTERNAL')).toEqual([]);
  }, 60_000);

  test('no bytes make it break', async () => {
    const { url, post, broker } = await mount();
    const { port } = new URL(url);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...Object.keys(BODIES)),
        fc.uint8Array({ maxLength: 200 }),
        async (path, bytes) => {
          const raw = await connectRaw(Number(port));
          raw.write(
            `POST /api${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${bytes.length}\r\n\r\n`,
          );
          raw.write(Buffer.from(bytes));
          const { status } = await until(() => raw.responses()[0], 'an answer');
          raw.destroy();
          expect(status).not.toBe(500);
        },
      ),
      { ...runs, numRuns: 150 },
    );
    expect((await post('/broadcast', { event_type: 'note', data: 1 })).status).toBe(202);
    expect(broker.reported.filter(({ code }) => code === 'SSE_ERR_INTERNAL')).toEqual([]);
  }, 60_000);
});
