/**
 * Counting messages to one user. The reader's row holds how many are unread among those up to a position, and what came
 * after it is counted through the index: sends do not touch the row, except that one in some hundreds brings it up to date.
 * So the rest stays short, whether its user ever looks or not.
 *
 * Expired messages are unread until they are cleaned up; an index over those that can expire takes them off.
 */
import type { Context } from './sql-append.js';
import { keepCleaningOut } from './sql-cleaning-lock.js';
import { SEQUENCE_ROW } from './sql-schema.js';
import { change, chunks, fromStored, numberOf, select, toStored, type Work } from './sql-work.js';
import type { NewMessage, Receiver } from './store.js';

/**
 * A direct message brings its reader's count up to date with this probability: the uncounted rest, which counting walks through,
 * is as many messages long on average, and ten times that once in 20 000 (bench/inbox.mjs unread).
 */
const ROLL_UP_PROBABILITY = 1 / 256;
/** Brought up to date together, where there are as many: it takes as many statements as for one. */
const READERS = 8;

/** Its values are the priorities; read messages have none. */
const SLOTS = [0, 1, 2] as const;

export interface ReaderRow {
  readonly unread: number;
  readonly countedThrough: number;
}

/** What a user's read state is locked by. */
export function* lockReader({ dialect, t }: Context, userId: string, tenantId: string): Work<ReaderRow> {
  const key = [toStored(userId), toStored(tenantId)];
  const lock = `SELECT unread, counted_through FROM ${t.reader} WHERE user_id = ? AND tenant_id = ?${dialect.forUpdate}`;
  let [row] = yield* select(lock, ...key);
  if (row === undefined) {
    const sql = `${dialect.insertIgnore} ${t.reader} (user_id, tenant_id, unread, counted_through) VALUES (?, ?, 0, 0)`;
    yield* change(sql + dialect.ignoreConflict, ...key);
    [row] = yield* select(lock, ...key);
  }
  return { unread: numberOf(row!.unread), countedThrough: numberOf(row!.counted_through) };
}

const tailOf = (message: string): string =>
  SLOTS.map(
    (slot) =>
      `(SELECT COUNT(*) FROM ${message} WHERE receiver_id = ? AND tenant_id = ? AND slot = ${slot} AND position > ?)`,
  ).join(' + ');

/** Whose counts are to be brought up to date now: mostly nobody's, else those of some whom `messages` are for. */
export function readersDue(messages: readonly NewMessage[]): Receiver[] {
  const direct = messages.filter(({ receiver }) => receiver.type === 'user');
  const expected = direct.length * ROLL_UP_PROBABILITY;
  const count = Math.min(direct.length, Math.max(READERS, Math.ceil(expected)));
  if (count === 0 || Math.random() >= expected / count) return [];
  const first = Math.floor(Math.random() * direct.length);
  const readers = new Map<string, Receiver>();
  for (let i = 0; i < count; i++) {
    const { receiver } = direct[(first + i) % direct.length]!;
    readers.set(keyOf(receiver.name, receiver.tenantId), receiver);
  }
  return [...readers.values()];
}

const keyOf = (userId: string, tenantId: string): string => JSON.stringify([userId, tenantId]);

/** Counts what came since the last time. The caller keeps cleaning out: by the lock of the order, or by its own. */
export function* rollUp(context: Context, readers: readonly Receiver[]): Work<void> {
  const { dialect, t } = context;
  for (const part of chunks(readers, READERS)) {
    const known = yield* lockReaders(context, part);
    const tails = part.map((_, place) => {
      const head = `(SELECT value FROM ${t.sequence} WHERE id = ${SEQUENCE_ROW})`;
      return `SELECT ${place} AS place, ${head} AS head, ${tailOf(t.message)} AS tail`;
    });
    const parameters = part.flatMap(({ name, tenantId }) => {
      const tail = [toStored(name), toStored(tenantId), known.get(keyOf(name, tenantId))!.countedThrough];
      return [...tail, ...tail, ...tail];
    });
    // One statement, so one state: what has a position up to the head's is in it, since the head is committed with the last.
    const counted = yield* select(tails.join(' UNION ALL '), ...parameters);
    const rows = counted.flatMap((row) => {
      const { name, tenantId } = part[numberOf(row.place)]!;
      const unread = known.get(keyOf(name, tenantId))!.unread + numberOf(row.tail);
      return [toStored(name), toStored(tenantId), unread, numberOf(row.head)];
    });
    yield* change(
      `INSERT INTO ${t.reader} (user_id, tenant_id, unread, counted_through) VALUES ${valuesOf(part)}` +
        dialect.upsert(
          t.reader,
          ['user_id', 'tenant_id'],
          [
            { column: 'unread', how: 'set' },
            { column: 'counted_through', how: 'set' },
          ],
        ),
      ...rows,
    );
  }
}

