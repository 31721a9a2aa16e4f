import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { Client, type ClientHost } from '../../src/core/client.js';
import { Fanout } from '../../src/core/fanout.js';
import { Membership } from '../../src/core/membership.js';
import { MemoryBus } from '../../src/core/memory-bus.js';
import { resolveOptions } from '../../src/core/options.js';
import { Registry } from '../../src/core/registry.js';
import { clientKey, everybodyKey, topicKey, userKey } from '../../src/core/topic.js';
import { StrictSink } from '../support/strict-sink.js';

const USERS = ['ann', 'bob', '__proto__'] as const;
const TENANTS = ['acme', 'a:b'] as const;
const TOPICS = ['x', 'y', 'x:y'] as const;

class Stage {
  readonly registry = new Registry();
  readonly joined = new Set<string>();
  readonly membership: Membership;
  readonly #host: ClientHost;
  #clients = 0;

  constructor() {
    const bus = new MemoryBus();
    bus.join = (key?: string) => {
      assert(!this.joined.has(key!), `${key} is joined once`);
      this.joined.add(key!);
    };
    bus.leave = (key: string) => {
      assert(this.joined.has(key), `${key} is left once`);
      this.joined.delete(key);
    };
    const fanout = new Fanout(() => 0, 0);
    this.membership = new Membership(this.registry, bus, fanout);
    this.#host = {
      options: resolveOptions(),
      tick: 0,
      queueTotals: { frames: 0, bytes: 0 },
      now: () => 0,
      ready: (client) => fanout.ready(client),
      wrote: () => {},
      dropped: () => {},
      overflowed: () => {},
      gapTold: () => {},
      ended: () => {},
      closed: () => {},
    };
  }

  client(userId: string | undefined, tenantId: string | undefined): Client {
    return new Client(this.#host, new StrictSink(), `client-${++this.#clients}`, { userId, tenantId });
  }
}

type Action =
  | { do: 'enter'; user: number; tenant: number; topics: string[] }
  | { do: 'leave'; who: number }
  | { do: 'add' | 'remove'; who: number; topic: number };

const actions: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('enter' as const),
      user: fc.nat(USERS.length),
      tenant: fc.nat(TENANTS.length),
      topics: fc.array(fc.constantFrom(...TOPICS), { maxLength: 4 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('leave' as const), who: fc.nat(20) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom('add' as const, 'remove' as const),
      who: fc.nat(20),
      topic: fc.nat(TOPICS.length - 1),
    }),
  },
);

interface Member {
  readonly client: Client;
  readonly userId: string | undefined;
  readonly tenantId: string | undefined;
  readonly topics: Set<string>;
}

/** Everything that can be asked, against the list of who is there. */
function check({ registry, membership, joined }: Stage, members: readonly Member[]): void {
  const keys = new Set<string>();
  const count = (has: (member: Member) => boolean): number => members.filter(has).length;
  const distinct = (names: readonly string[]): string[] => [...new Set(names)].toSorted();
  for (const tenantId of [undefined, ...TENANTS]) {
    const inside = members.filter((member) => tenantId === undefined || member.tenantId === tenantId);
    const presence = membership.presence(tenantId);
    for (const userId of USERS) {
      const streams = inside.filter((member) => member.userId === userId);
      assert.equal(presence.getUserConnectionCount(userId), streams.length);
      assert.equal(presence.isUserOnline(userId), streams.length > 0);
      if (streams.length > 0) keys.add(userKey(userId, tenantId));
      assert.deepEqual(
        new Set(registry.channel(userKey(userId, tenantId))?.members() ?? []),
        new Set(streams.map(({ client }) => client)),
      );
    }
    for (const topic of TOPICS) {
      const streams = inside.filter(({ topics }) => topics.has(topic));
      assert.equal(presence.getTopicConnectionCount(topic), streams.length);
      if (streams.length > 0) keys.add(topicKey(topic, tenantId));
    }
    assert.deepEqual(
      presence.getOnlineUsers().toSorted(),
      distinct(inside.flatMap(({ userId }) => (userId === undefined ? [] : [userId]))),
    );
    assert.deepEqual(presence.getActiveTopics().toSorted(), distinct(inside.flatMap(({ topics }) => [...topics])));
    if (inside.length > 0) keys.add(everybodyKey(tenantId));
  }
  for (const { client, userId, tenantId, topics } of members) {
    keys.add(clientKey(client.id));
    assert.deepEqual(membership.topicsOf(client).toSorted(), [...topics].toSorted());
    if (userId !== undefined) {
      // What maxConnectionsPerUser counts: streams of the user within its tenant.
      const own = count((other) => other.userId === userId && other.tenantId === tenantId);
      assert.equal(registry.channel(userKey(userId, tenantId))!.owners, own);
    }
  }
  assert.deepEqual([...joined].toSorted(), [...keys].toSorted(), 'interest');
  assert.equal(
    registry.userCount,
    new Set(members.flatMap((one) => (one.userId ? [userKey(one.userId, one.tenantId)] : []))).size,
  );
  assert.equal(registry.topicCount, new Set(members.flatMap(({ topics }) => [...topics])).size);
  assert.deepEqual(membership.membersOf(undefined), new Set(members.map(({ client }) => client)));
  assert.deepEqual(
    membership.membersOf([topicKey('x'), userKey('ann', 'acme'), topicKey('nobody')]),
    new Set(
      members
        .filter(({ topics, userId, tenantId }) => topics.has('x') || (userId === 'ann' && tenantId === 'acme'))
        .map(({ client }) => client),
    ),
  );
}

test('who comes and goes: counts, names, members and interest are those of who is there; in the end nothing is left', () => {
  fc.assert(
    fc.property(fc.array(actions, { maxLength: 50, size: 'max' }), (script) => {
      const stage = new Stage();
      const { registry, membership } = stage;
      const members: Member[] = [];
      const leave = (at: number): void => {
        const [member] = members.splice(at, 1);
        membership.leaveAll(member!.client);
      };
      for (const action of script) {
        if (action.do === 'enter') {
          const userId = USERS[action.user];
          const tenantId = TENANTS[action.tenant];
          const client = stage.client(userId, tenantId);
          membership.enter(client, client.identity, action.topics);
          members.push({ client, userId, tenantId, topics: new Set(action.topics) });
        } else if (members.length > 0) {
          const at = action.who % members.length;
          if (action.do === 'leave') {
            leave(at);
          } else {
            const { client, topics } = members[at]!;
            const topic = TOPICS[action.topic]!;
            const had = topics.has(topic);
            if (action.do === 'add') {
              assert.equal(membership.addTopic(client, topic) !== undefined, !had);
              topics.add(topic);
            } else {
              assert.equal(membership.removeTopic(client, topic), had);
              topics.delete(topic);
            }
          }
        }
        check(stage, members);
      }
      while (members.length > 0) leave(members.length - 1);
      check(stage, []);
      for (const key of [everybodyKey(), userKey('ann'), topicKey('x'), topicKey('x', 'acme')]) {
        assert.equal(registry.channel(key), undefined);
      }
    }),
    { numRuns: 150 },
  );
});
