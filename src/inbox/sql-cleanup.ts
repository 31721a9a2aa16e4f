/**
 * Deleting what expired, was read, or is old: a bounded number at a time, under locks that keep appends and reads out, so
 * that what is counted loses exactly what is deleted.
 *
 * What is kept per reader of a message to many goes with it where that is little. Else it is noted, and goes piece by piece
 * without those locks: of a message to a million there may be a million rows, and every send would wait for them. Nobody looks
 * at them any more, for positions and lanes do not come again.
 */
import type { Context } from './sql-append.js';
import { BLOCK_SIZES } from './sql-lanes.js';
import { CLEANUP_ROW, SEQUENCE_ROW } from './sql-schema.js';
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

/** Rows about readers that go at once, under the locks or in one transaction without. */
const READERS_AT_ONCE = 1_000;
/** Notes stand in the table of blocks, under a lane that there is not: of lanes that are gone, and of messages, by their position. */
const NOTES = { lane: 0, ofLanes: -1, ofMessages: -2 } as const;

export interface CleanupRequest {
  readonly now: number;
  readonly readBefore: number;
  readonly createdBefore: number;
  readonly limit: number;
}

/** Resolves to how many messages went. */
export function* cleanup(context: Context, request: CleanupRequest): Work<number> {
  const { dialect, t } = context;
  // In this order, as everywhere: readers share the first and never take the second.
  for (const row of [CLEANUP_ROW, SEQUENCE_ROW]) {
    yield* select(`SELECT value FROM ${t.sequence} WHERE id = ${row}${dialect.forUpdate}`);
  }
  const positions = yield* candidates(context, request);
  const lanes = new Map<number, number[]>();
  for (const part of chunks(positions, LIST_LIMIT)) {
    const some = list(part);
    const where = `WHERE position IN ${some.sql}`;
    const columns = 'position, receiver_id, tenant_id, slot, lane_id, lane_number';
    const rows = yield* select(`SELECT ${columns} FROM ${t.message} ${where}`, ...some.parameters);
    yield* uncount(context, rows);
    for (const row of rows) {
      if (row.lane_id === null) continue;
      const laneId = numberOf(row.lane_id);
      const numbers = lanes.get(laneId);
      if (numbers) numbers.push(numberOf(row.lane_number));
      else lanes.set(laneId, [numberOf(row.lane_number)]);
    }
    yield* change(`DELETE FROM ${t.message} ${where}`, ...some.parameters);
    yield* change(`DELETE FROM ${t.relay} ${where}`, ...some.parameters);
    const read = yield* select(
      `SELECT user_id FROM ${t.read} ${where} ORDER BY position LIMIT ?`,
      ...some.parameters,
      READERS_AT_ONCE + 1,
    );
    if (read.length > READERS_AT_ONCE) yield* note(context, NOTES.ofMessages, part);
    else if (read.length > 0) yield* change(`DELETE FROM ${t.read} ${where}`, ...some.parameters);
  }
  for (const [laneId, numbers] of lanes) yield* bury(context, laneId, numbers);
  return positions.length;
}

function* candidates({ t }: Context, { now, readBefore, createdBefore, limit }: CleanupRequest): Work<number[]> {
  const found = new Set<number>();
  const reasons = [
    { where: 'expire_at > 0 AND expire_at <= ?', order: 'expire_at', value: now },
    { where: 'read_at IS NOT NULL AND read_at < ?', order: 'read_at', value: readBefore },
    { where: 'created_at < ?', order: 'created_at', value: createdBefore },
  ];
  for (const { where, order, value } of reasons) {
    if (value === 0 || found.size >= limit) continue;
    const sql = `SELECT position FROM ${t.message} WHERE ${where} ORDER BY ${order} LIMIT ?`;
    // As many more as were found already: what has two reasons stands in both lists.
    for (const row of yield* select(sql, value, limit + found.size))
      if (found.size < limit) found.add(numberOf(row.position));
  }
  return [...found];
}

/** Takes unread messages to users off their counts. */
function* uncount({ t }: Context, rows: readonly Row[]): Work<void> {
  const readers = new Map<string, { readonly user: string; readonly tenant: string; readonly positions: number[] }>();
  for (const row of rows) {
    if (row.slot === null) continue;
    const [user, tenant] = [fromStored(row.receiver_id), fromStored(row.tenant_id)];
    const key = JSON.stringify([user, tenant]);
    const reader = readers.get(key) ?? { user: toStored(user), tenant: toStored(tenant), positions: [] };
    reader.positions.push(numberOf(row.position));
    readers.set(key, reader);
  }
  for (const { user, tenant, positions } of readers.values()) {
    const where = 'WHERE user_id = ? AND tenant_id = ?';
    const [row] = yield* select(`SELECT counted_through FROM ${t.reader} ${where}`, user, tenant);
    const counted = positions.filter((position) => position <= numberOf(row?.counted_through)).length;
    if (counted > 0) yield* change(`UPDATE ${t.reader} SET unread = unread - ? ${where}`, counted, user, tenant);
  }
}

