/**
 * How far each device has been served, and with that which messages to users have reached one: in bulk, since one message to
 * everybody moves the devices of all who are online.
 */
import type { Context } from './sql-append.js';
import { keepCleaningOut } from './sql-cleaning-lock.js';
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
import type { AdvanceRequest, DeviceMove, Reader } from './store.js';

/** Devices, and readers' tenants, in one statement: few different ones, and the largest first. */
const AT_ONCE = [16, 4, 1];
const MOST_AT_ONCE = AT_ONCE[0]!;
/** The same, of what SQLite looks through in one go. */
const RANGES = [1, 4, 16, 64, 256, 512];
const MOST_RANGES = RANGES.at(-1)!;
/** Cursors moved in one transaction, and messages marked. */
const MOVES = 250;
const MARKS = 2_048;
/** So many messages one after the other are marked as a range. */
const RUN = 16;
/** To what the time of a device is rounded up, in ms: a cursor that moves often must not touch an index each time. */
const SEEN_MS = 60_000;
const KEY = 'user_id = ? AND tenant_id = ? AND device = ?';

interface Move extends DeviceMove {
  /** The primary key, as it is stored. */
  readonly key: readonly string[];
  /** Where it was; undefined where it is new. */
  from: number | undefined;
}

export function* cursorOf({ t }: Context, reader: Reader, device: string): Work<number> {
  const sql = `SELECT position FROM ${t.device} WHERE ${KEY}`;
  const [row] = yield* select(sql, ...deviceKey(reader, device));
  return numberOf(row?.position);
}

/**
 * The transactions of an advance, one after the other: messages that are known to have arrived are marked, of all devices
 * together, since a page of the table has those of many; then cursors move. Where it ends in between, what is marked has arrived
 * all the same, and is delivered again.
 */
export function* advancing(
  context: Context,
  moves: readonly DeviceMove[],
  request: AdvanceRequest,
): Generator<() => Work<void>, void, void> {
  const ordered = inOrder(moves);
  const delivered = inOrderOnce(request.delivered ?? []);
  for (let done = 0; done < delivered.length; done += MARKS) {
    const some = delivered.subarray(done, done + MARKS);
    yield () => markDelivered(context, some, request.now);
  }
  for (const part of chunks(ordered, MOVES)) yield () => advance(context, part, request);
}

function* markDelivered(context: Context, positions: Float64Array, now: number): Work<void> {
  yield* keepCleaningOut(context);
  yield* markPositions(context, positions, now);
}

function* advance(context: Context, moves: readonly Move[], { now, maxDevices }: AdvanceRequest): Work<void> {
  const { dialect, t } = context;
  yield* keepCleaningOut(context);
  for (const part of chunks(moves, MOST_AT_ONCE)) yield* findCursors(context, part);
  yield* markSent(
    context,
    moves.filter(({ isListed }) => isListed !== true),
    now,
  );
  const seenAt = Math.ceil(now / SEEN_MS) * SEEN_MS;
  const upsert = dialect.upsert(
    t.device,
    ['user_id', 'tenant_id', 'device'],
    [
      { column: 'position', how: 'max' },
      { column: 'updated_at', how: 'max' },
    ],
  );
  for (let done = 0; done < moves.length; ) {
    const count = AT_ONCE.find((size) => size <= moves.length - done)!;
    const rows = moves.slice(done, done + count);
    yield* change(
      `INSERT INTO ${t.device} (user_id, tenant_id, device, position, updated_at) VALUES ` +
        rows.map(() => '(?, ?, ?, ?, ?)').join(', ') +
        upsert,
      ...rows.flatMap(({ key, position }) => [...key, position, seenAt]),
    );
    done += count;
  }
  if (maxDevices > 0) yield* trim(context, moves, maxDevices);
}

