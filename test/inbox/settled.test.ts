/** What a node takes for a message that comes a second time. */
import { describe, expect, test } from 'vitest';
import { messageTag } from '../../src/inbox/message-tag.js';
import { Settled } from '../../src/inbox/settled.js';

const tagOf = (position: number, settled = position - 1): string => messageTag('m', { position, settled });

describe('a message that one stream has read out of history', () => {
  test('comes live to the others when its event does: history was ahead', () => {
    const settled = new Settled(39);
    settled.replayed(41, 'bus-5');
    // All before it is settled meanwhile.
    expect(settled.passing(tagOf(40), 'bus-4')).toBeDefined();
    expect(settled.passing(tagOf(41), 'bus-5')).toBe(tagOf(41));
    expect(settled.position).toBe(41);
  });

  test('does not come again when another node publishes it once more', () => {
    const settled = new Settled(39);
    settled.replayed(41, 'bus-5');
    expect(settled.passing(tagOf(41), 'bus-9')).toBeUndefined();
    expect(settled.passing(tagOf(41), 'bus-5')).toBeDefined();
    expect(settled.passing(tagOf(41), 'bus-9')).toBeUndefined();
  });
});

test('a message that has come by does not come again, whether all before it is settled or not', () => {
  const settled = new Settled(1);
  expect(settled.passing(tagOf(4, 1), 'bus-1')).toBeDefined();
  expect(settled.passing(tagOf(4, 1), 'bus-2')).toBeUndefined();
  expect(settled.passing(tagOf(2, 1), 'bus-3')).toBeDefined();
  expect(settled.passing(tagOf(2, 1), 'bus-4')).toBeUndefined();
  settled.raise(3);
  expect(settled.position).toBe(4);
});
