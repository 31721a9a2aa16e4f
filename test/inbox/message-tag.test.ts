/** What is read out of the ids of events. */
import { expect, test } from 'vitest';
import { cursorIn, messageTag, placeIn } from '../../src/inbox/message-tag.js';

test('a place is read where it comes last as where it does not', () => {
  for (const [position, settled] of [
    [1, 0],
    [35, 36],
    [1_000_000, 999_999],
    [2 ** 53 - 1, 2 ** 53 - 2],
  ] as const) {
    const tag = messageTag('m', { position, settled });
    expect(placeIn(`${tag}~w1`)).toEqual({ position, settled });
    expect(placeIn(tag)).toEqual({ position, settled });
    expect(cursorIn(tag)).toMatchObject({ position, settled });
    // Several are numbered in one turn, before the first is read.
    messageTag('n', { position: position + 1, settled: position });
    expect(placeIn(tag)).toEqual({ position, settled });
  }
});

test.each([
  '',
  '~w1',
  '~p1',
  '~p1.',
  '~p.1',
  '~p1.2.',
  '~pA.1',
  '~p1.B',
  '~p-1.2',
  '~p000000000001.2',
  '~p1.000000000002',
])('there is no place in %j', (tag) => {
  expect(placeIn(`~mx${tag}`)).toBeUndefined();
});

test('the first of two places counts only where the last is none', () => {
  expect(placeIn('~mx~p3.2~p')).toEqual({ position: 3, settled: 2 });
});
