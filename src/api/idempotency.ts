/**
 * `Idempotency-Key`: a request that is sent again, because its answer got lost, is answered as the first time and does nothing.
 *
 * Kept in this process, bounded in number and time; a request that failed is forgotten, so that it can be tried again. With an
 * inbox its store remembers the key as well, on all nodes and over a restart: see `dedupKeyOf`.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../core/clock.js';
import { ApiError, invalid } from './errors.js';

/** What an {@link IdempotencyCache} keeps to. */
export interface IdempotencyLimits {
  /** ms; 0: nothing is kept after the answer. */
  readonly ttl: number;
  /** The oldest goes first. */
  readonly maxKeys: number;
}

interface Entry<T> {
  readonly fingerprint: string;
  readonly value: T;
  /** Monotonic ms. */
  readonly expiresAt: number;
}

interface Attempt<T> {
  readonly fingerprint: string;
  readonly promise: Promise<T>;
}

/** Answers by key. */
export class IdempotencyCache<T> {
  readonly #limits: IdempotencyLimits;
  readonly #clock: Clock;
  /** By age, the oldest first. */
  readonly #kept = new Map<string, Entry<T>>();
  readonly #running = new Map<string, Attempt<T>>();

  constructor(limits: IdempotencyLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /**
   * Runs `action`, or gives what it gave the first time; one that is running is waited for, and shares its failure.
   *
   * @throws {SseError} `SSE_ERR_IDEMPOTENCY_CONFLICT` where the key came with another request.
   */
  async run(
    key: string,
    fingerprint: string,
    action: () => Promise<T>,
  ): Promise<{ readonly value: T; readonly isReplay: boolean }> {
    const known = this.#running.get(key) ?? this.#find(key);
    if (known !== undefined && known.fingerprint !== fingerprint) {
      throw conflict();
    }
    if (known !== undefined) return { value: 'value' in known ? known.value : await known.promise, isReplay: true };
    const promise = action();
    this.#running.set(key, { fingerprint, promise });
    try {
      const value = await promise;
      this.#keep(key, { fingerprint, value, expiresAt: this.#clock.monotonic() + this.#limits.ttl });
      return { value, isReplay: false };
    } finally {
      this.#running.delete(key);
    }
  }

  /** Keys that are kept, expired ones included as long as none came after them. */
  get size(): number {
    return this.#kept.size;
  }

  #find(key: string): Entry<T> | undefined {
    const entry = this.#kept.get(key);
    return entry !== undefined && entry.expiresAt > this.#clock.monotonic() ? entry : undefined;
  }

  #keep(key: string, entry: Entry<T>): void {
    const { ttl, maxKeys } = this.#limits;
    if (ttl === 0 || maxKeys === 0) return;
    const now = this.#clock.monotonic();
    // To the end of the line: an expired one of the same key stands further ahead.
    this.#kept.delete(key);
    this.#kept.set(key, entry);
    for (const [oldest, { expiresAt }] of this.#kept) {
      if (expiresAt > now && this.#kept.size <= maxKeys) break;
      this.#kept.delete(oldest);
    }
  }
}

/** 409. */
export function conflict(): ApiError {
  return new ApiError('SSE_ERR_IDEMPOTENCY_CONFLICT', 'this Idempotency-Key came with another request; use a new one');
}

/** Longest key, in characters. */
const MAX_KEY_LENGTH = 255;

/**
 * The value of the header as it came: visible ASCII, quoted or not (draft-ietf-httpapi-idempotency-key-header, section 2).
 *
 * @throws {SseError} `SSE_ERR_INVALID_REQUEST`
 */
export function checkIdempotencyKey(header: string): string {
  if (header.length <= MAX_KEY_LENGTH && /^[\x21-\x7e]+$/.test(header)) return header;
  throw invalid('Idempotency-Key', `must have 1 to ${MAX_KEY_LENGTH} visible ASCII characters`);
}

/**
 * Tells one request from another: what it does, and its body as understood.
 *
 * @throws {SseError} `SSE_ERR_INVALID_REQUEST`
 */
export function fingerprintOf(operation: string, body: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(body);
  } catch {
    // JSON.parse takes any depth, JSON.stringify as much as the stack holds.
    throw invalid('body', 'is nested too deeply');
  }
  return createHash('sha256').update(operation).update('\n').update(text).digest('base64');
}

/** The same key as the inbox knows it: apart from the application's own, and for one caller. */
export function dedupKeyOf(name: string, key: string): string {
  const text = JSON.stringify([name, key]);
  return `rest:${createHash('sha256').update(text).digest('base64url')}`;
}
