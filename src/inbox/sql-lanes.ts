/**
 * Messages to groups and to everybody: stored once, counted per reader.
 *
 * A **lane** is what one tenant sent to one group (or to everybody) of one event type and priority. Its messages are numbered
 * from 0 as they are stored, so that "how many after this one" is a subtraction; what cleaning deleted since is summed up
 * in blocks of 64, 64² and 64³ numbers, which only cleaning writes. A reader has a cursor per lane, everything up to which is
 * read, and single messages that they read beyond it. Cursors are positions, so a lane that has become empty can be
 * forgotten with its numbers.
 */
import type { Context } from './sql-append.js';
import { chunks, fromStored, numberOf, type Row, select, toStored, type Work } from './sql-work.js';
import type { PriorityLevel, Reader } from './store.js';

/** A lane, as one reader sees it. */
export interface ReaderLane {
  readonly id: number;
  readonly priority: PriorityLevel;
  readonly lastNumber: number;
  readonly lastPosition: number;
  /** Everything up to here is read, or from before the subscription. */
  readonly cursor: number;
}

/** Numbers in a block of each level. */
export const BLOCK_SIZES = [64, 64 ** 2, 64 ** 3] as const;
/** Lanes in one statement. */
const LANES = 20;

/** The lanes of a reader in which anything may be unread. */
export function* lanesOf({ t }: Context, { userId, tenants }: Reader): Work<ReaderLane[]> {
  const user = toStored(userId);
  const places = tenants.map(toStored);
  const marks = places.map(() => '?').join(', ');
  const columns =
    'l.id, l.event_type, l.priority, l.last_number, l.last_position, c.position AS cursor_position' as const;
  const everybody = yield* select(
    `SELECT ${columns} FROM ${t.lane} l LEFT JOIN ${t.cursor} c ON c.user_id = ? AND c.lane_id = l.id` +
      ` WHERE l.group_name = ? AND l.tenant_id IN (${marks}) AND l.is_group = 0`,
    user,
    // Not as a literal, here and elsewhere: MariaDB may be set to take that for NULL (EMPTY_STRING_IS_NULL).
    '',
    ...places,
  );
  const groups = yield* select(
    `SELECT ${columns}, s.event_types, s.since FROM ${t.subscription} s` +
      ` JOIN ${t.lane} l ON l.group_name = s.group_name AND l.tenant_id IN (${marks}) AND l.is_group = 1` +
      ` LEFT JOIN ${t.cursor} c ON c.user_id = s.user_id AND c.lane_id = l.id` +
      ` WHERE s.user_id = ? AND s.tenant_id IN (${marks})`,
    ...places,
    user,
    ...places,
  );
  const lanes = new Map<number, ReaderLane>();
  for (const row of everybody) add(lanes, row, 0);
  for (const row of groups) if (takes(row)) add(lanes, row, numberOf(row.since));
  return [...lanes.values()].filter(({ cursor, lastPosition }) => lastPosition > cursor);
}

function takes(row: Row): boolean {
  if (row.event_types === null) return true;
  const types = JSON.parse(fromStored(row.event_types)) as string[];
  return types.includes(fromStored(row.event_type));
}

/** Two subscriptions may take a lane: the earlier one counts. */
function add(lanes: Map<number, ReaderLane>, row: Row, since: number): void {
  const id = numberOf(row.id);
  const cursor = Math.max(since, numberOf(row.cursor_position));
  const known = lanes.get(id);
  if (known !== undefined && known.cursor <= cursor) return;
  lanes.set(id, {
    id,
    priority: numberOf(row.priority) as PriorityLevel,
    lastNumber: numberOf(row.last_number),
    lastPosition: numberOf(row.last_position),
    cursor,
  });
}