function* note({ dialect, t }: Context, what: number, ids: readonly number[]): Work<void> {
  yield* change(
    `${dialect.insertIgnore} ${t.dead} (lane_id, level, block, dead) VALUES ${ids.map(() => '(?, ?, ?, 0)').join(', ')}` +
      dialect.ignoreConflict,
    ...ids.flatMap((id) => [NOTES.lane, what, id]),
  );
}

/** Deletes some of what is noted, without locks. False: that was all. */
export function* sweep({ t }: Context): Work<boolean> {
  const [noted] = yield* select(
    `SELECT level, block FROM ${t.dead} WHERE lane_id = ? ORDER BY level, block LIMIT 1`,
    NOTES.lane,
  );
  if (noted === undefined) return false;
  const [what, id] = [numberOf(noted.level), numberOf(noted.block)];
  const isLane = what === NOTES.ofLanes;
  const [table, column] = isLane ? [t.cursor, 'lane_id'] : [t.read, 'position'];
  const sql = `SELECT user_id, lane_id FROM ${table} WHERE ${column} IN (?, ?) ORDER BY ${column} LIMIT ?`;
  const rows = yield* select(sql, id, id, READERS_AT_ONCE);
  for (const part of chunks(rows, LIST_LIMIT)) {
    const users = list(part.map((row) => toStored(fromStored(row.user_id))));
    // By the whole primary key: all have the lane of their message.
    const key = isLane ? [id] : [numberOf(part[0]!.lane_id), id];
    const where = isLane ? 'lane_id = ?' : 'lane_id = ? AND position = ?';
    yield* change(`DELETE FROM ${table} WHERE ${where} AND user_id IN ${users.sql}`, ...key, ...users.parameters);
  }
  if (rows.length < READERS_AT_ONCE) {
    yield* change(`DELETE FROM ${t.dead} WHERE lane_id = ? AND level = ? AND block = ?`, NOTES.lane, what, id);
  }
  return true;
}

/** Sums up the numbers of a lane that are gone; forgets sums that nobody can need, and a lane that is empty. */
function* bury(context: Context, laneId: number, numbers: readonly number[]): Work<void> {
  const { dialect, t } = context;
  const [first] = yield* select(
    `SELECT lane_number FROM ${t.message}${dialect.byIndex(`${t.message}_lane`)} WHERE lane_id = ? ORDER BY position LIMIT 1`,
    laneId,
  );
  if (first === undefined) {
    const cursors = yield* select(
      // Twice: see `is` of the dialect.
      `SELECT user_id FROM ${t.cursor} WHERE lane_id IN (?, ?) ORDER BY lane_id LIMIT ?`,
      laneId,
      laneId,
      READERS_AT_ONCE + 1,
    );
    if (cursors.length > READERS_AT_ONCE) yield* note(context, NOTES.ofLanes, [laneId]);
    else if (cursors.length > 0) yield* change(`DELETE FROM ${t.cursor} WHERE lane_id = ?`, laneId);
    yield* change(`DELETE FROM ${t.dead} WHERE lane_id = ?`, laneId);
    yield* change(`DELETE FROM ${t.lane} WHERE id = ?`, laneId);
    return;
  }
  for (const [level, size] of BLOCK_SIZES.entries()) {
    const firstBlock = Math.floor(numberOf(first.lane_number) / size);
    const blocks = new Map<number, number>();
    for (const number of numbers) {
      const block = Math.floor(number / size);
      if (block >= firstBlock) blocks.set(block, (blocks.get(block) ?? 0) + 1);
    }
    for (const [block, dead] of blocks) {
      yield* change(
        `INSERT INTO ${t.dead} (lane_id, level, block, dead) VALUES (?, ?, ?, ?)` +
          dialect.upsert(t.dead, ['lane_id', 'level', 'block'], [{ column: 'dead', how: 'add' }]),
        laneId,
        level,
        block,
        dead,
      );
    }
    yield* change(`DELETE FROM ${t.dead} WHERE lane_id = ? AND level = ? AND block < ?`, laneId, level, firstBlock);
  }
}
