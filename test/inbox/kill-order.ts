/** What kill.test.ts tells kill-program.ts. */

/** Steps of a send, of one out of the outbox, and of what keeps them. */
export const STEPS = [
  'before append',
  'after append',
  'before publish',
  'after publish',
  'after resolve',
  'after enqueue',
  'after relay',
  'before relayed',
  'after relayed',
  'before renewNode',
  'after renewNode',
  'before advance',
] as const;

export interface KillOrder {
  readonly store: string;
  /** Where the bus keeps history; undefined for one in memory. */
  readonly history: string | undefined;
  readonly log: string;
  readonly first: number;
  /** Undefined: does not send, and lives. */
  readonly step: (typeof STEPS)[number] | undefined;
  readonly occurrence: number;
}
