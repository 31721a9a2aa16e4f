/**
 * The public words of `sse-broker/client`. Types only: nothing here is left when it is built.
 *
 * All durations are milliseconds. What a setting means, and what happens at 0 or `Infinity`, stands beside it.
 */
import type { SSEClientError } from './errors.js';

/** One event, as handlers get it. The same object goes to every handler; leave it as it is. */
export interface SSEEvent<Data = unknown, Type extends string = string> {
  /** The `event` field; `message` where there is none. */
  readonly type: Type;
  /** What {@link SSEClientConfig.parse} made of the text: the JSON value, or the string where it is not JSON. */
  readonly data: Data;
  /** The `id` field of this very block; undefined where it has none. */
  readonly id: string | undefined;
  /** The last id there was on the stream, up to this event; empty where there was none (HTML standard, section 9.2.6). */
  readonly lastEventId: string;
}

/** Event types and the data of each: `new SSEClient<{ progress: { percent: number } }>(…)`. Any type, unknown data, by default. */
export type SSEEventMap = Record<string, unknown>;

/** The data of one type in a map; unknown for types that the map does not name (`connected`, `gap`, …). */
export type SSEDataOf<Events, Type extends string> = Type extends keyof Events ? Events[Type] : unknown;

/** The names in a map, and any other string beside them. */
export type SSEEventName<Events> = (keyof Events & string) | (string & {});

/** What is registered for a type. A handler that throws or rejects fails alone, and becomes an `error` event. */
export type SSEHandler<Events, Type extends string> = (
  data: SSEDataOf<Events, Type>,
  event: SSEEvent<SSEDataOf<Events, Type>, Type>,
) => unknown;

/**
 * - `disconnected`: nothing is open and nothing is pending: before `connect()`, after `disconnect()`, after a quiet stop
 *   (204), while hidden with `closeWhenHidden`
 * - `connecting`: the first attempt
 * - `connected`: the stream is open, or polling works
 * - `reconnecting`: waiting for the next attempt, or making it
 * - `failed`: given up, nothing is pending; `connect()` or `reconnect()` begins anew
 */
export type SSEStatus = 'disconnected' | 'connecting' | 'connected' | 'reconnecting' | 'failed';

/** How events come at the moment; `shared` where another tab holds the stream (`shareAcrossTabs`). */
export type SSETransport = 'stream' | 'polling' | 'shared';

/** What ended an attempt or a stream, or made it impossible. */
export type SSEFailure =
  /** `fetch` failed, or the connection was cut. */
  | 'network'
  /** No response head within `connectTimeout`. */
  | 'timeout'
  /** No byte for `heartbeatInterval` + `heartbeatTimeout`. */
  | 'silent'
  /** A status that is not 200. */
  | 'status'
  /** 200, but not `text/event-stream` (or, for polling, not the JSON that is expected). */
  | 'content-type'
  /** An event that is larger than `maxEventBytes`. */
  | 'too-large'
  /** A `url` or `headers` function threw or rejected, or gave what cannot be sent. */
  | 'callback';

/** Why the status is what it is. */
export type SSEReason =
  | SSEFailure
  /** The application called `connect()`, `disconnect()`, `reconnect()` or `destroy()`; or nothing has happened yet. */
  | 'requested'
  /** The stream is open, or polling works. */
  | 'opened'
  /** The server ended the stream in an orderly way. */
  | 'ended'
  /** The server said 204, or `decide` said stop. */
  | 'stopped'
  /** The page is hidden (`closeWhenHidden`), or on its way into the back/forward cache. */
  | 'hidden'
  /** The tab that held the stream is gone; another takes over. */
  | 'handed-over';

/** What `getStatus()` gives: the same frozen object until something changes. */
export interface SSEStatusInfo {
  readonly status: SSEStatus;
  /** `status === 'connected'`. */
  readonly connected: boolean;
  /** `status === 'reconnecting'`. */
  readonly reconnecting: boolean;
  readonly reason: SSEReason;
  /** Attempts since a stream last proved good, this one included; 0 before the first. */
  readonly attempt: number;
  /** Milliseconds from the moment of this change to the next attempt; null where none is waited for. */
  readonly nextDelay: number | null;
  /** Null where no connection is open. */
  readonly transport: SSETransport | null;
  /** What went wrong last; null again once a stream is open. */
  readonly error: SSEClientError | null;
}

/** A `status` event: what `getStatus()` gives from now on, and what it was before. Each change comes once. */
export interface SSEStatusChange extends SSEStatusInfo {
  readonly previous: SSEStatus;
}