const valuesOf = (readers: readonly Receiver[]): string => readers.map(() => '(?, ?, ?, ?)').join(', ');

/** As {@link lockReader}, for some. */
function* lockReaders({ dialect, t }: Context, readers: readonly Receiver[]): Work<Map<string, ReaderRow>> {
  const keys = readers.flatMap(({ name, tenantId }) => [toStored(name), toStored(tenantId)]);
  const where = readers.map(() => '(user_id = ? AND tenant_id = ?)').join(' OR ');
  const lock = `SELECT user_id, tenant_id, unread, counted_through FROM ${t.reader} WHERE ${where}${dialect.forUpdate}`;
  let rows = yield* select(lock, ...keys);
  if (rows.length < readers.length) {
    const sql = `${dialect.insertIgnore} ${t.reader} (user_id, tenant_id, unread, counted_through) VALUES ${valuesOf(readers)}`;
    const empty = readers.flatMap(({ name, tenantId }) => [toStored(name), toStored(tenantId), 0, 0]);
    yield* change(sql + dialect.ignoreConflict, ...empty);
    rows = yield* select(lock, ...keys);
  }
  return new Map(
    rows.map((row) => [
      keyOf(fromStored(row.user_id), fromStored(row.tenant_id)),
      { unread: numberOf(row.unread), countedThrough: numberOf(row.counted_through) },
    ]),
  );
}

/** The same in a transaction that does nothing else: appends go on meanwhile. */
export function* rollUpAlone(context: Context, readers: readonly Receiver[]): Work<void> {
  yield* keepCleaningOut(context);
  yield* rollUp(context, readers);
}

/** Unread messages to a user in one tenant. The caller's transaction sees one state. */
export function* countDirect({ t }: Context, userId: string, tenantId: string, now: number): Work<number> {
  const key = [toStored(userId), toStored(tenantId)];
  const [reader] = yield* select(
    `SELECT unread, counted_through FROM ${t.reader} WHERE user_id = ? AND tenant_id = ?`,
    ...key,
  );
  const tail = [...key, numberOf(reader?.counted_through)];
  const [row] = yield* select(
    `SELECT ${tailOf(t.message)} AS tail, (SELECT COUNT(*) FROM ${t.message} WHERE receiver_id = ? AND tenant_id = ?` +
      ' AND slot IS NOT NULL AND expire_at > 0 AND expire_at <= ?) AS expired',
    ...tail,
    ...tail,
    ...tail,
    ...key,
    now,
  );
  return numberOf(reader?.unread) + numberOf(row!.tail) - numberOf(row!.expired);
}

/** One of a reader's tenants, with its row locked by {@link lockReader}. */
export interface LockedTenant {
  readonly tenantId: string;
  readonly countedThrough: number;
}

/** Marks a user's messages read: those for which `where` holds. Resolves to how many changed. */
export function* markDirect(
  context: Context,
  userId: string,
  { tenantId, countedThrough }: LockedTenant,
  where: { readonly sql: string; readonly parameters: readonly unknown[] },
  now: number,
): Work<number> {
  const { t } = context;
  const key = [toStored(userId), toStored(tenantId)];
  const update =
    `UPDATE ${t.message} SET slot = NULL, status = 'read', read_at = ?, updated_at = ? WHERE receiver_id = ?` +
    ` AND tenant_id = ? AND slot IN (0, 1, 2) AND (expire_at = 0 OR expire_at > ?) AND ${where.sql} AND position`;
  const parameters = [now, now, ...key, now, ...where.parameters, countedThrough];
  const counted = yield* change(`${update} <= ?`, ...parameters);
  const uncounted = yield* change(`${update} > ?`, ...parameters);
  if (counted > 0) {
    yield* change(`UPDATE ${t.reader} SET unread = unread - ? WHERE user_id = ? AND tenant_id = ?`, counted, ...key);
  }
  return counted + uncounted;
}
