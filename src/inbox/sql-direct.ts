/**
 * Counting messages to one user. The reader's row holds how many are unread among those up to a position, and what came
 * after it is counted through the index: sends do not touch the row, except that one in some hundreds brings it up to date.
 * So the rest stays short, whether its user ever looks or not.
 *
 * Expired messages are unread until they are cleaned up; an index over those that can expire takes them off.
 */
import type { Context } from './sql-append.js';
import { change, numberOf, select, toStored, type Work } from './sql-work.js';

/** Its values are the priorities; read messages have none. */
const SLOTS = [0, 1, 2] as const;

export interface ReaderRow {
  readonly unread: number;
  readonly countedThrough: number;
}

/** What a user's read state is locked by. */
export function* lockReader({ dialect, t }: Context, userId: string, tenantId: string): Work<ReaderRow> {
  const key = [toStored(userId), toStored(tenantId)];
  const sql = `${dialect.insertIgnore} ${t.reader} (user_id, tenant_id, unread, counted_through) VALUES (?, ?, 0, 0)`;
  yield* change(sql + dialect.ignoreConflict, ...key);
  const [row] = yield* select(
    `SELECT unread, counted_through FROM ${t.reader} WHERE user_id = ? AND tenant_id = ?${dialect.forUpdate}`,
    ...key,
  );
  return { unread: numberOf(row!.unread), countedThrough: numberOf(row!.counted_through) };
}

const tailOf = (message: string): string =>
  SLOTS.map(
    (slot) =>
      `(SELECT COUNT(*) FROM ${message} WHERE receiver_id = ? AND tenant_id = ? AND slot = ${slot} AND position > ?)`,
  ).join(' + ');

/** Counts what came since the last time. The caller holds the lock of the order: nothing comes meanwhile. */
export function* rollUp(context: Context, userId: string, tenantId: string): Work<void> {
  const { t } = context;
  const { unread, countedThrough } = yield* lockReader(context, userId, tenantId);
  const key = [toStored(userId), toStored(tenantId)];
  const tail = [...key, countedThrough];
  const [row] = yield* select(`SELECT ${tailOf(t.message)} AS tail`, ...tail, ...tail, ...tail);
  const [head] = yield* select(`SELECT value FROM ${t.sequence} WHERE id = 1`);
  yield* change(
    `UPDATE ${t.reader} SET unread = ?, counted_through = ? WHERE user_id = ? AND tenant_id = ?`,
    unread + numberOf(row!.tail),
    numberOf(head!.value),
    ...key,
  );
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

/** Marks a user's messages read: those for which `where` holds. Resolves to how many changed. */
export function* markDirect(
  context: Context,
  userId: string,
  tenantId: string,
  where: { readonly sql: string; readonly parameters: readonly unknown[] },
  now: number,
): Work<number> {
  const { t } = context;
  const { countedThrough } = yield* lockReader(context, userId, tenantId);
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
