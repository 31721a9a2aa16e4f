/**
 * Who gets what, against a model: a client with a tenant hears what is sent inside that tenant and what is sent to all, never
 * another tenant's; sends without a tenant reach every tenant, and those without one.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Broker } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { StrictSink } from '../support/strict-sink.js';

// Names that would be confused if keys were joined without care.
const TENANTS = ['acme', 'a', 'a:b', 'a%3Ab', 'b'] as const;
const USERS = ['ann', 'b:ann', 'ann:x'] as const;
const TOPICS = ['x', 'b:x', 'acme'] as const;

const optional = <T>(values: readonly T[]) => fc.option(fc.constantFrom(...values), { nil: undefined, freq: 3 });

interface Person {
  readonly userId: string | undefined;
  readonly tenantId: string | undefined;
  readonly topics: readonly string[];
}

const people: fc.Arbitrary<Person[]> = fc.array(
  fc.record({ userId: optional(USERS), tenantId: optional(TENANTS), topics: fc.subarray([...TOPICS]) }),
  { minLength: 1, maxLength: 12 },
);

interface Send {
  readonly kind: 'user' | 'topic' | 'everybody' | 'client';
  readonly name: string;
  readonly who: number;
  readonly tenantId: string | undefined;
  /** By `broker.tenant()`, or by the option. */
  readonly inTenant: boolean;
}

const target = fc.oneof(
  fc.record({ kind: fc.constant('user' as const), name: fc.constantFrom(...USERS), who: fc.constant(-1) }),
  fc.record({ kind: fc.constant('topic' as const), name: fc.constantFrom(...TOPICS), who: fc.constant(-1) }),
  fc.record({ kind: fc.constant('everybody' as const), name: fc.constant(''), who: fc.constant(-1) }),
  fc.record({ kind: fc.constant('client' as const), name: fc.constant(''), who: fc.nat(11) }),
);
const sends: fc.Arbitrary<Send[]> = fc.array(
  fc
    .tuple(target, optional(TENANTS), fc.boolean())
    .map(([one, tenantId, inTenant]) => ({ ...one, tenantId, inTenant })),
  { minLength: 1, maxLength: 25 },
);

function isFor(person: Person, at: number, send: Send): boolean {
  if (send.tenantId !== undefined && send.tenantId !== person.tenantId) return false;
  if (send.kind === 'client') return at === send.who;
  if (send.kind === 'user') return person.userId === send.name;
  return send.kind === 'everybody' || person.topics.includes(send.name);
}

test('recipients are exactly those of the rules, over any clients, tenants, users, topics and ways to send', async () => {
  await fc.assert(
    fc.asyncProperty(people, sends, async (persons, script) => {
      const broker = new Broker({ historySize: 100 });
      broker.on('error', () => {});
      const sinks = persons.map(() => new StrictSink());
      const ids = persons.map(({ userId, tenantId, topics }, i) =>
        broker.connect({ sink: sinks[i]!, identity: { userId, tenantId }, topics }),
      );
      const expected = persons.map((): number[] => []);
      for (const [n, send] of script.entries()) {
        const { tenantId } = send;
        // Both spellings of a tenant.
        const sender = tenantId !== undefined && send.inTenant ? broker.tenant(tenantId) : broker;
        const options = tenantId !== undefined && !send.inTenant ? { tenantId } : {};
        let sent: Promise<string>;
        if (send.kind === 'user') sent = sender.sendToUser(send.name, 'n', n, options);
        else if (send.kind === 'topic') sent = sender.sendToTopic(send.name, 'n', n, options);
        else if (send.kind === 'everybody') sent = sender.broadcast('n', n, options);
        else sent = sender.sendToClient(ids[send.who] ?? 'nobody', 'n', n, options);
        const outcome = await sent.then(
          () => 'sent',
          (error: { code: string }) => error.code,
        );
        const isUnknown = send.kind === 'client' && !persons.some((person, i) => isFor(person, i, send));
        expect(outcome).toBe(isUnknown ? 'SSE_ERR_UNKNOWN_CLIENT' : 'sent');
        for (const [i, person] of persons.entries()) if (isFor(person, i, send)) expected[i]!.push(n);
      }
      await new Promise((resolve) => setImmediate(resolve));
      expect(sinks.map((sink) => sink.all('n'))).toEqual(expected);

      // And the same for those who come back: nobody resumes another tenant's events.
      for (const [i, { userId, tenantId, topics }] of persons.entries()) {
        const again = new StrictSink();
        const lastEventId = sinks[i]!.events[0]!.lastEventId;
        broker.connect({ sink: again, identity: { userId, tenantId }, topics, lastEventId });
        const mine = expected[i]!.filter((n) => script[n]!.kind !== 'client');
        expect(again.all('n')).toEqual(mine);
        expect(again.all('gap')).toEqual([]);
        again.close();
      }
      for (const sink of sinks) sink.close();
      await broker.close();
    }),
    { numRuns: 150 },
  );
});

