import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Client } from '../../src/core/client.js';
import { Channel, Registry } from '../../src/core/registry.js';
import { topicKey, userKey } from '../../src/core/topic.js';

/** All that the registry touches of a client. */
function clientStub(): Client {
  return { ownUser: undefined } as unknown as Client;
}

test('a channel is a set of clients, whether it has one member or many', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ add: fc.boolean(), who: fc.nat(4) }), { maxLength: 60 }), (script) => {
      const clients = Array.from({ length: 5 }, clientStub);
      const channel = new Channel('e::');
      const model = new Set<Client>();
      for (const { add, who } of script) {
        const client = clients[who]!;
        // Nobody joins a channel twice.
        if (add && !model.has(client)) {
          channel.add(client);
          model.add(client);
        } else if (!add) {
          channel.delete(client);
          model.delete(client);
        }
        expect(channel.size).toBe(model.size);
        expect(new Set(channel.members())).toEqual(model);
        const { single, crowd } = channel;
        expect(single === undefined || crowd === undefined).toBe(true);
        expect(new Set(single === undefined ? crowd?.clients.values() : [single])).toEqual(model);
      }
    }),
  );
});

test('members() is a copy: a client may leave while it is used', () => {
  const channel = new Channel('e::');
  const clients = Array.from({ length: 3 }, clientStub);
  for (const client of clients) channel.add(client);
  const members = channel.members();
  for (const client of members) channel.delete(client);
  expect(members).toEqual(clients);
  expect(channel.size).toBe(0);
});

test('keys that are names of every object are keys like others', () => {
  const registry = new Registry();
  const client = clientStub();
  for (const name of ['__proto__', 'constructor', 'toString']) {
    expect(registry.channel(topicKey(name))).toBeUndefined();
    registry.join(client, topicKey(name));
    expect(registry.channel(topicKey(name))?.size).toBe(1);
  }
  expect(registry.names('t', topicKey(''))).toEqual(['__proto__', 'constructor', 'toString']);
});

test('names of one tenant are not those of another whose name it begins with', () => {
  const registry = new Registry();
  const client = clientStub();
  for (const tenantId of ['a', 'ab', 'a:b', 'a%']) {
    registry.join(client, userKey(`in ${tenantId}`, tenantId));
  }
  for (const tenantId of ['a', 'ab', 'a:b', 'a%']) {
    expect(registry.names('u', userKey('', tenantId))).toEqual([`in ${tenantId}`]);
  }
  expect(registry.names('u', userKey(''))).toEqual([]);
});
