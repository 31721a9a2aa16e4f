/**
 * Questions that many ask at once, asked once: who asks within one turn shares the answer. Never an answer that was on its
 * way already, because it may be of before the moment that the asker means.
 */
export class NextBatch<T> {
  readonly #ask: () => Promise<T>;
  #next: Promise<T> | undefined = undefined;

  constructor(ask: () => Promise<T>) {
    this.#ask = ask;
  }

  /** An answer that was asked for after this call. */
  get(): Promise<T> {
    this.#next ??= new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
      this.#next = undefined;
      return this.#ask();
    });
    return this.#next;
  }
}
