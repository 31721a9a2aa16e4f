/** The in-memory bus keeps the contract of buses. */
import { describe, test } from 'vitest';
import { MemoryBus } from '../../src/index.js';
import { busConformance } from '../../src/testing/index.js';

describe('MemoryBus', () => {
  for (const { name, run } of busConformance({
    create: (setup) => ({ bus: new MemoryBus(setup) }),
    forgetsExpired: true,
  }))
    test(name, run);
});
