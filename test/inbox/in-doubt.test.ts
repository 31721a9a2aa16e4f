/** A store says that it failed, and has stored what was sent, or does so later: whoever it is for gets it, once and in order. */
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import type { MailboxHost } from '../../src/core/mailbox.js';
import { InDoubt } from '../../src/inbox/in-doubt.js';
import { Inbox, type InboxStore, MemoryStore, type NewMessage, SqlStore } from '../../src/inbox/index.js';
import { Outbound } from '../../src/inbox/outbound.js';
import { tablesOf } from '../../src/inbox/sql-schema.js';
import { SseError } from '../../src/index.js';
import { message, NODE, toUser } from '../../src/testing/store-case.js';
import { makeBroker } from '../support/broker.js';
import { ManualClock } from '../support/manual-clock.js';
import { SharedHub } from '../support/shared-bus.js';
import { until } from '../support/until.js';
import { POSTGRES, postgresDatabase } from './databases.js';
import { annasPhone } from './device.js';

const unavailable = (): SseError => new SseError('SSE_ERR_STORE_UNAVAILABLE', 'no answer came');

/** A store whose answers get lost, as one node sees it. */
class Unsure {
  /** What becomes of the next append: its answer is lost, it is carried out later, or never. */
  next: 'answer lost' | 'late' | 'never' | undefined = undefined;
  /** Right before the next append is carried out. */
  before: (() => Promise<unknown>) | undefined = undefined;
  /** Between the next append and its answer. */
  after: (() => Promise<unknown>) | undefined = undefined;
  cannotFind = false;
  isGone = false;
  readonly renewals: { through: number; leaseUntil: number }[] = [];
  readonly #store: InboxStore;
  #late: { readonly messages: readonly NewMessage[]; readonly node: string } | undefined = undefined;

  constructor(store: InboxStore) {
    this.#store = store;
  }

  /** What was late is carried out. */
  readonly commit = async (): Promise<void> => {
    const { messages, node } = this.#late!;
    await this.#store.append(messages, node);
  };

  get store(): InboxStore {
    const { append, find, renewNode } = this.#methods;
    const own: Record<string, unknown> = { append, find, renewNode };
    return new Proxy(this.#store, {
      get: (target, name) => {
        const value: unknown = own[String(name)] ?? Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]) => {
          if (this.isGone) throw unavailable();
          return (value as (...all: unknown[]) => unknown).apply(target, args);
        };
      },
    });
  }

  readonly #methods: Pick<InboxStore, 'append' | 'find' | 'renewNode'> = {
    append: async (messages, node) => {
      const { next, before, after } = this;
      this.next = undefined;
      this.before = undefined;
      this.after = undefined;
      await before?.();
      if (next === 'late') this.#late = { messages, node };
      if (next === 'late' || next === 'never') throw unavailable();
      const appended = await this.#store.append(messages, node);
      await after?.();
      if (next === 'answer lost') throw unavailable();
      return appended;
    },
    find: async (eventId) => {
      if (this.cannotFind) throw unavailable();
      return this.#store.find(eventId);
    },
    renewNode: async (node, through, leaseUntil) => {
      this.renewals.push({ through, leaseUntil });
      await this.#store.renewNode(node, through, leaseUntil);
    },
  };
}

async function makeNode(store: InboxStore, hub: SharedHub, nodeLease = 60_000) {
  const broker = makeBroker({ bus: hub.port() });
  const unsure = new Unsure(store);
  const inbox = new Inbox({ broker, store: unsure.store, deviceGrace: 20, relayInterval: 20, nodeLease });
  onTestFinished(() => {
    unsure.isGone = false;
    return inbox.close();
  });
  await inbox.start();
  const { phone, gets } = await annasPhone(broker);
  const send = (number: number, dedupKey?: string) => inbox.sendToUser('anna', 'note', number, { dedupKey });
  const lose = async (how: NonNullable<Unsure['next']>, number: number, dedupKey?: string): Promise<void> => {
    unsure.next = how;
    await expect(send(number, dedupKey)).rejects.toMatchObject({ code: 'SSE_ERR_STORE_UNAVAILABLE' });
  };
  const stored = async () => (await store.pending({ reader: READER, after: 0, limit: 100, now: 0 })).map(numberOf);
  return { broker, inbox, unsure, phone, send, lose, gets, stored };
}

