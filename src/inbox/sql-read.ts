/** Marking read. The reader's rows are locked first, and cleaning is kept out, so that counts and rows agree. */
import type { Context } from './sql-append.js';
import { keepCleaningOut } from './sql-cleaning-lock.js';
import { type LockedTenant, lockReader, markDirect } from './sql-direct.js';
import { countLanes, lanesOf, type ReaderLane } from './sql-lanes.js';
import {
  change,
  chunks,
  fromStored,
  LIST_LIMIT,
  list,
  numberOf,
  type Row,
  select,
  toStored,
  type Work,
} from './sql-work.js';
import type { Reader, ReadSelection } from './store.js';

/** Rows of one INSERT: few different statements, and the largest first. */
const ROWS = [64, 16, 4, 1];

/** Resolves to how many changed. */
export function* markRead(context: Context, reader: Reader, selection: ReadSelection, now: number): Work<number> {
  yield* keepCleaningOut(context);
  const locked: LockedTenant[] = [];
  for (const tenantId of [...reader.tenants].sort()) {
    const { countedThrough } = yield* lockReader(context, reader.userId, tenantId);
    locked.push({ tenantId, countedThrough });
  }
  if (selection !== 'all' && 'eventIds' in selection) {
    return yield* markSome(context, reader, locked, selection.eventIds, now);
  }
  const through = selection === 'all' ? Number.MAX_SAFE_INTEGER : yield* positionFor(context, reader, selection.upTo);
  if (through === 0) return 0;
  let changed = 0;
  for (const tenant of locked) {
    const where = { sql: 'position <= ?', parameters: [through] };
    changed += yield* markDirect(context, reader.userId, tenant, where, now);
  }
  const lanes = (yield* lanesOf(context, reader)).filter(({ cursor }) => cursor < through);
  const moved = lanes.map((lane) => ({ ...lane, cursor: Math.min(through, lane.lastPosition) }));
  changed += yield* countLanes(context, reader.userId, lanes, now);
  changed -= yield* countLanes(context, reader.userId, moved, now);
  for (const { id, cursor } of moved) yield* moveCursor(context, reader.userId, id, cursor);
  return changed;
}

/** 0 where there is no such message for this reader. */
function* positionFor({ t }: Context, { userId, tenants }: Reader, eventId: string): Work<number> {
  const sql = `SELECT position, receiver_type, receiver_id, tenant_id FROM ${t.message} WHERE event_id = ?`;
  const [row] = yield* select(sql, toStored(eventId));
  if (row === undefined || !tenants.includes(fromStored(row.tenant_id))) return 0;
  const isOthers = fromStored(row.receiver_type) === 'user' && fromStored(row.receiver_id) !== userId;
  return isOthers ? 0 : numberOf(row.position);
}

function* markSome(
  context: Context,
  reader: Reader,
  locked: readonly LockedTenant[],
  eventIds: readonly string[],
  now: number,
): Work<number> {
  const { t } = context;
  const rows: Row[] = [];
  for (const part of chunks([...new Set(eventIds)], LIST_LIMIT)) {
    const ids = list(part.map(toStored));
    const columns = 'position, receiver_id, tenant_id, lane_id, expire_at';
    rows.push(
      ...(yield* select(`SELECT ${columns} FROM ${t.message} WHERE event_id IN ${ids.sql}`, ...ids.parameters)),
    );
  }
  let changed = 0;
  for (const tenant of locked) {
    const own = rows.filter(
      (row) =>
        row.receiver_id !== null &&
        fromStored(row.receiver_id) === reader.userId &&
        fromStored(row.tenant_id) === tenant.tenantId,
    );
    for (const part of chunks(own, LIST_LIMIT)) {
      const positions = list(part.map(({ position }) => numberOf(position)));
      const where = { sql: `position IN ${positions.sql}`, parameters: positions.parameters };
      changed += yield* markDirect(context, reader.userId, tenant, where, now);
    }
  }
  const shared = rows.filter(({ lane_id, expire_at }) => {
    const expires = numberOf(expire_at);
    return lane_id !== null && (expires === 0 || expires > now);
  });
  if (shared.length === 0) return changed;
  for (const lane of yield* lanesOf(context, reader)) {
    const positions = shared
      .filter(({ lane_id, position }) => numberOf(lane_id) === lane.id && numberOf(position) > lane.cursor)
      .map(({ position }) => numberOf(position));
    if (positions.length > 0) changed += yield* markInLane(context, reader.userId, lane, positions, now);
  }
  return changed;
}

function* markInLane(
  context: Context,
  userId: string,
  lane: ReaderLane,
  positions: readonly number[],
  now: number,
): Work<number> {
  const { dialect, t } = context;
  let changed = 0;
  const user = toStored(userId);
  for (let done = 0; done < positions.length; ) {
    const count = ROWS.find((size) => size <= positions.length - done)!;
    const rows = positions.slice(done, done + count);
    changed += yield* change(
      `${dialect.insertIgnore} ${t.read} (user_id, lane_id, position) VALUES ` +
        rows.map(() => '(?, ?, ?)').join(', ') +
        dialect.ignoreConflict,
      ...rows.flatMap((position) => [user, lane.id, position]),
    );
    done += count;
  }
  // Where nothing is unread before some message any more, the cursor says it all.
  const [first] = yield* select(
    `SELECT m.position FROM ${t.message} m${dialect.byIndex(`${t.message}_lane`)}` +
      ' WHERE m.lane_id = ? AND m.position > ? AND m.position <= ?' +
      ' AND (m.expire_at = 0 OR m.expire_at > ?) AND NOT EXISTS' +
      ` (SELECT 1 FROM ${t.read} r WHERE r.user_id = ? AND r.lane_id = m.lane_id AND r.position = m.position)` +
      ' ORDER BY m.position LIMIT 1',
    lane.id,
    lane.cursor,
    lane.lastPosition,
    now,
    user,
  );
  const cursor = first === undefined ? lane.lastPosition : numberOf(first.position) - 1;
  if (positions.some((position) => position <= cursor)) yield* moveCursor(context, userId, lane.id, cursor);
  return changed;
}

function* moveCursor({ dialect, t }: Context, userId: string, laneId: number, position: number): Work<void> {
  const key = [toStored(userId), laneId];
  yield* change(
    `INSERT INTO ${t.cursor} (user_id, lane_id, position) VALUES (?, ?, ?)` +
      dialect.upsert(t.cursor, ['user_id', 'lane_id'], [{ column: 'position', how: 'max' }]),
    ...key,
    position,
  );
  yield* change(`DELETE FROM ${t.read} WHERE user_id = ? AND lane_id = ? AND position <= ?`, ...key, position);
}
