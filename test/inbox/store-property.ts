/**
 * Random histories of one store, compared with the model after every step: what is unread for every reader, in both orders,
 * and what counting says, whatever was read, expired or cleaned up in between.
 */
import fc from 'fast-check';
import { expect } from 'vitest';
import type { InboxStore, NewMessage, Reader, Receiver } from '../../src/inbox/store.js';
import { Model } from './model.js';

const START = 1_700_000_000_000;
const NODE = 'node';
const USERS = ['anna', 'ben'];
const TENANTS = ['', 'acme'];
const GROUPS = ['team', "o'neil\u0000 "];
const TYPES = ['note', 'alarm'];
const READERS: readonly Reader[] = USERS.flatMap((userId) => [
  { userId, tenants: [''] },
  { userId, tenants: ['', 'acme'] },
]);

const receiver: fc.Arbitrary<Receiver> = fc.oneof(
  fc.record({
    type: fc.constant('user' as const),
    name: fc.constantFrom(...USERS),
    tenantId: fc.constantFrom(...TENANTS),
  }),
  fc.record({
    type: fc.constant('group' as const),
    name: fc.constantFrom(...GROUPS),
    tenantId: fc.constantFrom(...TENANTS),
  }),
  fc.record({ type: fc.constant('everybody' as const), name: fc.constant(''), tenantId: fc.constantFrom(...TENANTS) }),
);

const sent = fc.record({
  receiver,
  event: fc.constantFrom(...TYPES),
  priority: fc.constantFrom(0 as const, 1 as const, 2 as const),
  ttl: fc.constantFrom(0, 0, 5, 20),
  /** More of the same, so that lanes outgrow their first block of 64 numbers. */
  copies: fc.oneof({ weight: 6, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.constantFrom(40, 90) }),
  dedupKey: fc.option(fc.constantFrom('k1', 'k2', 'k3'), { nil: undefined, freq: 6 }),
});

const subscription = {
  user: fc.constantFrom(...USERS),
  tenant: fc.constantFrom(...TENANTS),
  group: fc.constantFrom(...GROUPS),
};

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('send' as const), messages: fc.array(sent, { maxLength: 4 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('read' as const),
      reader: fc.constantFrom(...READERS),
      how: fc.constantFrom('ids' as const, 'ids' as const, 'upTo' as const, 'all' as const),
      picks: fc.array(fc.nat(), { minLength: 1, maxLength: 8 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('subscribe' as const),
      ...subscription,
      types: fc.option(fc.subarray(TYPES, { minLength: 1 }), { nil: undefined }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('unsubscribe' as const), ...subscription }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.constantFrom(1, 5, 11) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('clean' as const),
      limit: fc.constantFrom(1, 3, 50),
      keepRead: fc.constantFrom(0, 10, 1_000),
      keep: fc.constantFrom(15, 1_000),
    }),
  },
);

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** One history after another, each on a store from `open`. */
export async function checkHistories(
  open: () => Promise<{ readonly store: InboxStore; end(): Promise<void> }>,
  numRuns: number,
  maxLength = 30,
): Promise<void> {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength, size: 'max' }), async (steps) => {
      const { store, end } = await open();
      try {
        await store.start();
        await live(store, steps);
      } finally {
        await store.close();
        await end();
      }
    }),
    { numRuns, endOnFailure: false, interruptAfterTimeLimit: 60_000, markInterruptAsFailure: true },
  );
}

async function live(store: InboxStore, steps: readonly Step[]): Promise<void> {
  const model = new Model();
  let now = START;
  let ids = 0;
  for (const one of steps) {
    if (one.kind === 'send') {
      const messages: NewMessage[] = one.messages.flatMap(({ copies, ttl, dedupKey, ...rest }) =>
        Array.from({ length: copies }, () => ({
          ...rest,
          eventId: `m${ids++}`,
          data: '1',
          json: true,
          status: 'pending' as const,
          expiresAt: ttl === 0 ? 0 : now + ttl,
          createdAt: now,
          ...(dedupKey === undefined ? {} : { dedupKey }),
        })),
      );
      const expected = messages.map((message) => !model.append(message));
      const appended = await store.append(messages, NODE);
      expect(appended.map(({ isDuplicate }) => isDuplicate)).toEqual(expected);
    } else if (one.kind === 'read') {
      const { reader, how, picks } = one;
      const unread = model.unread(reader, now);
      // Of all that there is, other people's and what is read already included.
      const chosen = picks.flatMap((pick) => model.all[pick % Math.max(model.all.length, 1)] ?? []);
      const last = unread[picks[0]! % Math.max(unread.length, 1)];
      if (how === 'upTo' && last === undefined) continue;
      const isMarked = (known: (typeof unread)[number]): boolean =>
        how === 'all' || (how === 'upTo' ? known.index <= last!.index : chosen.includes(known));
      const marked = unread.filter(isMarked);
      const selection =
        how === 'all'
          ? how
          : how === 'upTo'
            ? { upTo: last!.message.eventId }
            : { eventIds: chosen.map(({ message }) => message.eventId) };
      expect(await store.markRead(reader, selection, now)).toBe(marked.length);
      for (const known of marked) model.markRead(known, reader, now);
    } else if (one.kind === 'subscribe') {
      model.subscribe(one.user, one.tenant, one.group, one.types);
      await store.subscribe(one.user, one.tenant, one.group, one.types);
    } else if (one.kind === 'unsubscribe') {
      model.unsubscribe(one.user, one.tenant, one.group);
      await store.unsubscribe(one.user, one.tenant, one.group);
    } else if (one.kind === 'pass') {
      now += one.ms;
    } else {
      await clean(store, model, now, one);
    }
    await compare(store, model, now);
  }
}

async function clean(
  store: InboxStore,
  model: Model,
  now: number,
  { limit, keepRead, keep }: { limit: number; keepRead: number; keep: number },
): Promise<void> {
  const [readBefore, createdBefore] = [now - keepRead, now - keep];
  const deleted = await store.cleanup({ now, readBefore, createdBefore, limit });
  const eligible = model.all.flatMap((known) =>
    known !== undefined && model.mayGo(known, now, readBefore, createdBefore) ? [known] : [],
  );
  expect(deleted).toBe(Math.min(limit, eligible.length));
  for (const known of eligible) {
    if ((await store.find(known.message.eventId)) === undefined) model.all[known.index] = undefined;
  }
  expect(eligible.filter(({ index }) => model.all[index] === undefined)).toHaveLength(deleted);
}

async function compare(store: InboxStore, model: Model, now: number): Promise<void> {
  for (const reader of READERS) {
    const unread = model.unread(reader, now).map(({ message }) => message);
    const pending = await store.pending({ reader, after: 0, limit: 10_000, now });
    expect(pending.map(({ eventId }) => eventId)).toEqual(unread.map(({ eventId }) => eventId));
    expect(await store.unreadCount(reader, now)).toBe(unread.length);
    const request = { reader, from: 0, through: Number.MAX_SAFE_INTEGER, now };
    const head = await store.backlog({ ...request, limit: 3 });
    const next = await store.backlog({ ...request, after: head.at(-1), limit: 3 });
    const ordered = [...unread].sort((a, b) => b.priority - a.priority);
    const expected = ordered.slice(0, head.length < 3 ? head.length : 6);
    const found = head.length < 3 ? head : [...head, ...next];
    expect(found.map(({ eventId }) => eventId)).toEqual(expected.map(({ eventId }) => eventId));
    if (head.length < 3) expect(head).toHaveLength(unread.length);
  }
}
