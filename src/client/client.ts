/**
 * The object an application holds: handlers, status, counters, and the parts put together. It opens nothing and touches no
 * global before `connect()`.
 */
import { type Cursor, createCursor } from './cursor.js';
import { createDelivery, type Delivery } from './delivery.js';
import { createEngine } from './engine.js';
import type { Engine, EngineHost, Pace } from './engine-contract.js';
import { SSEClientError } from './errors.js';
import { createGroup, locksFor } from './group.js';
import { iterate, type Tap } from './iterate.js';
import { nameOf, type Options, refuse, resolveOptions } from './options.js';
import { isHidden, watchPage } from './page.js';
import { hrefOf } from './request.js';
import { idle } from './status.js';
import type {
  SSEClientConfig,
  SSEClientEvents,
  SSEDataOf,
  SSEEvent,
  SSEEventMap,
  SSEEventName,
  SSEGap,
  SSEHandler,
  SSEIterateOptions,
  SSEStats,
  SSEStatusChange,
  SSEStatusInfo,
} from './types.js';

type AnyHandler = (...values: never[]) => unknown;

/** One registration. */
interface Entry {
  readonly handler: AnyHandler;
  readonly once: boolean | undefined;
  /** The event that is under way does not come to who is gone. */
  done?: boolean;
}

/** What the client says itself has a key that no type of a server can be. */
const keyOf = (name: string): string =>
  /^((dis)?connected|status|message|gap|error)$/.test(name) ? `\n${name}` : name;

/**
 * The client of an event stream. It comes back after failures, goes on from the last id, and tells what it does.
 *
 * @example
 * ```ts
 * const client = new SSEClient<{ progress: { percent: number } }>({ url: '/stream' });
 * client.subscribe('progress', ({ percent }) => console.log(percent));
 * client.connect();
 * ```
 */
export class SSEClient<Events extends object = SSEEventMap> {
  /** By key, while anything is registered. A list is never changed, but replaced: whoever is called may register and undo. */
  readonly #entries = new Map<string, readonly Entry[]>();
  readonly #taps = new Set<Tap>();
  readonly #cursor: Cursor;
  readonly #delivery: Delivery;
  readonly #pace: Pace = { last: -Infinity };
  #config: SSEClientConfig;
  #options: Options;
  #engine: Engine | undefined;
  #info = idle();
  /** Undoes `watchPage`; set while the application wants a connection. */
  #unwatch: (() => void) | undefined;
  #isSuspended = false;
  #isPaused = false;
  #isDestroyed = false;
  #refetching: AbortController | undefined;
  #openedAt = 0;
  /** Told one after the other: what a handler of one brings about comes behind it, for all. */
  readonly #changes: SSEStatusChange[] = [];

