/**
 * What an application can listen to and count. A listener that throws or rejects fails alone: the others are called,
 * and its error becomes an `error` event.
 */
import { EventEmitter } from 'eventemitter3';
import type { BusStatus } from './bus.js';
import type { DisconnectReason } from './client.js';
import type { NodeInfo, NodeLeaveReason } from './cluster.js';
import { type ErrorCode, isSseError, SseError, shown } from './errors.js';
import type { OutgoingEvent } from './event.js';
import type { Gap } from './gap.js';
import type { Identity } from './identity.js';
import type { Logger, OverflowPolicy } from './options.js';
import type { OnlineUser } from './presence.js';
import type { Audience } from './topic.js';

/** What is told about a client: a copy, made when it is asked for. */
export interface ClientInfo {
  readonly id: string;
  readonly userId: string | undefined;
  readonly tenantId: string | undefined;
  readonly sessionId: string | undefined;
  /** Everything the authenticator gave. */
  readonly identity: Identity;
  readonly topics: readonly string[];
  /** ms since 1970. */
  readonly connectedAt: number;
  /** Frames that wait because its socket is full. */
  readonly queuedFrames: number;
  /** Bytes that wait because its socket is full. */
  readonly queuedBytes: number;
}

/** An event that the bus has ordered. */
export interface PublishedEvent extends Pick<OutgoingEvent, 'event' | 'data' | 'timestamp'> {
  readonly id: string;
  readonly audience: Audience;
}

/** Which part an error comes from. */
export type ErrorOrigin =
  | 'publish'
  | 'bus'
  | 'stream'
  | 'listener'
  | 'authenticator'
  | 'topic-resolver'
  | 'handler'
  | 'replay'
  | 'cluster'
  | 'inbox';

/** The broker's events and their arguments. */
export interface BrokerEvents {
  /** A stream is open and registered. */
  clientConnected: [client: ClientInfo];
  /** A stream is over; `message` is what `disconnect()` was given. */
  clientDisconnected: [client: ClientInfo, reason: DisconnectReason, message: string | undefined];
  /** A client's buffer was full: once, until it has caught up. `dropped` in the stats counts every event. */
  clientOverflowed: [client: ClientInfo, overflow: { policy: OverflowPolicy; limit: 'frames' | 'bytes' }];
  /** An event published on this node has its id. */
  eventPublished: [event: PublishedEvent];
  /** A client was told that history could not be served completely. */
  gapTold: [client: ClientInfo, gap: Gap];
  /** A request was refused before it became a stream. */
  requestRefused: [refusal: { code: ErrorCode; status: number }];
  /** A user is online: the first stream on any node. Every node that hears of it tells its own listeners, once. */
  userJoined: [user: OnlineUser];
  /** A user is no longer online: the last stream, on whichever node, has been gone for `presenceGrace`. */
  userLeft: [user: OnlineUser];
  /** Another node that shares the bus is there. */
  nodeJoined: [node: NodeInfo];
  /** Another node is gone. */
  nodeLeft: [node: NodeInfo, reason: NodeLeaveReason];
  /** The bus went up or down. */
  busStatus: [status: BusStatus];
  /** Something failed that nobody waits for. Never contains what a client sent as credentials. */
  error: [error: SseError, origin: ErrorOrigin];
}

/** The names of {@link BrokerEvents}. */
export type BrokerEventName = keyof BrokerEvents;

/** A listener of one event. */
export type BrokerListener<Name extends BrokerEventName> = (...args: BrokerEvents[Name]) => unknown;

type AnyListener = (...args: unknown[]) => unknown;

/**
 * Errors told in one turn of the event loop; more are counted only. A listener of `error` that sends, and whose sends are
 * rejected, would otherwise be called for its own errors for ever, before anything else gets a turn.
 */
const TOLD_PER_TURN = 10_000;

/** Typed events whose listeners cannot hurt each other. */
export class Diagnostics {
  /** Errors that reached the `error` event, or nobody. */
  errors = 0;
  readonly #emitter = new EventEmitter();
  readonly #guards = new WeakMap<AnyListener, AnyListener>();
  readonly #logger: Logger | undefined;
  #hasWarned = false;
  #toldInTurn = 0;

  constructor(logger: Logger | undefined) {
    this.#logger = logger;
  }

  on(name: BrokerEventName, listener: AnyListener): void {
    this.#emitter.on(name, this.#guard(listener));
  }

  once(name: BrokerEventName, listener: AnyListener): void {
    this.#emitter.once(name, this.#guard(listener));
  }

  off(name: BrokerEventName, listener: AnyListener): void {
    const guarded = this.#guards.get(listener);
    if (guarded !== undefined) this.#emitter.off(name, guarded);
  }

  listenerCount(name: BrokerEventName): number {
    return this.#emitter.listenerCount(name);
  }

  emit<Name extends BrokerEventName>(name: Name, ...args: BrokerEvents[Name]): void {
    this.#emitter.emit(name, ...args);
  }

  /** Counts an error and tells whoever listens. Anything but an SseError is wrapped as `code`. */
  report(error: unknown, origin: ErrorOrigin, code: ErrorCode = 'SSE_ERR_INTERNAL'): void {
    const known = isSseError(error) ? error : new SseError(code, `failure in ${origin}; see cause`, { cause: error });
    this.errors++;
    this.#log('error', `${origin}: ${known.code}`, { code: known.code, origin });
    if (this.#emitter.listenerCount('error') > 0) {
      if (this.#toldInTurn === 0) {
        setImmediate(() => {
          this.#toldInTurn = 0;
        });
      }
      if (this.#toldInTurn++ < TOLD_PER_TURN) this.#emitter.emit('error', known, origin);
    } else if (this.#logger === undefined && !this.#hasWarned) {
      // Once, and without the message: an authenticator's error may quote a token.
      this.#hasWarned = true;
      process.emitWarning(
        `sse-broker reported an error (${known.code}, ${origin}) and nobody listens; add broker.on('error', listener)`,
      );
    }
  }

  /** For operators, where there is a logger. */
  warn(message: string, details: Readonly<Record<string, unknown>>): void {
    this.#log('warn', message, details);
  }

  #log(level: keyof Logger, message: string, details: Readonly<Record<string, unknown>>): void {
    try {
      this.#logger?.[level](`sse-broker: ${message}`, details);
    } catch {
      // There is nobody left to tell.
    }
  }

  #guard(listener: AnyListener): AnyListener {
    if (typeof listener !== 'function') {
      throw new SseError('SSE_ERR_INVALID_OPTION', `a listener must be a function; got ${shown(listener)}`);
    }
    let guarded = this.#guards.get(listener);
    if (guarded === undefined) {
      guarded = (...args) => {
        try {
          const result = listener(...args);
          if (isThenable(result)) result.then(undefined, (error: unknown) => this.#listenerFailed(error, args));
        } catch (error) {
          this.#listenerFailed(error, args);
        }
      };
      this.#guards.set(listener, guarded);
    }
    return guarded;
  }

  #listenerFailed(error: unknown, args: unknown[]): void {
    // A listener of `error` that fails is counted only: reporting it would call it again.
    if (isSseError(args[0])) this.errors++;
    else this.report(error, 'listener', 'SSE_ERR_LISTENER_FAILED');
  }
}

/** True for anything with a `then`. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as PromiseLike<unknown>).then === 'function';
}
