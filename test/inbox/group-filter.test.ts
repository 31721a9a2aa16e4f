/** Which group messages a stream takes, whichever way they come: live, late, or out of the bus's history. */
import { expect, test } from 'vitest';
import { GroupFilter } from '../../src/inbox/group-filter.js';

const team = { group: 'team', tenantId: '' };

test('a message from before the subscription is not for it, however late it is published', () => {
  const filter = new GroupFilter(() => false);
  filter.set({ ...team, eventTypes: undefined, since: 10 });
  expect([10, 11].map((position) => filter.take('team', 'note', position))).toEqual(['no', 'waits']);
  // Nor does a wider one reach further back.
  filter.set({ ...team, eventTypes: ['note'], since: 10 });
  filter.widen('team', '', ['alarm']);
  expect([10, 11].map((position) => filter.take('team', 'alarm', position))).toEqual(['no', 'waits']);
  expect(filter.take('team', 'other', 11)).toBe('no');
});

test('one that is about to be stored takes all that comes, until it is', () => {
  const filter = new GroupFilter(() => false);
  filter.widen('team', '', undefined);
  expect(filter.take('team', 'note', 1)).toBe('waits');
  expect(filter.replace([{ ...team, eventTypes: undefined, since: 5 }])).toEqual([]);
  expect(filter.take('team', 'note', 5)).toBe('no');
  expect(filter.replace([])).toEqual(['team']);
});

test('of the subscriptions in several tenants one is enough, and a topic of the application is live only', () => {
  const filter = new GroupFilter((topic) => topic === 'team');
  filter.set({ ...team, eventTypes: ['note'], since: 5 });
  filter.set({ ...team, tenantId: 'acme', eventTypes: undefined, since: 8 });
  expect([4, 6].map((position) => filter.take('team', 'note', position))).toEqual(['live', 'waits']);
  expect([6, 9].map((position) => filter.take('team', 'alarm', position))).toEqual(['live', 'waits']);
  expect(filter.delete('team', 'acme')).toBe(false);
  expect(filter.take('team', 'alarm', 9)).toBe('live');
  expect(filter.delete('team', '')).toBe(true);
});