/** Resolves to how many went. */
export function* forgetDevices(
  { t }: Context,
  { seenBefore, limit }: { readonly seenBefore: number; readonly limit: number },
): Work<number> {
  const rows = yield* select(
    `SELECT user_id, tenant_id, device FROM ${t.device} WHERE updated_at < ? ORDER BY updated_at LIMIT ?`,
    seenBefore,
    limit,
  );
  const keys = rows.map((row) => [row.user_id, row.tenant_id, row.device].map((part) => toStored(fromStored(part))));
  let forgotten = 0;
  // In the order in which cursors move. One that has come meanwhile stays.
  for (const key of byName(keys.map((key) => [nameOf(key), key]))) {
    forgotten += yield* change(`DELETE FROM ${t.device} WHERE ${KEY} AND updated_at < ?`, ...key, seenBefore);
  }
  return forgotten;
}

/** A device belongs to a user in their innermost tenant. */
function deviceKey({ userId, tenants }: Reader, device: string): string[] {
  return [toStored(userId), toStored(tenants.at(-1) ?? ''), toStored(device)];
}

const nameOf = (key: readonly string[]): string => JSON.stringify(key);

/** In the order of their names, each of which is made once: there may be thousands. */
function byName<T>(named: Iterable<readonly [string, T]>): T[] {
  return [...named].sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0)).map(([, value]) => value);
}

/** In one order everywhere: two nodes that move the same devices wait for each other instead of for ever. Each device once. */
function inOrder(moves: readonly DeviceMove[]): Move[] {
  const furthest = new Map<string, Move>();
  for (const move of moves) {
    const key = deviceKey(move.reader, move.device);
    const name = nameOf(key);
    if (move.position >= (furthest.get(name)?.position ?? 0)) furthest.set(name, { ...move, key, from: undefined });
  }
  return byName(furthest);
}

const inOrderOnce = (positions: Iterable<number>): Float64Array => Float64Array.from(new Set(positions)).sort();

interface Branch {
  readonly sql: string;
  readonly parameters: readonly unknown[];
}

/** One statement for all; filled up with the last, so that few different statements come about. */
function union(branches: readonly Branch[]): Branch {
  const size = AT_ONCE.findLast((one) => one >= branches.length)!;
  const filled = Array.from({ length: size }, (_, i) => branches[Math.min(i, branches.length - 1)]!);
  return {
    sql: filled.map(({ sql }) => sql).join(' UNION ALL '),
    parameters: filled.flatMap(({ parameters }) => parameters),
  };
}

function* findCursors({ t }: Context, moves: readonly Move[]): Work<void> {
  const { sql, parameters } = union(
    moves.map(({ key }, place) => ({
      sql: `SELECT ${place} AS place, position FROM ${t.device} WHERE ${KEY}`,
      parameters: key,
    })),
  );
  for (const row of yield* select(sql, ...parameters)) moves[numberOf(row.place)]!.from = numberOf(row.position);
}

/** What a device has got since, of what nobody had got: a look into the index of what is unread, as far as it was delivered. */
function* markSent(context: Context, moves: readonly Move[], now: number): Work<void> {
  if (context.dialect.hasOneWriter) yield* markSentAtOnce(context, moves, now);
  else yield* markSentInOrder(context, moves, now);
}

/**
 * Without what it finds coming by here. The list is of what the index alone says, and SQLite goes through it in the order of
 * positions: each page of the table is touched once, however many devices there are.
 */
function* markSentAtOnce({ t }: Context, moves: readonly Move[], now: number): Work<void> {
  const ranges = moves.flatMap(({ reader, from = 0, position }) =>
    position <= from ? [] : reader.tenants.map((tenantId) => [reader.userId, tenantId, from, position] as const),
  );
  for (const part of chunks(ranges, MOST_RANGES)) {
    const size = RANGES.find((one) => one >= part.length)!;
    const parameters: unknown[] = [];
    for (let i = 0; i < size; i++) {
      const [userId, tenantId, from, through] = part[Math.min(i, part.length - 1)]!;
      parameters.push(toStored(userId), toStored(tenantId), from, through);
    }
    const values = Array(size).fill('(?, ?, ?, ?)').join(', ');
    yield* change(
      `UPDATE ${t.message} SET status = 'sent', updated_at = ? WHERE position IN (SELECT m.position FROM (VALUES ${values}) moved` +
        ` CROSS JOIN ${t.message} m WHERE m.receiver_id = moved.column1 AND m.tenant_id = moved.column2 AND m.slot IN (0, 1, 2)` +
        " AND m.position > moved.column3 AND m.position <= moved.column4) AND status = 'pending' AND (expire_at = 0 OR expire_at > ?)",
      now,
      ...parameters,
      now,
    );
  }
}