/** What `getStats()` gives. Counters run from construction, over reconnects. */
export interface SSEStats {
  readonly status: SSEStatus;
  readonly connected: boolean;
  /** Connections that came after the first. */
  readonly reconnectCount: number;
  /** Events received, the server's own (`connected`, `heartbeat`, `gap`, `closing`) included, duplicates not. */
  readonly messagesReceived: number;
  /** When the last of them came, in ms since 1970; null before the first. */
  readonly lastMessageTime: number | null;
  /** How long the connection has been open, in ms; 0 where none is. */
  readonly uptime: number;
  /** Events that had been received before, and were left out (`enableDedup`). */
  readonly duplicates: number;
  /** Events that found no room while they waited (`messageQueueSize`). */
  readonly dropped: number;
  /** `gap` events. */
  readonly gaps: number;
  readonly transport: SSETransport | null;
  /** Bytes of bodies received, comments included, after decompression; another tab's are counted there. */
  readonly bytes: number;
}

/** What a `gap` handler gets: history could not be served completely. */
export interface SSEGap {
  /**
   * `evicted`, `epoch`, `unknown`, `disabled`, `overflow`: docs/reference/events.md. `overflow` with `local` true is this
   * client's own: more events came while it was paused than `messageQueueSize`.
   */
  readonly reason: string;
  /** Events after this id are missing, some or all; null where it is not known. */
  readonly requested: string | null;
  /** Nothing is missing after this id. */
  readonly resumedFrom: string | null;
  /** True where the events were lost in this client, not by the server. */
  readonly local: boolean;
  /**
   * Fetches again what the application shows, while events wait: `load` gets a signal that is aborted by `disconnect()` and
   * by a newer `refetch`, and applies what it loaded; then the events that came meanwhile are delivered, of which some may be
   * in what was loaded. A newer `refetch` delivers what waits first: it is older than what that one will load. Resolves or rejects with what `load` does; events go on either way.
   */
  refetch<T>(load: (signal: AbortSignal) => T | PromiseLike<T>): Promise<T>;
}

/** What `url` and `headers` functions are called with, once for each attempt. */
export interface SSEAttempt {
  /** 1 for the first, counted since a stream last proved good. */
  readonly attempt: number;
  /** The server answered the last attempt with 401 or 403: get a new token. */
  readonly refresh: boolean;
  /** The id to go on from; empty where there is none. */
  readonly lastEventId: string;
  /** Aborted when the attempt is given up. */
  readonly signal: AbortSignal;
}

/** A value, or a function that is called for each attempt, which may take its time. */
export type SSEValue<T> = T | ((attempt: SSEAttempt) => T | PromiseLike<T>);

/** What `decide` is asked about: an attempt or a stream that is over. */
export interface SSEOutcome {
  /** HTTP status; undefined where no response came. 200 for a stream that was open. */
  readonly status: number | undefined;
  /** Response headers; undefined where no response came. */
  readonly headers: Headers | undefined;
  /** What went wrong; undefined where the server ended the stream or said 204. */
  readonly error: SSEClientError | undefined;
  /** Attempts since a stream last proved good, this one included. */
  readonly attempt: number;
}

/**
 * - `'retry'`: again, after the usual delay
 * - `'next'`: with the next of `urls`, and with this one no more until a stream has proved good; as `'fail'` where none is left
 * - `'stop'`: no more, quietly: `disconnected`
 * - `'fail'`: no more: `failed`
 * - a number: again, after as many ms (never within 250 ms of the last attempt)
 * - undefined: as if there were no `decide`; so is anything else, but that is an error, too (`SSE_CLIENT_CALLBACK`)
 */
export type SSEDecision = 'retry' | 'next' | 'stop' | 'fail' | number | undefined;

/** Which of the waiting events goes when one too many comes. */
export type SSEQueuePolicy = 'drop-oldest' | 'drop-newest';

/** The part of `fetch` that is called. */
export type SSEFetch = (url: string, init: RequestInit) => Promise<Response>;

