/** The cache as it is in Redis: what is asked of the scripts, and what they answer. No state, and no decisions. */
import { v4 as uuid } from 'uuid';
import type { RedisScript } from '../buses/redis-caller.js';
import { BEGIN, CLOCK, END, JOIN, LEAVE, LOOK, RENEW, STORE } from './redis-cache-scripts.js';
import { type RedisConnection, textOf } from './redis-connection.js';

/** A write, and what it may change. */
export interface CacheMark {
  readonly writer: string;
  readonly names: readonly string[];
}

/** What Redis knows of a count. */
export interface CacheLook {
  /** A list as JSON: what the count depends on, as far as is known. */
  readonly names: string;
  /** Theirs, now. */
  readonly versions: string;
  /** Those with which the count was taken; empty where there is none. */
  readonly stored: string;
  readonly count: number;
  /** The time for which it was taken, and the first for which it does not hold any more (0: never), in ms since 1970. */
  readonly at: number;
  readonly until: number;
}

export interface RedisCacheOptions {
  readonly unreadCacheTtl: number;
  readonly writeLease: number;
  readonly deadNodeAfter: number;
}

export class RedisCache {
  readonly #connection: RedisConnection;
  readonly #settings: readonly string[];
  readonly #ttl: string;

  constructor(connection: RedisConnection, { unreadCacheTtl, writeLease, deadNodeAfter }: RedisCacheOptions) {
    this.#connection = connection;
    this.#ttl = String(unreadCacheTtl);
    // A version outlives the counts that name it.
    this.#settings = [String(writeLease), String(unreadCacheTtl + 2 * writeLease), String(deadNodeAfter)];
  }

  onReady(listener: () => void): () => void {
    return this.#connection.onReady(listener);
  }

  whenReady(): Promise<void> {
    return this.#connection.whenReady();
  }

  /** Undefined where no count may be given out or stored now. `isExact`: these names, whatever the entry has. */
  async look(entry: string, names: string, isExact = false): Promise<CacheLook | undefined> {
    const answer = await this.#run(LOOK, entry, names, isExact ? 'all' : '');
    if (answer[0] !== 'ok') return undefined;
    const [known, versions, stored, count, at, until] = answer.slice(1).map(textOf) as [string, ...string[]];
    return {
      names: known,
      versions: versions!,
      stored: stored!,
      count: Number(count),
      at: Number(at),
      until: Number(until),
    };
  }

  /** Keeps a count, unless anything has changed since `versions` were looked at. */
  async store(entry: string, { names, versions, count, at, until }: Omit<CacheLook, 'stored'>): Promise<void> {
    await this.#run(STORE, entry, names, versions, String(count), String(at), String(until), this.#ttl);
  }

  /** The time of Redis, in ms. */
  async time(): Promise<number> {
    return Number(textOf((await this.#run(CLOCK))[1]));
  }

  async join(node: string, until: number, isTurning: boolean, marks: readonly CacheMark[]): Promise<number> {
    const turn = isTurning ? 'turn' : '';
    return Number(textOf((await this.#run(JOIN, node, String(until), turn, marksOf(marks)))[1]));
  }

  /** False where its lease had run out. */
  async renew(node: string, until: number, marks: readonly CacheMark[]): Promise<number | false> {
    const [state, time] = await this.#run(RENEW, node, String(until), marksOf(marks));
    return state === 'ok' && Number(textOf(time));
  }

  /** False where its lease had run out: nothing is marked then. */
  async begin(node: string, mark: CacheMark): Promise<boolean> {
    return (await this.#run(BEGIN, node, marksOf([mark])))[0] === 'ok';
  }

  async end({ writer, names }: CacheMark, changed: readonly string[]): Promise<void> {
    await this.#run(END, writer, JSON.stringify(names), JSON.stringify(changed));
  }

  async leave(node: string): Promise<void> {
    await this.#run(LEAVE, node);
  }

  #run(script: RedisScript, ...args: string[]): Promise<readonly unknown[]> {
    return this.#connection.run(script, [`${uuid()}-`, ...this.#settings, ...args]);
  }
}

function marksOf(marks: readonly CacheMark[]): string {
  return JSON.stringify(marks.map(({ writer, names }) => [writer, names]));
}
