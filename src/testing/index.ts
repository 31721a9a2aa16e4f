/**
 * The entry `sse-broker/testing`: the conformance suite that proves a bus right, and the clock and sink with which an
 * application tests its own events without waiting and without sockets. No test runner is imported.
 */
export type { BusCase, BusConformanceOptions, BusFixture, BusSetup } from './bus-conformance.js';
export { busConformance } from './bus-conformance.js';
export { busNodesConformance, type NodesConformanceOptions } from './bus-conformance-nodes.js';
export { ManualClock } from './manual-clock.js';
export { MemorySink } from './memory-sink.js';
export {
  type StoreCase,
  type StoreConformanceOptions,
  type StoreFixture,
  storeConformance,
} from './store-conformance.js';
