/**
 * What every bus must do, as named cases for any test runner: the contract in src/core/bus.ts, executed.
 *
 * A case makes a bus of its own through `create`, uses only the contract, and fails by an AssertionError of Node. What a
 * bus cannot do (keep history, share a namespace between nodes, survive a restart) is left out by what its fixture
 * declares, never skipped in silence: the names of the cases say what ran.
 */
import type { Bus } from '../core/bus.js';
import { A, type Add, B, type BusFixture, type BusSetup, QUIET, ROOMY } from './bus-case.js';
import { addBreaks, addClose, addDelivery, addLiveOnly, addShared } from './bus-delivery-cases.js';
import { addEpochs } from './bus-epoch-cases.js';
import { addAges, addBytes, addDurable, addExpired, addHistory, addNoHistory } from './bus-history-cases.js';
import { Recorder } from './bus-recorder.js';
import { ManualClock } from './manual-clock.js';

export type { BusFixture, BusSetup };

export interface BusConformanceOptions {
  create(setup: BusSetup): BusFixture | Promise<BusFixture>;
  /** Keeps history with `historySize` above 0. Default true. */
  readonly history?: boolean | undefined;
  /** May be told to keep none (`historySize` 0). Default true. */
  readonly keepsNoHistory?: boolean | undefined;
  /** Drops by age, on `setup.clock`. Default true. */
  readonly ages?: boolean | undefined;
  /**
   * Tells no loss of an event whose ttl has passed. Default false: a carrier that drops events without saying which leaves
   * nobody who could know.
   */
  readonly forgetsExpired?: boolean | undefined;
  /** Drops by bytes. Default true. */
  readonly limitsBytes?: boolean | undefined;
  /** Serves several nodes; fixtures have `another`. Default false. */
  readonly shared?: boolean | undefined;
  /** Keeps its history over a restart; fixtures have `reopen`. Default false. */
  readonly durable?: boolean | undefined;
  /** Its carrier can fail; fixtures have `breakCarrier` and `mendCarrier`. Default false. */
  readonly breaks?: boolean | undefined;
  /** Its history can be lost while it runs; fixtures have `loseHistory`. Default false. */
  readonly loses?: boolean | undefined;
  /** How long a case waits for anything, in ms. Default 5 000. */
  readonly timeoutMs?: number | undefined;
}

/** One thing that a bus must do. */
export interface BusCase {
  readonly name: string;
  /** Rejects where the bus does not. */
  run(): Promise<void>;
}

/**
 * The cases that a bus with these abilities must pass.
 *
 * @example
 * for (const { name, run } of busConformance({ create: () => ({ bus: new MyBus() }) })) test(name, run);
 */
export function busConformance(options: BusConformanceOptions): BusCase[] {
  const { history = true, keepsNoHistory = true, ages = true, limitsBytes = true, forgetsExpired = false } = options;
  const { shared = false, durable = false, breaks = false, loses = false, timeoutMs = 5_000 } = options;
  const cases: BusCase[] = [];

  const add: Add = (name, setup, test) => {
    const run = async (): Promise<void> => {
      const clock = new ManualClock(Date.now());
      const fixture = await options.create({ historySize: history ? ROOMY : 0, ...setup, clock });
      const started: Bus[] = [];
      const start = (bus: Bus, ...keys: string[]): Promise<Recorder> => {
        started.push(bus);
        return Recorder.start(bus, keys, timeoutMs);
      };
      try {
        const node = await start(fixture.bus, A, B, QUIET);
        await test(node, { clock, fixture, start, settle: async () => fixture.settle?.() });
      } finally {
        for (const bus of started) await bus.close();
        await fixture.dispose?.();
      }
    };
    cases.push({ name, run });
  };

  addDelivery(add);
  if (history) addLiveOnly(add, ROOMY);
  if (keepsNoHistory) addLiveOnly(add, 0);
  if (history) addHistory(add);
  if (history && ages) addAges(add);
  if (history && limitsBytes) addBytes(add);
  if (history && forgetsExpired) addExpired(add, ages);
  if (keepsNoHistory) addNoHistory(add);
  if (shared) addShared(add, history);
  if (durable) addDurable(add);
  if (breaks) addBreaks(add, history);
  if (loses) addEpochs(add, shared);
  addClose(add);
  return cases;
}
