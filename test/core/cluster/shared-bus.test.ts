/** The bus that the tests of many nodes stand on keeps the contract itself. */
import { describe, test } from 'vitest';
import { busConformance } from '../../../src/testing/index.js';
import { SharedHub } from '../../support/shared-bus.js';

describe('the hub of the tests', () => {
  const cases = busConformance({
    shared: true,
    create: ({ historySize, historyBytes, historyTtl, clock }) => {
      const hub = new SharedHub({ historySize, historyBytes, historyTtl, clock });
      return { bus: hub.port(), another: () => hub.port() };
    },
  });
  for (const { name, run } of cases) test(name, run);
});