const READER = { userId: 'anna', tenants: [''] };
const numberOf = ({ data }: NewMessage): number => Number(data);

test('what is stored although its send failed comes, once, without another send', async () => {
  const { send, lose, gets, inbox } = await makeNode(new MemoryStore(), new SharedHub());
  await send(1);
  await lose('answer lost', 2);
  await gets(1, 2);
  await send(3);
  await gets(1, 2, 3);
  expect(inbox.getStats()).toMatchObject({ stored: 3, published: 3 });
});

test('it comes before what is sent after it', async () => {
  const { send, lose, gets } = await makeNode(new MemoryStore(), new SharedHub());
  await lose('answer lost', 1);
  await send(2);
  await gets(1, 2);
});

test('a second try with the same key delivers the first, once', async () => {
  const { send, lose, gets, stored } = await makeNode(new MemoryStore(), new SharedHub());
  await lose('answer lost', 1, 'key');
  await send(1, 'key');
  await send(2);
  await gets(1, 2);
  expect(await stored()).toEqual([1, 2]);
});

test('a second try does not resolve before the first could be read', async () => {
  const { send, lose, gets, unsure } = await makeNode(new MemoryStore(), new SharedHub());
  await lose('late', 1, 'key');
  unsure.before = async () => {
    await unsure.commit();
    unsure.cannotFind = true;
  };
  await expect(send(1, 'key')).rejects.toMatchObject({ code: 'SSE_ERR_STORE_UNAVAILABLE', retryable: true });
  unsure.cannotFind = false;
  await send(1, 'key');
  await gets(1);
});

test('what was not stored does not come, and is not stored by looking for it', async () => {
  const { send, lose, gets, stored, inbox, unsure } = await makeNode(new MemoryStore(), new SharedHub());
  await send(1);
  await lose('never', 2);
  await send(3);
  await gets(1, 3);
  // It holds up nothing.
  await until(() => unsure.renewals.at(-1)!.through === 2, 'what is published to be said');
  expect(await stored()).toEqual([1, 3]);
  expect(inbox.getStats()).toMatchObject({ stored: 2, published: 2 });
});

test('what is stored long after its send failed comes in the order in which it was stored', async () => {
  const { send, lose, gets, unsure } = await makeNode(new MemoryStore(), new SharedHub());
  await lose('late', 1);
  await send(2);
  await gets(2);
  await unsure.commit();
  await send(3);
  await gets(2, 1, 3);
  await lose('late', 4);
  // Also right before a later one.
  unsure.before = unsure.commit;
  await send(5);
  await gets(2, 1, 3, 4, 5);
});

test('a node does not say that it has published what it could not find yet', async () => {
  const { send, lose, gets, unsure } = await makeNode(new MemoryStore(), new SharedHub(), 1_000);
  await send(1);
  await gets(1);
  await lose('late', 2);
  unsure.before = async () => {
    await unsure.commit();
    unsure.cannotFind = true;
  };
  await send(3);
  await gets(1, 3);
  const { length } = unsure.renewals;
  await until(() => unsure.renewals.length > length + 2, 'the node to renew its lease');
  expect(Math.max(...unsure.renewals.map(({ through }) => through))).toBe(1);
  unsure.cannotFind = false;
  await gets(1, 3, 2);
  await until(() => unsure.renewals.at(-1)!.through === 3, 'what is published to be said');
});

test('where a node dies before it could look, another publishes it', async () => {
  const [store, hub] = [new MemoryStore(), new SharedHub()];
  const dying = await makeNode(store, hub, 1_000);
  const other = await makeNode(store, hub);
  await dying.send(1);
  await other.gets(1);
  await dying.lose('answer lost', 2);
  dying.unsure.isGone = true;
  await other.gets(1, 2);
  await other.send(3);
  await other.gets(1, 2, 3);
});

test('a node that ends looks once more, and is remembered where something may still come', async () => {
  const { lose, gets, unsure, inbox } = await makeNode(new MemoryStore(), new SharedHub());
  await lose('answer lost', 1);
  await lose('late', 2);
  await inbox.close();
  await gets(1);
  expect(unsure.renewals.at(-1)!.leaseUntil).toBeGreaterThan(0);
  expect(unsure.renewals.at(-1)!.leaseUntil).toBeLessThanOrEqual(Date.now());
});