/** Unread, unexpired messages of each lane after its cursor. The caller's transaction sees one state of the lanes. */
export function* countLanes(context: Context, userId: string, lanes: readonly ReaderLane[], now: number): Work<number> {
  const { dialect, t } = context;
  const user = toStored(userId);
  const inLane = `${t.message}${dialect.byIndex(`${t.message}_lane`)}`;
  let unread = 0;
  for (const part of chunks(lanes, LANES)) {
    const branches: string[] = [];
    const parameters: unknown[] = [];
    for (const { id, cursor, lastPosition } of part) {
      branches.push(
        `SELECT ${id} AS lane, (SELECT lane_number FROM ${inLane} WHERE lane_id = ? AND position > ? AND position <= ?` +
          ' ORDER BY position LIMIT 1) AS first_number,' +
          ` (SELECT COUNT(*) FROM ${t.read} r JOIN ${t.message} m ON m.position = r.position` +
          ' WHERE r.user_id = ? AND r.lane_id = ? AND r.position > ? AND r.position <= ?) AS single,' +
          ` (SELECT COUNT(*) FROM ${t.message} m WHERE m.lane_id = ? AND m.expire_at > 0 AND m.expire_at <= ?` +
          ' AND m.position > ? AND m.position <= ? AND NOT EXISTS' +
          ` (SELECT 1 FROM ${t.read} r WHERE r.user_id = ? AND r.lane_id = m.lane_id AND r.position = m.position)` +
          ') AS expired',
      );
      const range = [cursor, lastPosition];
      parameters.push(id, ...range, user, id, ...range, id, now, ...range, user);
    }
    const rows = yield* select(branches.join(' UNION ALL '), ...parameters);
    const byId = new Map(rows.map((row) => [numberOf(row.lane), row] as const));
    const alive = part.filter(({ id }) => (byId.get(id)!.first_number ?? null) !== null);
    for (const { id } of alive) unread -= numberOf(byId.get(id)!.single) + numberOf(byId.get(id)!.expired);
    unread += yield* countAlive(
      context,
      alive.map((lane) => ({ lane, first: numberOf(byId.get(lane.id)!.first_number) })),
    );
  }
  return unread;
}

/** Messages that are there, from the first alive one on. */
function* countAlive(
  { dialect, t }: Context,
  lanes: readonly { readonly lane: ReaderLane; readonly first: number }[],
): Work<number> {
  if (lanes.length === 0) return 0;
  const [small, middle, large] = BLOCK_SIZES;
  const inLane = `${t.message}${dialect.byIndex(`${t.message}_lane`)}`;
  let count = 0;
  const branches: string[] = [];
  const parameters: unknown[] = [];
  for (const { lane, first } of lanes) {
    // The first block is begun: its rows themselves are looked at. From there on each level up to where the next begins.
    const ends = [(Math.floor(first / small) + 1) * small];
    for (const size of [middle, large]) ends.push(Math.ceil(ends.at(-1)! / size) * size);
    const [end0, end1, end2] = ends as [number, number, number];
    count += Math.max(0, lane.lastNumber - end0);
    branches.push(
      `SELECT (SELECT COUNT(*) FROM (SELECT lane_number FROM ${inLane} WHERE lane_id = ? AND position > ?` +
        ` AND position <= ? ORDER BY position LIMIT ${small}) x WHERE x.lane_number < ?) AS begun,` +
        ` (SELECT SUM(dead) FROM ${t.dead} WHERE lane_id = ? AND level = 0 AND block >= ? AND block < ?) AS dead0,` +
        ` (SELECT SUM(dead) FROM ${t.dead} WHERE lane_id = ? AND level = 1 AND block >= ? AND block < ?) AS dead1,` +
        ` (SELECT SUM(dead) FROM ${t.dead} WHERE lane_id = ? AND level = 2 AND block >= ?) AS dead2`,
    );
    parameters.push(lane.id, lane.cursor, lane.lastPosition, end0, lane.id, end0 / small, end1 / small);
    parameters.push(lane.id, end1 / middle, end2 / middle, lane.id, end2 / large);
  }
  for (const row of yield* select(branches.join(' UNION ALL '), ...parameters)) {
    count += numberOf(row.begun) - numberOf(row.dead0) - numberOf(row.dead1) - numberOf(row.dead2);
  }
  return count;
}
