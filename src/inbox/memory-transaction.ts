/** The caller's own transaction, for a store in memory. */
import { SseError } from '../core/errors.js';
import type { NewMessage } from './store.js';

/**
 * What `MemoryStore.begin` answers: stands for a database transaction where `inbox.enqueue(tx, …)` is tried out
 * without one.
 */
export class MemoryTransaction {
  readonly #commit: (messages: readonly NewMessage[]) => void;
  #messages: NewMessage[] = [];
  #isOpen = true;

  /** @internal Made by `MemoryStore.begin`. */
  constructor(commit: (messages: readonly NewMessage[]) => void) {
    this.#commit = commit;
  }

  /** @internal Called by `MemoryStore.enqueue`. */
  add(messages: readonly NewMessage[]): void {
    if (!this.#isOpen) throw new SseError('SSE_ERR_INVALID_OPTION', 'tx is over: it was committed or rolled back');
    this.#messages.push(...messages);
  }

  /** What was enqueued goes out now. A second call does nothing. */
  commit(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#commit(this.#messages);
  }

  /** What was enqueued never was. A second call does nothing. */
  rollback(): void {
    this.#isOpen = false;
    this.#messages = [];
  }
}