test('over PostgreSQL, what is stored after the driver gave it up comes', async () => {
  const database = await postgresDatabase();
  onTestFinished(() => database.dispose());
  // Tables take longer to make.
  const first = database.store();
  await first.start();
  await first.close();
  const pool = new pg.Pool({ connectionString: POSTGRES, max: 4, query_timeout: 2_000 });
  pool.on('error', () => {});
  onTestFinished(() => pool.end());
  const store = new SqlStore({ dialect: 'postgres', pool, prefix: database.prefix });
  const { inbox, send, gets } = await makeNode(store, new SharedHub());
  await send(1);
  await gets(1);
  // As something that takes long in the database holds up the order.
  await database.transaction(async (tx) => {
    await (tx as pg.PoolClient).query(`UPDATE ${tablesOf(database.prefix).sequence} SET value = value`);
    await expect(send(2)).rejects.toMatchObject({ code: 'SSE_ERR_STORE_UNAVAILABLE' });
  });
  await gets(1, 2);
  await send(3);
  await gets(1, 2, 3);
  await inbox.close();
}, 30_000);

test('what is stored before the answer has come does not count as settled, nor while it is in doubt', async () => {
  const unsure = new Unsure(new MemoryStore());
  const host = {
    nodeId: NODE,
    clock: new ManualClock(),
    isShared: true,
    restore: (event: unknown) => event,
    publish: () => 'id',
    report: () => {},
  };
  const outbound = new Outbound(unsure.store, host as unknown as MailboxHost, async () => {});
  onTestFinished(() => outbound.close());
  const settled = () => outbound.settledBefore(Number.MAX_SAFE_INTEGER);
  const learn = async () => {
    outbound.othersThrough = await unsure.store.head();
  };
  await outbound.send(message('a', toUser('anna')));
  await learn();
  expect(settled()).toBe(1);
  unsure.after = async () => {
    await learn();
    expect(settled()).toBe(1);
  };
  await outbound.send(message('b', toUser('anna')));
  expect(settled()).toBe(2);
  unsure.next = 'answer lost';
  await expect(outbound.send(message('c', toUser('anna')))).rejects.toThrow(/no answer/);
  await learn();
  expect([settled(), outbound.publishedThrough, outbound.isInDoubt]).toEqual([2, 2, true]);
  await outbound.send(message('d', toUser('anna')));
  await learn();
  expect([settled(), outbound.publishedThrough, outbound.isInDoubt]).toEqual([4, 4, false]);
});

test('a look that fails leaves all as it was, and what never comes is forgotten', async () => {
  const clock = new ManualClock();
  const store = new MemoryStore();
  const unsure = new Unsure(store);
  const doubt = new InDoubt(unsure.store, clock, () => {});
  const messages = ['a', 'b'].map((id) => message(id, toUser('anna')));
  doubt.add(messages, 0);
  await store.append([messages[0]!, message('c', toUser('ben'))], NODE);
  doubt.add([message('never', toUser('anna'))], 2);
  expect(doubt.through).toBe(0);
  unsure.cannotFind = true;
  await expect(doubt.look({ isShort: false })).rejects.toThrow(/no answer/);
  expect(doubt.through).toBe(0);
  unsure.cannotFind = false;
  const found = await doubt.look({ isShort: false });
  expect(found.map(({ eventId, position }) => [eventId, position])).toEqual([['a', 1]]);
  expect(doubt.has('a')).toBe(false);
  expect(doubt.through).toBe(2);
  clock.advance(5 * 60_000);
  expect(await doubt.look({ isShort: false })).toEqual([]);
  expect(doubt.isEmpty).toBe(true);
  expect(doubt.through).toBe(Number.POSITIVE_INFINITY);
});

test('of very many, the oldest are given up, and that is reported', () => {
  const reported: unknown[] = [];
  const doubt = new InDoubt(new MemoryStore(), new ManualClock(), (error) => reported.push(error));
  for (let batch = 0; batch < 101; batch++) {
    const ids = Array.from({ length: 100 }, (_, i) => message(`${batch}-${i}`, toUser('anna')));
    doubt.add(ids, batch);
    expect(reported.length).toBe(batch < 100 ? 0 : 1);
  }
  expect(doubt.has('0-99')).toBe(false);
  expect(doubt.has('1-0')).toBe(true);
  expect(reported[0]).toMatchObject({ code: 'SSE_ERR_STORE_UNAVAILABLE' });
});
