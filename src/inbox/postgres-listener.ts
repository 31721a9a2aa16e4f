/** LISTEN on one connection of a pool of pg, opened anew when it breaks. What is missed meanwhile, polling finds. */

/** The part of a client of pg that we call. */
interface ListeningClient {
  query(sql: string): Promise<unknown>;
  on(event: 'notification' | 'error' | 'end', listener: (value: never) => void): unknown;
  removeAllListeners(event: string): unknown;
  release(destroy?: boolean): void;
}

/** The part of a pool of pg that we call. */
export interface ListeningPool {
  connect(): Promise<ListeningClient>;
}

/** Between two attempts to open a connection, in ms. */
const RETRY_MS = 1_000;

export class PostgresListener {
  readonly #pool: ListeningPool;
  readonly #channel: string;
  readonly #callback: () => void;
  #client: ListeningClient | undefined;
  #retry: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(pool: ListeningPool, channel: string, callback: () => void) {
    this.#pool = pool;
    this.#channel = channel;
    this.#callback = callback;
  }

  /** Rejects where the first connection fails. */
  async open(): Promise<void> {
    const client = await this.#pool.connect();
    if (this.#isClosed) return client.release();
    this.#client = client;
    client.on('notification', () => this.#callback());
    // A connection that breaks says `error`, `end` or both.
    client.on('error', () => this.#lost(client));
    client.on('end', () => this.#lost(client));
    try {
      await client.query(`LISTEN ${this.#channel}`);
    } catch (error) {
      if (this.#client === client) this.#drop(client);
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    // Not UNLISTEN and back into the pool: the connection may hang, and closing must not.
    if (this.#client) this.#drop(this.#client);
  }

  #lost(client: ListeningClient): void {
    if (this.#client !== client) return;
    this.#drop(client);
    this.#reopen();
  }

  #reopen(): void {
    if (this.#isClosed) return;
    this.#retry = setTimeout(() => {
      this.open().then(
        // Something may have been enqueued while nobody listened.
        () => this.#callback(),
        () => this.#reopen(),
      );
    }, RETRY_MS);
    this.#retry.unref();
  }

  #drop(client: ListeningClient): void {
    this.#client = undefined;
    for (const event of ['notification', 'end']) client.removeAllListeners(event);
    client.release(true);
  }
}
