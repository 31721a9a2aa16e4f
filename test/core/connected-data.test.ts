import fc from 'fast-check';
import { expect, test } from 'vitest';
import { connectedData } from '../../src/core/connected-data.js';
import { nameProblem } from '../../src/core/topic.js';

test('is what JSON.stringify would make of it, whatever the names', () => {
  const name = fc
    .oneof(fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }), fc.constantFrom('"', '\\', '\u2028', '"\\"'))
    .filter((text) => nameProblem(text) === undefined);
  const identity = fc.record({ userId: name, tenantId: name }, { requiredKeys: [] });
  const times = fc.record({ serverTime: fc.nat(), heartbeatInterval: fc.nat(), retry: fc.nat() });
  fc.assert(
    fc.property(name, identity, fc.array(name, { maxLength: 4 }), times, (id, who, topics, when) => {
      const { userId = null, tenantId = null } = who;
      const { serverTime, heartbeatInterval, retry } = when;
      expect(connectedData({ id, identity: who }, topics, when)).toBe(
        JSON.stringify({ clientId: id, userId, tenantId, topics, serverTime, heartbeatInterval, retry }),
      );
    }),
  );
});
