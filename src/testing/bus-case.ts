/** What the cases of the bus conformance suite are made of. */
import assert from 'node:assert/strict';
import type { Bus, ReadResult } from '../core/bus.js';
import type { BusEvent } from '../core/event.js';
import type { Recorder } from './bus-recorder.js';
import type { ManualClock } from './manual-clock.js';

/** How a case wants its bus. */
export interface BusSetup {
  /** Events per channel key; 0 only where `keepsNoHistory` was declared. */
  readonly historySize: number;
  /** Undefined: more than the case can fill. */
  readonly historyBytes?: number | undefined;
  /** Undefined: no age limit. */
  readonly historyTtl?: number | undefined;
  /** For buses that take one; the others leave `ages` undeclared. */
  readonly clock: ManualClock;
}

/** A bus as one case uses it, not started, of a namespace that no other case uses. */
export interface BusFixture {
  readonly bus: Bus;
  /** Resolves when what retention drops by now is dropped; needed where that is not at once. */
  settle?(): void | Promise<void>;
  /** One more node on the same namespace, not started. Needed with `shared`. */
  another?(): Bus | Promise<Bus>;
  /** A new bus over the same history, not started; the case has closed the one before. Needed with `durable`. */
  reopen?(): Bus | Promise<Bus>;
  /** Makes publishing fail from now on. Needed with `breaks`. */
  breakCarrier?(): void | Promise<void>;
  /** Undoes that. Needed with `breaks`. */
  mendCarrier?(): void | Promise<void>;
  /** Loses what the carrier has of the namespace, as another program would, and no node is told. Needed with `loses`. */
  loseHistory?(): void | Promise<void>;
  /** Called at the end of the case, after the buses were closed. */
  dispose?(): void | Promise<void>;
}

/** What a case has at hand. */
export interface Bench {
  readonly clock: ManualClock;
  readonly fixture: BusFixture;
  /** Starts a bus, and closes it when the case ends. */
  start(bus: Bus, ...keys: string[]): Promise<Recorder>;
  settle(): Promise<void>;
}

export type Test = (node: Recorder, bench: Bench) => Promise<void>;

export const A = 't::a';
export const B = 't::b';
export const QUIET = 'u::quiet';
export const ROOMY = 1_000;

export const numbers = (count: number, from = 1): string[] => Array.from({ length: count }, (_, i) => String(from + i));
export const dataOf = (events: readonly BusEvent[]): string[] => events.map(({ data }) => data);

export type Add = (name: string, setup: Partial<Omit<BusSetup, 'clock'>>, test: Test) => void;

export function assertGrowing(events: readonly BusEvent[]): void {
  for (let i = 1; i < events.length; i++) {
    assert.ok(events[i - 1]!.sequence < events[i]!.sequence, 'sequences grow with every event');
  }
}

/** The number in the first event that is served after `completeAfter`; all after it are there, without a loss. */
export async function sequenceAfter(node: Recorder, { completeAfter, head }: ReadResult): Promise<number> {
  const rest = await node.read([A, B], completeAfter ?? head.id);
  assert.equal(rest.loss, undefined);
  return Number(rest.events[0]?.data ?? Number.POSITIVE_INFINITY);
}
