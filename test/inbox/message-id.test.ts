/** Ids of messages: each once, in the order they were made, and as random as they look. */
import { validate, version } from 'uuid';
import { afterEach, expect, test, vi } from 'vitest';
import { newMessageId } from '../../src/inbox/message-id.js';

afterEach(() => void vi.restoreAllMocks());

test('grow, however many are made in a millisecond', () => {
  const ids = Array.from({ length: 20_000 }, newMessageId);
  expect(ids).toEqual([...new Set(ids)].sort());
  for (const id of ids.slice(0, 300)) expect([validate(id), version(id)]).toEqual([true, 7]);
});

test('grow when the clock goes back', () => {
  const before = newMessageId();
  vi.spyOn(Date, 'now').mockReturnValue(1_600_000_000_000);
  const after = [newMessageId(), newMessageId()];
  expect([before, ...after]).toEqual([before, ...after].sort());
});

test('differ in what is random in them', () => {
  const tails = Array.from({ length: 1_000 }, () => newMessageId().slice(-10));
  expect(new Set(tails).size).toBe(1_000);
});
