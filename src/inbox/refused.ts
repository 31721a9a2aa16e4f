/**
 * Messages that the bus would not take: tried again in the order of their positions, until it does. The first of them is tried alone: while
 * the bus is away the others would only be refused as well. And of more than fit into `KEPT_CHARS` only their ids are kept, however
 * long that is: the store has them.
 */
import type { InboxStore, NewMessage } from './store.js';

/** How long until they are tried again, in ms. */
const RETRY_MS = 500;
/** Characters of data that are kept. */
const KEPT_CHARS = 4 * 1024 * 1024;
/** Tried at once, when the bus has taken one. */
const AT_ONCE = 64;

/** Told the positions of what is out. */
export type Done = (positions: readonly number[]) => void;

export interface Refused {
  readonly message: NewMessage;
  readonly position: number;
  readonly done: Done | undefined;
}

/** With what is kept of its message. */
type Kept = Omit<Refused, 'message'> & { readonly eventId: string; readonly message: NewMessage | undefined };

export interface RefusedHost {
  readonly store: InboxStore;
  /** Gives it to the bus; what that refuses is added again by who publishes. */
  publish(refused: Refused): unknown;
  /** It is in the store no more. */
  gone(position: number, done: Done | undefined): void;
}

export class RefusedMessages {
  readonly #host: RefusedHost;
  #kept: Kept[] = [];
  #chars = 0;
  #retry: NodeJS.Timeout | undefined = undefined;
  #isTrying = false;
  #isClosed = false;

  constructor(host: RefusedHost) {
    this.#host = host;
  }

  add({ message, position, done }: Refused): void {
    if (this.#isClosed) return;
    const { eventId, data } = message;
    const isKept = this.#chars + data.length <= KEPT_CHARS || this.#kept.length === 0;
    if (isKept) this.#chars += data.length;
    this.#kept.push({ eventId, message: isKept ? message : undefined, position, done });
    this.#tryLater();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#kept = [];
  }

  #tryLater(): void {
    if (this.#isClosed || this.#isTrying || this.#kept.length === 0) return;
    this.#retry ??= setTimeout(
      () => {
        this.#retry = undefined;
        void this.#tryAll();
      },
      RETRY_MS * (0.75 + Math.random() / 2),
    ).unref();
  }

  /** As far as the bus takes them. Never rejects. */
  async #tryAll(): Promise<void> {
    this.#isTrying = true;
    const all = this.#kept.sort((a, b) => a.position - b.position);
    this.#kept = [];
    let tried = 0;
    for (let count = 1; tried < all.length && this.#kept.length === 0 && !this.#isClosed; count = AT_ONCE) {
      const some = all.slice(tried, tried + count);
      tried += some.length;
      await Promise.all(some.map((one) => this.#try(one)));
    }
    if (!this.#isClosed) this.#kept = this.#kept.concat(all.slice(tried));
    this.#isTrying = false;
    this.#tryLater();
  }

  async #try(kept: Kept): Promise<void> {
    const { eventId, position, done } = kept;
    let message: NewMessage | undefined;
    try {
      message = kept.message ?? (await this.#host.store.find(eventId));
    } catch {
      // Whoever asks the store all the time reports it.
      this.#kept.push(kept);
      return;
    }
    this.#chars -= kept.message?.data.length ?? 0;
    if (message === undefined) this.#host.gone(position, done);
    else await this.#host.publish({ message, position, done });
  }
}
