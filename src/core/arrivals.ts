/** Clients that are registered and not served yet: their keys are not joined, or their first frame has not come. */

export class Arrivals {
  /** By client id: resolves when the bus has joined the client's keys. */
  readonly #joining = new Map<string, Promise<void>>();
  /** Who waits for the first frame of a stream, by client id; most streams have theirs at once. */
  readonly #beginning = new Map<string, { readonly promise: Promise<void>; readonly resolve: () => void }>();

  /** Calls back when `whenReady` is settled; until then {@link whenJoined} gives it. */
  joining(clientId: string, whenReady: Promise<unknown>, joined: () => void, failed: (error: unknown) => void): void {
    const joining = whenReady.then(() => {});
    this.#joining.set(clientId, joining);
    joining.then(
      () => {
        this.#joining.delete(clientId);
        joined();
      },
      (error: unknown) => {
        this.#joining.delete(clientId);
        failed(error);
      },
    );
  }

  /** Undefined where it is joined, or unknown. */
  whenJoined(clientId: string): Promise<void> | undefined {
    return this.#joining.get(clientId);
  }

  /** A stream that has no first frame yet. */
  expectFirstFrame(clientId: string): void {
    let resolve = (): void => {};
    const promise = new Promise<void>((done) => {
      resolve = done;
    });
    this.#beginning.set(clientId, { promise, resolve });
  }

  /** It has left; what it waited for may never come. */
  gone(clientId: string): void {
    this.#joining.delete(clientId);
    this.firstFrameCame(clientId);
  }

  /** Its first frame is written, or none will be. */
  firstFrameCame(clientId: string): void {
    if (this.#beginning.size === 0) return;
    this.#beginning.get(clientId)?.resolve();
    this.#beginning.delete(clientId);
  }

  /** Resolves with the first frame, or the end; undefined where there is nothing to wait for. */
  whenBegun(clientId: string): Promise<void> | undefined {
    return this.#beginning.get(clientId)?.promise;
  }
}
