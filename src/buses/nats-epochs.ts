/**
 * Which stream this node follows, as far as it knows, and what ids mean in it. An id is `epoch-sequence`; the epoch is that of
 * the stream, so what a stream counts that has replaced another one is never taken for what the other had counted.
 */
import { randomBytes } from 'node:crypto';
import type { Head } from '../core/bus.js';
import type { StreamView } from './nats-stream.js';

export class NatsEpochs {
  #view: StreamView | undefined = undefined;
  /** A stream that went back (a backup, a power cut) counts again what clients have seen: for this node another epoch. */
  #fork: { readonly epoch: string; readonly suffix: string } | undefined = undefined;
  #newest = 0;
  #isReplaced = false;

  /** The stream as it was seen last; only after the bus has started. */
  get view(): StreamView {
    return this.#view!;
  }

  /** The newest sequence that is known to be stored in it. */
  get newest(): number {
    return this.#newest;
  }

  /** Something came from another stream, and this node has not looked since. */
  get isReplaced(): boolean {
    return this.#isReplaced;
  }

  see(view: StreamView): void {
    const isSame = this.#view !== undefined && this.of(this.#view) === this.of(view);
    this.#newest = isSame ? Math.max(this.#newest, view.last) : view.last;
    this.#view = view;
    this.#isReplaced = false;
  }

  /** An event was stored. */
  stored(sequence: number): void {
    this.#newest = Math.max(this.#newest, sequence);
  }

  replaced(): void {
    this.#isReplaced = true;
  }

  /** The stream stands before what it had republished, and that is no mistake. */
  fork(view: StreamView): void {
    this.#fork = { epoch: view.epoch, suffix: `.${randomBytes(4).toString('hex')}` };
    this.#newest = 0;
  }

  of(view: StreamView): string {
    return this.#fork?.epoch === view.epoch ? view.epoch + this.#fork.suffix : view.epoch;
  }

  headOf(view: StreamView): Head {
    const epoch = this.of(view);
    return { id: `${epoch}-${view.last}`, sequence: view.last, epoch };
  }

  /** The sequence of an id, or why it is none of this stream. */
  cursorOf(id: string, view: StreamView): number | 'epoch' | 'unknown' {
    const match = /^([A-Za-z0-9.]+)-(0|[1-9][0-9]{0,15})$/.exec(id);
    if (match === null) return 'unknown';
    if (match[1] !== this.of(view)) return 'epoch';
    const sequence = Number(match[2]);
    return sequence <= view.last ? sequence : 'unknown';
  }
}
