/** Subscriptions of users to groups. */
import { checkSubscriptionLimit } from './message-check.js';
import type { Context } from './sql-append.js';
import { lockReader } from './sql-direct.js';
import { SEQUENCE_ROW } from './sql-schema.js';
import { change, fromStored, numberOf, select, toStored, type Work } from './sql-work.js';
import type { Reader, Subscription } from './store.js';

const KEY = 'user_id = ? AND tenant_id = ? AND group_name = ?';

export function* subscribe(
  context: Context,
  userId: string,
  tenantId: string,
  group: string,
  eventTypes: readonly string[] | undefined,
  limit: number,
): Work<boolean> {
  const { t } = context;
  // Two calls at once for one user come one after the other.
  yield* lockReader(context, userId, tenantId);
  const key = [toStored(userId), toStored(tenantId), toStored(group)];
  const types = eventTypes === undefined ? null : toStored(JSON.stringify([...new Set(eventTypes)]));
  const there = yield* select(`SELECT since FROM ${t.subscription} WHERE ${KEY}`, ...key);
  if (there.length > 0) {
    yield* change(`UPDATE ${t.subscription} SET event_types = ? WHERE ${KEY}`, types, ...key);
    return false;
  }
  if (limit > 0) {
    const sql = `SELECT COUNT(*) AS subscriptions FROM ${t.subscription} WHERE user_id = ? AND tenant_id = ?`;
    const [own] = yield* select(sql, ...key.slice(0, 2));
    checkSubscriptionLimit(numberOf(own!.subscriptions), limit);
  }
  const [head] = yield* select(`SELECT value FROM ${t.sequence} WHERE id = ${SEQUENCE_ROW}`);
  yield* change(
    `INSERT INTO ${t.subscription} (user_id, tenant_id, group_name, event_types, status, since) VALUES (?, ?, ?, ?, ?, ?)`,
    ...key,
    types,
    'active',
    numberOf(head!.value),
  );
  return true;
}

export function* unsubscribe(context: Context, userId: string, tenantId: string, group: string): Work<boolean> {
  const { t } = context;
  yield* lockReader(context, userId, tenantId);
  const [user, place, name] = [toStored(userId), toStored(tenantId), toStored(group)];
  const removed = yield* change(`DELETE FROM ${t.subscription} WHERE ${KEY}`, user, place, name);
  if (removed === 0) return false;
  // One of another tenant takes what was sent without a tenant as well.
  const left = yield* select(
    `SELECT since FROM ${t.subscription} WHERE user_id = ? AND group_name = ? LIMIT 1`,
    user,
    name,
  );
  if (left.length > 0) return true;
  // What the user read in it is nobody's business any more: a new subscription begins after all of it.
  const lanes = yield* select(
    `SELECT id FROM ${t.lane} WHERE group_name = ? AND tenant_id IN (?, ?) AND is_group = 1`,
    name,
    '',
    place,
  );
  for (const { id } of lanes) {
    for (const table of [t.cursor, t.read]) {
      yield* change(`DELETE FROM ${table} WHERE user_id = ? AND lane_id = ?`, user, numberOf(id));
    }
  }
  return true;
}

export function* subscriptionsOf(
  { t }: Context,
  { userId, tenants }: Reader,
  group: string | undefined,
): Work<Subscription[]> {
  const marks = tenants.map(() => '?').join(', ');
  const rows = yield* select(
    `SELECT tenant_id, group_name, event_types, since FROM ${t.subscription} WHERE user_id = ? AND tenant_id IN (${marks})` +
      (group === undefined ? ' ORDER BY tenant_id, group_name' : ' AND group_name = ? ORDER BY tenant_id'),
    toStored(userId),
    ...tenants.map(toStored),
    ...(group === undefined ? [] : [toStored(group)]),
  );
  return rows.map((row) => ({
    group: fromStored(row.group_name),
    tenantId: fromStored(row.tenant_id),
    since: numberOf(row.since),
    eventTypes: row.event_types === null ? undefined : (JSON.parse(fromStored(row.event_types)) as string[]),
  }));
}