test('a tenant that is given twice must be the same', async () => {
  const broker = makeBroker();
  const acme = broker.tenant('acme');
  expect(acme.tenantId).toBe('acme');
  await acme.broadcast('n', 1, { tenantId: 'acme' });
  await expect(acme.broadcast('n', 1, { tenantId: 'other' })).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_TENANT' });
});

test('an empty tenant is none of the kind "all": it is refused', async () => {
  const broker = makeBroker();
  await expect(broker.broadcast('n', 1, { tenantId: '' })).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_TENANT' });
  expect(() => broker.tenant('')).toThrow(expect.objectContaining({ code: 'SSE_ERR_INVALID_TENANT' }));
  expect(() => broker.connect({ sink: new StrictSink(), identity: { tenantId: '' } })).toThrow(
    expect.objectContaining({ code: 'SSE_ERR_INVALID_TENANT' }),
  );
});

test('questions to a tenant are about its clients, questions to the broker about all', () => {
  const broker = makeBroker();
  const connect = (userId: string, tenantId: string | undefined, ...topics: string[]) =>
    broker.connect({ sink: StrictSink.forTest(), identity: { userId, tenantId }, topics });
  connect('ann', 'acme', 'x');
  connect('ann', 'acme');
  connect('ann', 'other', 'y');
  connect('bob', undefined, 'x');
  const [acme, other] = [broker.tenant('acme'), broker.tenant('other')];
  const asked = (of: Broker | ReturnType<Broker['tenant']>) => ({
    users: of.getOnlineUsers().toSorted(),
    ann: of.getUserConnectionCount('ann'),
    isBobThere: of.isUserOnline('bob'),
    topics: of.getActiveTopics().toSorted(),
    x: of.getTopicConnectionCount('x'),
  });
  expect(asked(acme)).toEqual({ users: ['ann'], ann: 2, isBobThere: false, topics: ['x'], x: 1 });
  expect(asked(other)).toEqual({ users: ['ann'], ann: 1, isBobThere: false, topics: ['y'], x: 0 });
  expect(asked(broker)).toEqual({ users: ['ann', 'bob'], ann: 3, isBobThere: true, topics: ['x', 'y'], x: 2 });
  // A user is a userId within its tenant.
  expect(broker.getStats()).toMatchObject({ totalClients: 4, totalUsers: 3, totalTopics: 2 });
});

test('disconnecting a user of one tenant leaves the one of that name in others', async () => {
  const broker = makeBroker();
  const sinks = ['acme', 'other', undefined].map((tenantId) => {
    const sink = StrictSink.forTest();
    broker.connect({ sink, identity: { userId: 'ann', tenantId } });
    return sink;
  });
  expect(await broker.disconnectUser('ann', { tenantId: 'acme', reason: 'bye' })).toBe(1);
  expect(sinks.map(({ isEnded }) => isEnded)).toEqual([true, false, false]);
  expect(sinks[0]!.all('closing')).toEqual([{ reason: 'disconnected', message: 'bye' }]);
  expect(await broker.disconnectUser('ann')).toBe(2);
  expect(await broker.disconnectUser('ann')).toBe(0);
  expect(sinks.map(({ isEnded }) => isEnded)).toEqual([true, true, true]);
});

test('an identity that the application changes while the stream is open moves it into no other tenant', async () => {
  const broker = makeBroker();
  const sink = StrictSink.forTest();
  const identity = { userId: 'ann', tenantId: 'acme' };
  const clientId = broker.connect({ sink, identity, topics: ['x'] });
  identity.tenantId = 'globex';
  await broker.subscribe(clientId, 'y');
  for (const tenant of ['acme', 'globex']) {
    await broker.tenant(tenant).sendToTopic('x', 'n', `x of ${tenant}`);
    await broker.tenant(tenant).sendToTopic('y', 'n', `y of ${tenant}`);
  }
  await broker.tenant('acme').sendToClient(clientId, 'n', 'to the client of acme');
  await expect(broker.tenant('globex').sendToClient(clientId, 'n', 1)).rejects.toMatchObject({
    code: 'SSE_ERR_UNKNOWN_CLIENT',
  });
  await broker.unsubscribe(clientId, 'x');
  await broker.tenant('acme').sendToTopic('x', 'n', 'after it left x');
  await new Promise((resolve) => setImmediate(resolve));
  expect(sink.events.filter(({ type }) => type === 'n').map(({ data }) => data)).toEqual([
    'x of acme',
    'y of acme',
    'to the client of acme',
  ]);
});
