import { expect, test } from 'vitest';
import type { BrokerOptions, Identity } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { StrictSink } from '../support/strict-sink.js';

function hall(options: BrokerOptions = {}) {
  const broker = makeBroker(options);
  const sinks: StrictSink[] = [];
  const connect = (identity: Identity = {}, topics: readonly string[] = []) => {
    const sink = StrictSink.forTest();
    sinks.push(sink);
    return broker.connect({ sink, identity, topics });
  };
  /** Why somebody may not connect; undefined where they are connected now. */
  const codeOf = (identity: Identity = {}, topics: readonly string[] = []): string | undefined => {
    try {
      connect(identity, topics);
      return undefined;
    } catch (error) {
      const { code } = error as { code: string };
      expect(sinks.at(-1)!.isOpen, 'the sink is not touched').toBe(false);
      expect(() => broker.admit(identity, topics)).toThrow(expect.objectContaining({ code }));
      return code;
    }
  };
  return { broker, connect, codeOf, sinks };
}

test('maxConnections: one more is refused with 503, and let in when somebody has left', () => {
  const { broker, connect, codeOf, sinks } = hall({ maxConnections: 2 });
  connect();
  connect({ userId: 'ann' });
  expect(codeOf()).toBe('SSE_ERR_TOO_MANY_CONNECTIONS');
  expect(() => broker.admit({})).toThrow(expect.objectContaining({ status: 503, retryable: true }));
  sinks[0]!.close();
  connect();
  expect(codeOf()).toBe('SSE_ERR_TOO_MANY_CONNECTIONS');
  expect(broker.getStats()).toMatchObject({ totalClients: 2, maxConnections: 2 });
});

test('a stream that was told to end makes room at once', async () => {
  const { broker, connect } = hall({ maxConnections: 1 });
  const clientId = connect();
  await broker.disconnect(clientId);
  expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 1 });
  connect();
});

test('maxConnectionsPerUser counts a user within its tenant, and nobody without a user', () => {
  const { broker, connect, codeOf } = hall({ maxConnectionsPerUser: 1 });
  connect({ userId: 'ann' });
  connect({ userId: 'ann', tenantId: 'acme' });
  connect({ userId: 'ann', tenantId: 'other' });
  connect();
  connect();
  expect(codeOf({ userId: 'ann' })).toBe('SSE_ERR_TOO_MANY_USER_CONNECTIONS');
  expect(codeOf({ userId: 'ann', tenantId: 'acme' })).toBe('SSE_ERR_TOO_MANY_USER_CONNECTIONS');
  expect(codeOf({ userId: 'bob', tenantId: 'acme' })).toBeUndefined();
  expect(() => broker.admit({ userId: 'ann' })).toThrow(expect.objectContaining({ status: 429, retryable: true }));
});

test('maxTopicsPerClient holds at connect and for topics that are added', async () => {
  const { broker, connect, codeOf } = hall({ maxTopicsPerClient: 2 });
  expect(codeOf({}, ['a', 'b', 'c'])).toBe('SSE_ERR_TOO_MANY_TOPICS');
  const clientId = connect({ tenantId: 'acme' }, ['a']);
  expect(await broker.subscribe(clientId, 'b')).toBe(true);
  await expect(broker.subscribe(clientId, 'c')).rejects.toMatchObject({ code: 'SSE_ERR_TOO_MANY_TOPICS' });
  // One that it has is none more.
  expect(await broker.subscribe(clientId, 'b')).toBe(false);
  expect(await broker.unsubscribe(clientId, 'a')).toBe(true);
  expect(await broker.subscribe(clientId, 'c')).toBe(true);
  expect(broker.getClient(clientId)!.topics.toSorted()).toEqual(['b', 'c']);
});

test('0 is no limit', () => {
  const { connect } = hall({ maxTopicsPerClient: 0, maxConnections: 0, maxConnectionsPerUser: 0 });
  for (let i = 0; i < 200; i++)
    connect({ userId: 'ann' }, i === 0 ? Array.from({ length: 500 }, (_, n) => `t${n}`) : []);
});

test('names that cannot be are refused before anything is touched', () => {
  const { broker, codeOf } = hall();
  expect(codeOf({ userId: '' })).toBe('SSE_ERR_INVALID_USER');
  expect(codeOf({ userId: 7 as never })).toBe('SSE_ERR_INVALID_USER');
  expect(codeOf({ tenantId: 'a\nb' })).toBe('SSE_ERR_INVALID_TENANT');
  expect(codeOf({}, ['ok', ''])).toBe('SSE_ERR_INVALID_TOPIC');
  expect(codeOf({}, ['ok', null as never])).toBe('SSE_ERR_INVALID_TOPIC');
  expect(codeOf({}, 'news' as never)).toBe('SSE_ERR_INVALID_TOPIC');
  expect(broker.getStats()).toMatchObject({ totalClients: 0, totalTopics: 0, connects: 0 });
});

test('an identity whose end is no moment does not live for ever, and one that has ended is not let in', () => {
  const { broker, codeOf } = hall();
  const now = broker.options.clock.now();
  for (const expiresAt of [
    Number.NaN,
    '2099-01-01' as never,
    new Date(now + 60_000) as never,
    now - 1,
    now - 1e9,
    -5,
  ]) {
    expect(codeOf({ userId: 'ann', expiresAt }), String(expiresAt)).toBe('SSE_ERR_UNAUTHENTICATED');
  }
  for (const expiresAt of [undefined, 0, now + 60_000, Number.POSITIVE_INFINITY]) {
    expect(codeOf({ userId: 'ann', expiresAt }), String(expiresAt)).toBeUndefined();
  }
});

test('what createId gives must be a name, and new each time', () => {
  for (const [createId, problem] of [
    [() => '', 'must not be empty'],
    [() => 7 as never, 'must be a string'],
    [() => 'a\nb', 'control characters'],
    [() => 'same', 'must be new'],
  ] as const) {
    const { broker, connect } = hall({ createId });
    if (problem === 'must be new') connect();
    expect(() => connect()).toThrow(expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION' }));
    expect(() => connect()).toThrow(problem);
    expect(broker.getStats().totalClients).toBe(problem === 'must be new' ? 1 : 0);
  }
});

test('a client id may be used again once its stream is over', () => {
  const { connect, sinks } = hall({ createId: () => 'same' });
  connect();
  sinks[0]!.close();
  expect(connect()).toBe('same');
});
