/**
 * The event ids of a history file: `epoch.run-sequence`, and what one that comes back stands for.
 *
 * The epoch is the file's. The run is a token of its own for every start: where a power cut or an old backup took the last
 * events of a run away, their sequences are given out again, but by another run. So a cursor that points at a lost event
 * is recognised, and told as a gap, for ever.
 */
import type { Run } from './sqlite-store.js';

export class SqliteIds {
  readonly #epoch: string;
  /** In order of their first sequence; the last is the one that runs. */
  readonly #runs: readonly Run[];
  readonly #prefix: string;

  constructor(epoch: string, runs: readonly Run[]) {
    this.#epoch = epoch;
    this.#runs = runs;
    this.#prefix = `${epoch}.${runs.at(-1)?.token ?? '0'}-`;
  }

  /** The id of an event of this run. */
  next(sequence: number): string {
    return this.#prefix + sequence;
  }

  idOf(sequence: number): string {
    for (let i = this.#runs.length - 1; i >= 0; i--) {
      const { token, first } = this.#runs[i]!;
      if (first <= sequence) return `${this.#epoch}.${token}-${sequence}`;
    }
    // Of a run that is no longer remembered: its ids are not understood any more, but they are well-formed.
    return `${this.#epoch}.0-${sequence}`;
  }

  /** The sequence of an id, or why it has none; `newest` is that of the newest event. */
  sequenceOf(id: string, newest: number): number | 'epoch' | 'unknown' {
    const match = /^([a-z0-9]+)\.([a-z0-9]+)-(0|[1-9][0-9]{0,15})$/.exec(id);
    if (match === null) return 'unknown';
    const [, epoch, token, digits] = match;
    if (epoch !== this.#epoch) return 'epoch';
    const sequence = Number(digits);
    for (let i = this.#runs.length - 1; i >= 0; i--) {
      const run = this.#runs[i]!;
      if (run.token !== token) continue;
      const isNewest = i === this.#runs.length - 1;
      const last = isNewest ? newest : this.#runs[i + 1]!.first - 1;
      if (sequence >= run.first && sequence <= last) return sequence;
      // Beyond the last of an older run: it was there, and a power cut took it.
      return isNewest || sequence < run.first ? 'unknown' : 'epoch';
    }
    return 'epoch';
  }
}
