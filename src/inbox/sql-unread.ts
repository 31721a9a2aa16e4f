/** What a reader has not read: listed and counted. The caller's transaction sees one state of the database. */
import type { Context } from './sql-append.js';
import { countDirect } from './sql-direct.js';
import { countLanes, lanesOf, type ReaderLane } from './sql-lanes.js';
import { ENVELOPE, storedMessageOf } from './sql-message.js';
import { chunks, LIST_LIMIT, list, numberOf, select, toStored, type Work } from './sql-work.js';
import type { BacklogCursor, PriorityLevel, Reader, StoredMessage } from './store.js';

export function* countUnread(context: Context, reader: Reader, now: number): Work<number> {
  let count = 0;
  for (const tenantId of reader.tenants) count += yield* countDirect(context, reader.userId, tenantId, now);
  return count + (yield* countLanes(context, reader.userId, yield* lanesOf(context, reader), now));
}

/** Of each index of what can expire, the first entry after `now`. */
export function* nextExpiry(context: Context, reader: Reader, now: number): Work<number> {
  const { t } = context;
  const sql = (where: string): string =>
    `SELECT MIN(expire_at) AS first FROM ${t.message} WHERE ${where} AND expire_at > 0 AND expire_at > ?`;
  const branches: { readonly sql: string; readonly parameters: readonly unknown[] }[] = [];
  for (const tenantId of reader.tenants) {
    const parameters = [toStored(reader.userId), toStored(tenantId), now];
    branches.push({ sql: sql('receiver_id = ? AND tenant_id = ? AND slot IS NOT NULL'), parameters });
  }
  for (const { id } of yield* lanesOf(context, reader))
    branches.push({ sql: sql('lane_id = ?'), parameters: [id, now] });
  let first = 0;
  for (const part of chunks(branches, BRANCHES)) {
    const all = part.map((branch) => branch.sql).join(' UNION ALL ');
    for (const row of yield* select(all, ...part.flatMap(({ parameters }) => parameters))) {
      const time = numberOf(row.first);
      if (time > 0 && (first === 0 || time < first)) first = time;
    }
  }
  return first;
}

interface Range {
  readonly after: number;
  readonly through: number;
  readonly limit: number;
  readonly now: number;
}

/** By position. */
export function* listPending(context: Context, reader: Reader, range: Range): Work<StoredMessage[]> {
  if (range.limit <= 0) return [];
  const positions = yield* positionsOf(context, reader, yield* lanesOf(context, reader), [0, 1, 2], range);
  return yield* messagesAt(context, positions);
}

/** By priority, then position. */
export function* listBacklog(
  context: Context,
  reader: Reader,
  after: BacklogCursor | undefined,
  range: Range,
): Work<StoredMessage[]> {
  const lanes = yield* lanesOf(context, reader);
  const found: number[] = [];
  for (const priority of [2, 1, 0] as const) {
    const limit = range.limit - found.length;
    if (limit <= 0 || (after !== undefined && priority > after.priority)) continue;
    const from = after?.priority === priority ? Math.max(range.after, after.position) : range.after;
    found.push(...(yield* positionsOf(context, reader, lanes, [priority], { ...range, after: from, limit })));
  }
  return yield* messagesAt(context, found);
}

/** Ranges of an index in one statement; SQLite allows 500. */
const BRANCHES = 30;
/** A limit that an application means as "all". */
const MAX_LIMIT = 2 ** 31 - 1;

/** Each slot of the user's own, and each lane, is a range of an index that is in order: the first of each, merged. */
function* positionsOf(
  { dialect, t }: Context,
  { userId, tenants }: Reader,
  lanes: readonly ReaderLane[],
  priorities: readonly PriorityLevel[],
  { after, through, limit: asked, now }: Range,
): Work<number[]> {
  const user = toStored(userId);
  const limit = Math.min(asked, MAX_LIMIT);
  const branches: { readonly index: string; readonly where: string; readonly parameters: readonly unknown[] }[] = [];
  for (const tenantId of tenants) {
    for (const slot of priorities) {
      const parameters = [user, toStored(tenantId), slot, after, through, now, limit];
      const where = 'm.receiver_id = ? AND m.tenant_id = ? AND m.slot = ? AND m.position > ?';
      branches.push({ index: `${t.message}_unread`, where, parameters });
    }
  }
  for (const { id, priority, cursor, lastPosition } of lanes) {
    const from = Math.max(after, cursor);
    if (!priorities.includes(priority) || lastPosition <= from) continue;
    const where =
      `NOT EXISTS (SELECT 1 FROM ${t.read} r WHERE r.user_id = ? AND r.lane_id = m.lane_id AND r.position = m.position)` +
      ' AND m.lane_id = ? AND m.position > ?';
    branches.push({ index: `${t.message}_lane`, where, parameters: [user, id, from, through, now, limit] });
  }
  const positions: number[] = [];
  for (const part of chunks(branches, BRANCHES)) {
    const sql = part.map(
      ({ index, where }, number) =>
        `SELECT position FROM (SELECT m.position FROM ${t.message} m${dialect.byIndex(index)} WHERE ${where}` +
        ` AND m.position <= ? AND (m.expire_at = 0 OR m.expire_at > ?) ORDER BY m.position LIMIT ?) b${number}`,
    );
    const rows = yield* select(sql.join(' UNION ALL '), ...part.flatMap(({ parameters }) => parameters));
    for (const row of rows) positions.push(numberOf(row.position));
  }
  return positions.sort((a, b) => a - b).slice(0, limit);
}

/** In this order. */
export function* messagesAt({ t }: Context, positions: readonly number[]): Work<StoredMessage[]> {
  const found = new Map<number, StoredMessage>();
  for (const part of chunks(positions, LIST_LIMIT)) {
    const some = list(part);
    const sql = `SELECT position, ${ENVELOPE} FROM ${t.message} WHERE position IN ${some.sql}`;
    for (const row of yield* select(sql, ...some.parameters)) {
      const message = storedMessageOf(row);
      found.set(message.position, message);
    }
  }
  return positions.flatMap((position) => found.get(position) ?? []);
}