  /** @throws {SSEClientError} `SSE_CLIENT_OPTION` */
  constructor(config: SSEClientConfig = {}) {
    this.#config = config;
    this.#options = resolveOptions(config);
    const settings = () => this.#options;
    this.#cursor = createCursor(settings);
    this.#delivery = createDelivery(settings, this.#cursor, {
      dispatch: (event) => this.#dispatch(event),
      error: (cause) => {
        this.#emit('\nerror', new SSEClientError('SSE_CLIENT_CALLBACK', 'parse failed', { cause }));
      },
      gap: (resumedFrom) => this.#tellGap({ reason: 'overflow', resumedFrom, local: true }),
    });
  }

  /**
   * Begins; returns at once. While connected or on the way, without arguments, it does nothing. A new address or new
   * settings, which are laid over those there are, take effect at once; the last id stays. After `failed` it begins anew.
   *
   * @throws {SSEClientError} `SSE_CLIENT_OPTION`, also where no address is known; `SSE_CLIENT_DESTROYED`
   */
  connect(url?: SSEClientConfig['url'], config?: SSEClientConfig): void {
    if (this.#isDestroyed) throw new SSEClientError('SSE_CLIENT_DESTROYED', 'destroyed');
    const isNew = config || (url && url !== this.#config.url);
    if (this.#unwatch && !isNew && !this.#isOver()) return;
    const given: SSEClientConfig = { ...config, ...(url && { url }) };
    // The newer of the two decides.
    const merged = {
      ...this.#config,
      ...(given.url ? { urls: undefined } : given.urls && { url: undefined }),
      ...given,
    };
    const options = resolveOptions(merged);
    if (!options.urls[0]) refuse('url', 'is needed');
    for (const url of options.urls) {
      try {
        if (typeof url !== 'function') hrefOf(url);
      } catch {
        refuse('url', `cannot be ${url}`);
      }
    }
    if (options.shareAcrossTabs || options.persistLastEventId) nameOf(options);
    if (isNew) {
      // A handler of the end may connect: with what is new, and not what ends here.
      const engine = this.#engine;
      this.#config = merged;
      this.#options = options;
      this.#engine = undefined;
      this.#cursor.id = config?.lastEventId ?? this.#cursor.id;
      this.#unwatch?.();
      this.#unwatch = undefined;
      engine?.stop('requested');
      if (this.#isDestroyed) return;
    }
    this.#unwatch ??= watchPage((signal) => {
      // A leader that stands still would keep the others waiting.
      if (
        signal === 'pagehide' ||
        (signal === 'freeze' && options.shareAcrossTabs) ||
        (options.closeWhenHidden && isHidden())
      ) {
        this.#suspend(true);
      } else if (!isHidden() || !/vis|freeze/.test(signal)) {
        this.#suspend(false);
        this.#engine?.check();
      }
    });
    this.#cursor.load();
    this.#engine ??= this.#createEngine();
    this.#isSuspended = options.closeWhenHidden && isHidden();
    if (this.#isSuspended) this.#setStatus(idle('hidden'));
    else this.#engine.start();
  }

  /** Ends, for good or until `connect()`, which goes on from the last id. Nothing is left open; twice is once. */
  disconnect(): void {
    this.#unwatch?.();
    this.#unwatch = undefined;
    this.#engine?.stop('requested');
    this.#refetching?.abort();
    for (const tap of this.#taps) tap.end();
  }

  /**
   * Drops what is open and connects again, never within 250 ms of the last attempt; failures so far are forgotten. With
   * `shareAcrossTabs`: for all tabs.
   *
   * @throws {SSEClientError} as `connect()`
   */
  reconnect(): void {
    if (this.#unwatch && !this.#isSuspended) this.#engine?.start();
    else this.connect();
  }

  /** `disconnect()`, and no more: handlers and waiting events are gone, and `connect()` throws. Twice is once. */
  destroy(): void {
    // A handler of the end may want to connect again.
    this.#isDestroyed = true;
    this.disconnect();
    this.clearQueue();
    for (const [key] of this.#entries) this.#remove(key);
  }

  /**
   * Calls `handler` for every event of `type` that the server sends, `connected` and `message` included. Events of that
   * type that waited come right after this turn.
   *
   * @returns what undoes it: this registration, also where the same handler is registered twice
   */
  subscribe<Type extends SSEEventName<Events>>(type: Type, handler: SSEHandler<Events, Type>): () => void {
    return this.#add(type, handler);
  }

  /** Undoes `subscribe`; without `handler`, all of the type. */
  unsubscribe<Type extends SSEEventName<Events>>(type: Type, handler?: SSEHandler<Events, Type>): void {
    this.#remove(type, handler);
  }

  /** `connected`, `disconnected`, `status`, `message`, `gap` and `error` are the client's own; all else is as `subscribe`. */
  on<Name extends keyof SSEClientEvents>(name: Name, handler: SSEClientEvents[Name]): this;
  on<Type extends SSEEventName<Events>>(type: Type, handler: SSEHandler<Events, Type>): this;
  on(name: string, handler: AnyHandler): this {
    this.#add(keyOf(name), handler);
    return this;
  }

  /** {@link on}, for the next time only. */
  once<Name extends keyof SSEClientEvents>(name: Name, handler: SSEClientEvents[Name]): this;
  once<Type extends SSEEventName<Events>>(type: Type, handler: SSEHandler<Events, Type>): this;
  once(name: string, handler: AnyHandler): this {
    this.#add(keyOf(name), handler, true);
    return this;
  }

  /** Undoes {@link on} and {@link once}; without `handler`, all of the name. */
  off<Name extends keyof SSEClientEvents>(name: Name, handler?: SSEClientEvents[Name]): this;
  off<Type extends SSEEventName<Events>>(type: Type, handler?: SSEHandler<Events, Type>): this;
  off(name: string, handler?: AnyHandler): this {
    this.#remove(keyOf(name), handler);
    return this;
  }

  /** The same frozen object until something changes. */
  getStatus(): SSEStatusInfo {
    return this.#info;
  }

  getStats(): SSEStats {
    const { status, connected, transport } = this.#info;
    return {
      status,
      connected,
      transport,
      uptime: connected ? Date.now() - this.#openedAt : 0,
      ...this.#delivery.counts,
    };
  }

  /** The last id; empty where there is none yet. */
  get lastEventId(): string {
    return this.#cursor.id;
  }

  /** Events and gaps wait from now on, `messageQueueSize` of them; when more come, `resume()` tells a `gap` of its own. */
  pause(): void {
    this.#isPaused = true;
    this.#settle();
  }

  /** Delivers what waited, in order, at once; then all goes on. */
  resume(): void {
    this.#isPaused = false;
    this.#settle();
  }

  /** Throws away what waits; gives how many events that were. */
  clearQueue(): number {
    return this.#delivery.clear();
  }

  /**
   * Events as they come, from now on, over reconnects, until `disconnect()`, `break` or `signal`. A loop that is slower than
   * its events holds the stream back, for the handlers too: end one that is not wanted any more.
   *
   * @throws {SSEClientError} from the iteration, when the client gives up (`failed`)
   */
  events<Type extends SSEEventName<Events> = SSEEventName<Events>>(
    options: SSEIterateOptions<Type> = {},
  ): AsyncIterableIterator<Type extends string ? SSEEvent<SSEDataOf<Events, Type>, Type> : never> {
    const events = iterate(this.#taps, options.types, options.signal);
    this.#delivery.wake();
    if (this.#isDestroyed) this.disconnect();
    return events as AsyncIterableIterator<never>;
  }

  /** Ended for good, but not by the application. */
  #isOver(): boolean {
    return /fail|dis/.test(this.#info.status) && !/req|hid/.test(this.#info.reason);
  }

  #suspend(isSuspended: boolean): void {
    // What has ended for good is not woken up.
    if (this.#isSuspended === isSuspended || this.#isOver()) return;
    this.#isSuspended = isSuspended;
    if (isSuspended) this.#engine?.stop('hidden');
    else this.#engine?.start();
  }

  #createEngine(): Engine {
    const options = this.#options;
    const host: EngineHost = {
      cursor: this.#cursor,
      block: (type, text, id) => {
        const event = this.#delivery.block(type, text, id);
        if (!event) return;
        if (type === 'connected') {
          const every = (event.data as { heartbeatInterval?: number } | null)?.heartbeatInterval;
          // 0 there: the server sends none. 0 here: the application does not want silence to be watched.
          if (every! >= 0 && options.heartbeatInterval) this.#engine?.learn(+every!);
        }
      },
      flush: (bytes) => {
        this.#delivery.took(bytes);
        if (this.#info.transport === 'polling') this.#delivery.renew();
        // What waits is not handled: the next page is to get it again.
        if (!(this.#refetching || this.#isPaused)) this.#cursor.save();
        let room: Promise<void> | undefined;
        for (const tap of this.#taps) room ??= tap.room();
        return room;
      },
      status: (info) => this.#setStatus(info),
      error: (error) => void this.#emit('\nerror', error),
    };
    const create = (own: EngineHost) => createEngine(options, this.#pace, own);
    return options.shareAcrossTabs && locksFor(nameOf(options))
      ? createGroup(nameOf(options), this.#cursor, host, create)
      : create(host);
  }

  #dispatch(event: SSEEvent): boolean {
    const { type } = event;
    const isSeen = this.#emit('\nmessage', event);
    let isTaken = this.#emit(type, event.data, event) || isSeen;
    // An iterator, also one over nobody, costs 35 ns for each event (bench/client.mjs).
    if (this.#taps.size)
      for (const tap of this.#taps) {
        if (!tap.takes(type)) continue;
        isTaken = true;
        if (!tap.push(event)) this.#delivery.counts.dropped++;
      }
    if (type === 'gap') this.#tellGap({ ...(event.data as object), local: false });
    return isTaken || type === 'gap';
  }

  #setStatus(info: SSEStatusInfo): void {
    const previous = this.#info.status;
    this.#info = info;
    if (info.status === previous) return;
    this.#delivery.renew();
    if (info.connected) {
      if (this.#openedAt) this.#delivery.counts.reconnectCount++;
      this.#openedAt = Date.now();
    }
    // Not in the middle of another: who is called after the handler that did this hears of both in order.
    if (this.#changes.push({ ...info, previous }) > 1) return;
    for (const change of this.#changes) {
      this.#emit('\nstatus', change);
      if (change.connected) this.#emit('\nconnected', change);
      if (change.previous === 'connected') this.#emit('\ndisconnected', change);
    }
    this.#changes.length = 0;
    if (this.#isOver()) for (const tap of this.#taps) tap.end(this.#info.error);
  }

  /** A server may put anything into a `gap`. */
  #tellGap(known: Pick<SSEGap, 'local'> & Partial<SSEGap>): void {
    this.#delivery.counts.gaps++;
    this.#emit('\ngap', {
      reason: 'unknown',
      requested: null,
      resumedFrom: null,
      ...known,
      refetch: (load) => this.#refetch(load),
    } satisfies SSEGap);
  }

  async #refetch<T>(load: (signal: AbortSignal) => T | PromiseLike<T>): Promise<T> {
    do {
      this.#refetching?.abort();
      this.#refetching = undefined;
      // What has waited for the older one is older than what is loaded now. A loss among it calls this again.
      this.#settle();
    } while (this.#refetching);
    const own = new AbortController();
    this.#refetching = own;
    this.#settle();
    try {
      return await load(own.signal);
    } finally {
      // Otherwise a newer one has taken over.
      if (this.#refetching === own) this.#refetching = undefined;
      this.#settle();
    }
  }

  #settle(): void {
    this.#delivery.pause(this.#isPaused ? 2 : this.#refetching ? 1 : 0);
  }

  /** Registers; gives what undoes it. */
  #add(key: string, handler: AnyHandler, once?: boolean): () => void {
    if (typeof handler !== 'function') refuse('handler', 'is needed');
    const entry: Entry = { handler, once };
    this.#entries.set(key, [...(this.#entries.get(key) ?? []), entry]);
    this.#delivery.wake();
    return () => this.#remove(key, entry);
  }

  /** Undoes one registration, those of a handler, or all of the key. */
  #remove(key: string, which?: Entry | AnyHandler): void {
    const left = this.#entries.get(key)?.filter((entry) => {
      entry.done ||= !which || which === entry || which === entry.handler;
      return !entry.done;
    });
    // Types may come and go by the thousand.
    if (left?.[0]) this.#entries.set(key, left);
    else this.#entries.delete(key);
  }

  /** Calls who is registered; one that fails, now or later, fails alone. False where nobody is. */
  #emit(key: string, first?: unknown, second?: unknown): boolean {
    const entries = this.#entries.get(key);
    if (!entries) return false;
    for (const entry of entries) {
      if (entry.done) continue;
      if (entry.once) this.#remove(key, entry);
      try {
        const result = entry.handler(first as never, second as never) as PromiseLike<unknown> | undefined;
        result?.then?.(undefined, (cause) => this.#report(key, cause));
      } catch (cause) {
        this.#report(key, cause);
      }
    }
    return true;
  }

  #report(key: string, cause: unknown): void {
    const error = new SSEClientError('SSE_CLIENT_HANDLER', `${key.trim()} failed`, { cause });
    // Nobody listens, or the one who does is the one that failed: better seen than swallowed.
    if (key === '\nerror' || !this.#emit('\nerror', error)) console.error(error);
  }
}