function* markSentInOrder(context: Context, moves: readonly Move[], now: number): Work<void> {
  const { t } = context;
  const branches = moves.flatMap(({ reader, from = 0, position }) =>
    position <= from
      ? []
      : reader.tenants.map((tenantId) => ({
          sql:
            `SELECT position FROM ${t.message} WHERE receiver_id = ? AND tenant_id = ? AND slot IN (0, 1, 2)` +
            " AND position > ? AND position <= ? AND status = 'pending' AND (expire_at = 0 OR expire_at > ?)",
          parameters: [toStored(reader.userId), toStored(tenantId), from, position, now],
        })),
  );
  const found: number[] = [];
  for (const part of chunks(branches, MOST_AT_ONCE)) {
    const { sql, parameters } = union(part);
    for (const row of yield* select(sql, ...parameters)) found.push(numberOf(row.position));
  }
  yield* markPositions(context, inOrderOnce(found), now);
}

/** `positions` in order, which is that in which their rows are locked. Mostly one follows the other: as a range that costs half. */
function* markPositions({ t }: Context, positions: Float64Array, now: number): Work<void> {
  // What was read in between stays read.
  const mark = (where: string, ...parameters: readonly unknown[]): Work<number> =>
    change(
      `UPDATE ${t.message} SET status = 'sent', updated_at = ? WHERE ${where} AND status = 'pending'` +
        ' AND (expire_at = 0 OR expire_at > ?)',
      now,
      ...parameters,
      now,
    );
  let single: number[] = [];
  for (let at = 0; at < positions.length; ) {
    const first = positions[at]!;
    let end = at + 1;
    while (end < positions.length && positions[end] === first + end - at) end++;
    const isRun = end - at >= RUN;
    if (!isRun) for (const position of positions.subarray(at, end)) single.push(position);
    at = end;
    const isLast = at === positions.length;
    while (single.length >= LIST_LIMIT || ((isRun || isLast) && single.length > 0)) {
      const some = list(single.slice(0, LIST_LIMIT));
      single = single.slice(LIST_LIMIT);
      yield* mark(`position IN ${some.sql}`, ...some.parameters);
    }
    if (isRun) yield* mark('position >= ? AND position <= ?', first, positions[at - 1]!);
  }
}

/**
 * Forgets what is too much of the users who have a new device. Without a lock: where two nodes add one at the same time, neither
 * counts the other's, and one more stays until the next new device.
 */
function* trim({ t }: Context, moves: readonly Move[], maxDevices: number): Work<void> {
  const owners = new Map<string, readonly string[]>();
  for (const { key, from } of moves)
    if (from === undefined) owners.set(JSON.stringify(key.slice(0, 2)), key.slice(0, 2));
  const moved = new Set(moves.map(({ key }) => JSON.stringify(key)));
  for (const owner of owners.values()) {
    const where = 'WHERE user_id = ? AND tenant_id = ?';
    const [row] = yield* select(`SELECT COUNT(*) AS devices FROM ${t.device} ${where}`, ...owner);
    const excess = Math.min(numberOf(row!.devices) - maxDevices, LIST_LIMIT);
    if (excess <= 0) continue;
    const sql = `SELECT device FROM ${t.device} ${where} ORDER BY updated_at, position LIMIT ?`;
    // As many more as have moved just now: those go last.
    const oldest = yield* select(sql, ...owner, excess + moves.length);
    const names = oldest.map((one: Row) => toStored(fromStored(one.device)));
    const isMoved = (name: string): boolean => moved.has(JSON.stringify([...owner, name]));
    const last = [...names.filter((name) => !isMoved(name)), ...names.filter(isMoved)];
    const some = list(last.slice(0, excess));
    yield* change(`DELETE FROM ${t.device} ${where} AND device IN ${some.sql}`, ...owner, ...some.parameters);
  }
}
