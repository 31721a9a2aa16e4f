/**
 * Commands and scripts through the application's own client, of either library: nothing is tried twice, and nothing waits
 * longer than it may. An answer that comes too late is thrown away: the command may have been carried out, or may be yet.
 */
import { createHash } from 'node:crypto';
import type { SseError } from '../core/errors.js';
import type { IoredisClient, NodeRedisClient, RedisClient, RedisLink } from './redis-client.js';
import { ioredisLink } from './redis-ioredis.js';
import { nodeRedisLink } from './redis-node-redis.js';

/** A script, and the name by which Redis knows it. */
export interface RedisScript {
  readonly source: string;
  readonly hash: string;
}

export function redisScript(source: string): RedisScript {
  return { source, hash: createHash('sha1').update(source).digest('hex') };
}

/** `client`: checked before. */
export function redisLink(client: RedisClient): RedisLink {
  const isIoredis = typeof (client as Partial<IoredisClient>).call === 'function';
  return isIoredis ? ioredisLink(client as IoredisClient) : nodeRedisLink(client as NodeRedisClient);
}

export class RedisCaller {
  readonly #link: RedisLink;
  readonly #timeoutMs: number;
  readonly #failureOf: (what: string, cause?: unknown) => SseError;

  /** `failureOf`: the error for what went wrong, with the client's own as its `cause`. */
  constructor(link: RedisLink, timeoutMs: number, failureOf: (what: string, cause?: unknown) => SseError) {
    this.#link = link;
    this.#timeoutMs = timeoutMs;
    this.#failureOf = failureOf;
  }

  /** Runs a script by its hash, and whole where the server does not know it. */
  async run(script: RedisScript, keys: readonly [string, ...string[]], args: readonly string[]): Promise<unknown> {
    const count = String(keys.length);
    try {
      return await this.send(['evalsha', script.hash, count, ...keys, ...args], keys[0]);
    } catch (error) {
      const { cause } = error as SseError;
      if (!(cause instanceof Error) || !cause.message.startsWith('NOSCRIPT')) throw error;
      return this.send(['eval', script.source, count, ...keys, ...args], keys[0]);
    }
  }

  send(args: string[], key: string): Promise<unknown> {
    const problem = this.#link.problem();
    if (problem !== undefined) return Promise.reject(this.#failureOf(problem));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(this.#failureOf(`Redis gave no answer within ${this.#timeoutMs} ms`));
      }, this.#timeoutMs);
      const failed = (error: unknown): void => {
        clearTimeout(timer);
        // ioredis hangs the whole command on its error, and who logs that would log what others have published.
        if (error instanceof Error) Reflect.deleteProperty(error, 'command');
        reject(this.#failureOf('Redis', error));
      };
      try {
        this.#link.send(args, this.#link.keyPrefix + key).then((answer) => {
          clearTimeout(timer);
          resolve(answer);
        }, failed);
      } catch (error) {
        failed(error);
      }
    });
  }
}
