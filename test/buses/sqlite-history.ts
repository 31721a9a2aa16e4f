/** Histories of SqliteBus that go with their test. */
import { expect, onTestFinished } from 'vitest';
import { SqliteBus, type SqliteBusOptions } from '../../src/buses/sqlite.js';
import type { BusEvent, BusStatus, OutgoingEvent } from '../../src/index.js';
import { temporaryFolder } from './sqlite-files.js';

export function folderOfTest(): string {
  const { folder, remove } = temporaryFolder();
  onTestFinished(remove);
  return folder;
}

export function event(data: string, key = 't::a'): OutgoingEvent {
  return { key, event: 'e', data, json: false, timestamp: 1, expiresAt: 0 };
}

/** One that is to report no error. */
export async function started(
  options: SqliteBusOptions,
): Promise<SqliteBus & { events: BusEvent[]; statuses: BusStatus[] }> {
  const bus = new SqliteBus({ lockTimeout: 0, ...options });
  onTestFinished(() => bus.close());
  const events: BusEvent[] = [];
  const statuses: BusStatus[] = [];
  await bus.start({
    deliver: (delivered) => events.push(delivered),
    lost: () => {},
    status: (status) => statuses.push(status),
    error: (error) => expect.unreachable(String(error)),
  });
  return Object.assign(bus, { events, statuses });
}

/** A history with `count` events of 200 B, closed. */
export async function historyWith(count: number, file: string): Promise<string[]> {
  const bus = await started({ database: file });
  const ids = await Promise.all(Array.from({ length: count }, (_, i) => bus.publish(event(`${i} ${'x'.repeat(200)}`))));
  await bus.close();
  return ids;
}

export const read = async (bus: SqliteBus, after: string, keys = ['t::a']) =>
  await bus.read({ keys, after, limit: 10_000, max: 0 });