/** Settings of an {@link SSEClient}; each is optional, but `url` or `urls` must be known when `connect()` is called. */
export interface SSEClientConfig {
  /** Where the stream is. A function is called for each attempt. Relative addresses are what they are to the page's `fetch`. */
  url?: SSEValue<string | URL> | undefined;
  /**
   * Several addresses of the same stream, instead of `url`: a client stays with one that works, leaves one that fails
   * alone for `maxReconnectInterval`, goes on at once with the next, and takes the last id along.
   */
  urls?: readonly SSEValue<string | URL>[] | undefined;
  /** Sends cookies to other origins too. Browsers only. Default true. */
  withCredentials?: boolean | undefined;
  /**
   * Request headers. A function is called for each attempt; after 401 or 403 once more, with `refresh` true, before the
   * client gives up. They never follow a redirect to another origin.
   */
  headers?: SSEValue<Readonly<Record<string, string>>> | undefined;
  /** Comes back after a failure or the end of the stream. Default true. */
  reconnect?: boolean | undefined;
  /** Upper bound of the first delay: delays are drawn between 0 and the bound. The server's `retry:` replaces it. Default 1000. */
  reconnectInterval?: number | undefined;
  /** Factor from one bound to the next; at least 1. Default 1.5. */
  reconnectDecay?: number | undefined;
  /** Largest bound. `Retry-After` may ask for ten times as much. Default 30 000. */
  maxReconnectInterval?: number | undefined;
  /**
   * Attempts after the first that may fail or end in a row before the client gives up: `failed`, or `disconnected` where
   * the last one was ended by the server. A stream that was open for five seconds begins a new row. Default `Infinity`.
   */
  maxReconnectAttempts?: number | undefined;
  /** How often a byte is expected at least; the server's `connected` event corrects it, to a second at least. 0: silence is not watched. Default 30 000. */
  heartbeatInterval?: number | undefined;
  /** How much later than that it may be. Default 10 000. */
  heartbeatTimeout?: number | undefined;
  /** How long it may take to a response's head, `url` and `headers` functions included. 0: for ever. Default 15 000. */
  connectTimeout?: number | undefined;
  /**
   * Largest event, in bytes: its block from the first byte to the empty line. A larger one ends the stream with
   * `SSE_CLIENT_TOO_LARGE`, and the client comes back. An answer to a poll may be four times as large. Default 4 MiB.
   */
  maxEventBytes?: number | undefined;
  /**
   * How many events wait while nothing is registered for their type, or while paused. 0: none. The server's own
   * (`connected`, `heartbeat`, `gap`, `closing`) do not wait for a handler. Default 100.
   */
  messageQueueSize?: number | undefined;
  /** Where events are lost while paused, a `gap` says so in their place: before what waits, or after it. Default `'drop-oldest'`. */
  messageQueuePolicy?: SSEQueuePolicy | undefined;
  /** Leaves out events whose id an earlier connection brought: the last 1000 at least. Default true. */
  enableDedup?: boolean | undefined;
  /** Polls where streams do not get through. Default true. */
  fallbackToPolling?: boolean | undefined;
  /** Where to poll (`createPollHandler`). By default the stream's address with `/poll` for `/stream`; without `/stream` in it there is no polling. */
  pollingUrl?: SSEValue<string | URL> | undefined;
  /** How long a poll waits at the server for events, and the pause between polls that a server answers at once with nothing. Default 5000. */
  pollingInterval?: number | undefined;
  /**
   * Makes `data` of the text. Default: the JSON value, or the string where it is not JSON; so it is for the server's own events
   * (`connected`, `heartbeat`, `gap`, `closing`) in any case.
   */
  parse?: ((text: string, event: { readonly type: string; readonly id: string | undefined }) => unknown) | undefined;
  /** Where to begin: the last id that the application has seen. */
  lastEventId?: string | undefined;
  /** Keeps the last id over page loads: in `sessionStorage` or `localStorage`, by `name`. Default false. */
  persistLastEventId?: false | 'session' | 'local' | undefined;
  /**
   * One stream for all tabs with the same `name`. Needs Web Locks and BroadcastChannel; where they are missing each tab
   * has its own. A tab that comes back with an id that the others do not remember any more is told a `gap` (`evicted`).
   * Tabs of several users need a `name` that says whose they are. Default false.
   */
  shareAcrossTabs?: boolean | undefined;
  /** What tabs share a stream by, and the id is kept under. Default: the first address, in full; so a `url` function needs a name. */
  name?: string | undefined;
  /** Closes the stream while the page is hidden, and goes on from the last id when it is seen again. Default false. */
  closeWhenHidden?: boolean | undefined;
  /** Instead of the global `fetch`. */
  fetch?: SSEFetch | undefined;
  /** Overrides what happens after an attempt or a stream is over. Not asked after `disconnect()`. */
  decide?: ((outcome: SSEOutcome) => SSEDecision) | undefined;
}

/** What the client says about itself: `client.on(name, …)`. Every other name is an event type of the server. */
export interface SSEClientEvents {
  /** The status became `connected`. */
  connected: (change: SSEStatusChange) => unknown;
  /** The status was `connected` and is no more, for whatever reason. */
  disconnected: (change: SSEStatusChange) => unknown;
  status: (change: SSEStatusChange) => unknown;
  /** Every event of the server, of whatever type. */
  message: (event: SSEEvent) => unknown;
  gap: (gap: SSEGap) => unknown;
  /** Something failed: an attempt, a stream, a handler of the application. */
  error: (error: SSEClientError) => unknown;
}

/** Settings of {@link SSEClient.events}. */
export interface SSEIterateOptions<Types extends string = string> {
  /** Which types; all by default. */
  types?: readonly Types[] | undefined;
  /** Ends the iteration, without an error. */
  signal?: AbortSignal | undefined;
}
