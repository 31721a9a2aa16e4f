/**
 * Deleting what expired, was read, or is old: a bounded number at a time, under locks that keep appends and reads out, so
 * that what is counted loses exactly what is deleted.
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
    yield* change(`DELETE FROM ${t.read} ${where}`, ...some.parameters);
    yield* change(`DELETE FROM ${t.relay} ${where}`, ...some.parameters);
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

/** Sums up the numbers of a lane that are gone; forgets sums that nobody can need, and a lane that is empty. */
function* bury({ dialect, t }: Context, laneId: number, numbers: readonly number[]): Work<void> {
  const [first] = yield* select(
    `SELECT lane_number FROM ${t.message} WHERE lane_id = ? ORDER BY position LIMIT 1`,
    laneId,
  );
  if (first === undefined) {
    for (const table of [t.dead, t.cursor]) yield* change(`DELETE FROM ${table} WHERE lane_id = ?`, laneId);
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
