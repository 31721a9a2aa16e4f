import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isSseError } from '../../src/core/errors.js';
import {
  type Audience,
  audienceOf,
  checkClientId,
  checkTenantId,
  checkTopic,
  checkUserId,
  clientKey,
  everybodyKey,
  MAX_NAME_LENGTH,
  nameProblem,
  topicKey,
  userKey,
} from '../../src/core/topic.js';
import { anyText } from '../support/any-text.js';

/** Names that are most likely to be taken for something else: colons, percent signs, our own prefixes. */
const tricky = fc.oneof(
  fc.stringMatching(/^[ut:ce%3A25]{1,6}$/),
  anyText(12, 1).filter((name) => nameProblem(name) === undefined),
  fc.constantFrom(':', '::', '%', '%3A', 'u::a', '*', '#', '..', '__proto__', 'constructor', ' ', '\u{1F600}'),
);

const audience: fc.Arbitrary<Audience> = fc
  .record({
    kind: fc.constantFrom('user' as const, 'topic' as const, 'client' as const, 'everybody' as const),
    name: tricky,
    tenantId: fc.option(tricky, { nil: undefined }),
  })
  .map(({ kind, name, tenantId }): Audience => {
    const inside = tenantId === undefined ? {} : { tenantId };
    if (kind === 'user') return { kind, userId: name, ...inside };
    if (kind === 'topic') return { kind, topic: name, ...inside };
    return kind === 'client' ? { kind, clientId: name } : { kind, ...inside };
  });

function keyOf(audience: Audience): string {
  switch (audience.kind) {
    case 'user':
      return userKey(audience.userId, audience.tenantId);
    case 'topic':
      return topicKey(audience.topic, audience.tenantId);
    case 'client':
      return clientKey(audience.clientId);
    default:
      return everybodyKey(audience.tenantId);
  }
}

test('a channel key says whom it is for: audienceOf gives back what the key was made of', () => {
  fc.assert(
    fc.property(audience, (one) => {
      expect(audienceOf(keyOf(one))).toEqual(one);
    }),
    { numRuns: 2_000 },
  );
});

test('two audiences never share a channel key, whatever colons and percent signs their names hold', () => {
  fc.assert(
    fc.property(audience, audience, (one, other) => {
      expect(keyOf(one) === keyOf(other)).toBe(JSON.stringify(one) === JSON.stringify(other));
    }),
    { numRuns: 5_000 },
  );
  // The pairs that a key of plain joined names would confuse.
  expect(userKey('b:c', 'a')).not.toBe(userKey('c', 'a:b'));
  expect(topicKey('x', 'a%3Ab')).not.toBe(topicKey('x', 'a:b'));
  expect(userKey(':x')).not.toBe(userKey('x'));
});

test.each([
  ['a number', 7],
  ['undefined', undefined],
  ['null', null],
  ['an object', { toString: () => 'alice' }],
  ['empty', ''],
  ['too long', 'x'.repeat(MAX_NAME_LENGTH + 1)],
  ['with a line feed', 'a\nb'],
  ['with a carriage return', 'a\r'],
  ['with NUL', '\0a'],
  ['with DEL', 'a\x7f'],
  ['with a tab', 'a\tb'],
  ['with a lone surrogate', 'a\ud800'],
])('a name that is %s is refused by every check, with its own code', (_, name) => {
  const checks = [
    [checkUserId, 'SSE_ERR_INVALID_USER', 'userId'],
    [checkTopic, 'SSE_ERR_INVALID_TOPIC', 'topic'],
    [checkTenantId, 'SSE_ERR_INVALID_TENANT', 'tenantId'],
    [checkClientId, 'SSE_ERR_INVALID_CLIENT', 'clientId'],
  ] as const;
  for (const [check, code, what] of checks) {
    try {
      check(name);
      expect.unreachable();
    } catch (error) {
      expect(isSseError(error)).toBe(true);
      expect(error).toMatchObject({ code, status: 400, retryable: false });
      expect((error as Error).message).toMatch(new RegExp(`^${what} must .*; got `));
    }
  }
});

test('a name of any other text is taken as it is, up to the limit', () => {
  for (const name of [
    'x'.repeat(MAX_NAME_LENGTH),
    'user:456:notifications',
    'ä ö',
    '日本',
    '\u{1F600}',
    ' ',
    '\u00a0',
  ]) {
    expect(checkTopic(name)).toBe(name);
    expect(checkUserId(name)).toBe(name);
  }
});

test('a message never carries a whole long name, nor a line break', () => {
  try {
    checkTopic(`${'x'.repeat(5_000)}\n`);
    expect.unreachable();
  } catch (error) {
    expect((error as Error).message.length).toBeLessThan(200);
    expect((error as Error).message).not.toContain('\n');
  }
});
