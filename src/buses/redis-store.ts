/**
 * The namespace as it is in Redis: the scripts, their arguments and answers, and nothing else. No state but what has been
 * seen of the history, which goes along with every question so that Redis can tell when it has forgotten some of it.
 */
import { SseError } from '../core/errors.js';
import { RedisCaller, type RedisScript, redisScript } from './redis-caller.js';
import type { RedisLink } from './redis-client.js';
import { failureOf } from './redis-failure.js';
import type { ResolvedRedisBusOptions } from './redis-options.js';
import { LOOK_SCRIPT, PUBLISH_SCRIPT, READ_SCRIPT } from './redis-scripts.js';

/** A place in the history. */
export interface Point {
  readonly run: string;
  readonly sequence: number;
}

/** `p`: PUBLISH, `s`: SPUBLISH. */
export type PublishMode = 'p' | 's';

export interface LookRequest {
  /** What the node follows: where Redis does not have it, it has lost it. */
  readonly follows?: Point | undefined;
  /** Sends `text` to `channel` in the same step, behind everything that was published. */
  readonly barrier?: { readonly channel: string; readonly text: string } | undefined;
  /** Lists the channel keys with events after this; counts them where there are more than `limit`. */
  readonly changedAfter?: number | undefined;
  readonly limit?: number | undefined;
}

export interface Look extends Point {
  /** The history in which all these sequences stand; another one has another. */
  readonly epoch: string;
  readonly mode: PublishMode;
  /** False where what the node follows is of a history that Redis has lost, or lost the end of. */
  readonly isContained: boolean;
  /** Of channel keys that Redis does not list, nothing is known up to this. */
  readonly forgotten: number;
  /** Where this history begins. */
  readonly start: Point;
  /** Channel key → its newest sequence; undefined where there are more than asked for. */
  readonly changed: ReadonlyMap<string, number> | undefined;
}

/** Events of one page as they are stored. */
export interface StoredEvent {
  readonly key: string;
  readonly sequence: number;
  readonly run: string;
  readonly text: string;
}

export interface ReadQuestion {
  readonly keys: readonly string[];
  /** The run of the cursor, to be checked; empty where it is trusted. */
  readonly run: string;
  /** One cursor for all keys, or one for each. */
  readonly after: readonly number[];
  readonly limit: number;
  readonly max: number;
  /** The last sequence to serve; undefined for all. */
  readonly through?: number | undefined;
}

export interface Page extends Point {
  readonly epoch: string;
  readonly verdict: 'ok' | 'epoch' | 'unknown';
  readonly more: boolean;
  /** Something is missing through this point. */
  readonly missing: Point | undefined;
  /** The keys that miss something. */
  readonly lostKeys: readonly string[];
  readonly events: readonly StoredEvent[];
}

/** What may be between the words of an answer is not ours to guess. */
type Answer = readonly unknown[];

/** Bytes of events in one page: one event at least, whatever its size. */
const PAGE_BYTES = 1024 * 1024;

const PUBLISH = redisScript(PUBLISH_SCRIPT);
const LOOK = redisScript(LOOK_SCRIPT);
const READ = redisScript(READ_SCRIPT);

export class RedisStore {
  readonly #link: RedisLink;
  readonly #caller: RedisCaller;
  readonly #root: string;
  readonly #historySize: string;
  readonly #historyTtl: string;
  #mode: PublishMode | 'a';
  #seen: Point | undefined = undefined;

  constructor(link: RedisLink, options: ResolvedRedisBusOptions) {
    const { namespace, keyPrefix, historySize, historyTtl, commandTimeout, shardedPubSub } = options;
    this.#link = link;
    this.#caller = new RedisCaller(link, commandTimeout, failureOf);
    this.#root = `${keyPrefix}{${namespace}}`;
    this.#historySize = String(historySize);
    this.#historyTtl = String(historyTtl);
    if (shardedPubSub === 'auto') this.#mode = link.isCluster ? 'a' : 'p';
    else this.#mode = shardedPubSub ? 's' : 'p';
  }

  /** The key of the namespace, as Redis has it: what the channels start with. */
  get channelRoot(): string {
    return this.#link.keyPrefix + this.#root;
  }

  /** Redis has told of something newer. */
  #see(run: string, sequence: number): void {
    if (this.#seen === undefined || run !== this.#seen.run || sequence > this.#seen.sequence) {
      this.#seen = { run, sequence };
    }
  }

  /** Orders and stores texts, and sends them. `number` grows with every batch that is not a repetition. */
  async publish(
    publisher: string,
    number: number,
    batch: readonly { readonly key: string; readonly text: string }[],
  ): Promise<Point> {
    const keys: [string, ...string[]] = [...this.#keys, `${this.#root}:by:${publisher}`];
    for (const { key } of batch) keys.push(`${this.#root}:h:${key}`);
    const { run = '', sequence = 0 } = this.#seen ?? {};
    const args = [newRun(), this.#mode, this.#historySize, this.#historyTtl, String(number), run, String(sequence)];
    for (const { text } of batch) args.push(text);
    const answer = await this.#run(PUBLISH, keys, args);
    const first = { run: wordOf(answer[0]), sequence: numberOf(answer[1]) };
    this.#see(first.run, first.sequence + batch.length - 1);
    return first;
  }

  async look({ follows, barrier, changedAfter, limit = 0 }: LookRequest = {}): Promise<Look> {
    const seen = this.#seen;
    const answer = await this.#run(LOOK, this.#keys, [
      newRun(),
      this.#mode,
      this.#historyTtl,
      follows?.run ?? '',
      String(follows?.sequence ?? 0),
      seen?.run ?? '',
      String(seen?.sequence ?? 0),
      barrier?.channel ?? '',
      barrier?.text ?? '',
      changedAfter === undefined ? '' : String(changedAfter),
      String(limit),
    ]);
    const run = wordOf(answer[0]);
    const sequence = numberOf(answer[1]);
    const mode = wordOf(answer[2]) === 's' ? 's' : 'p';
    this.#mode = mode;
    this.#see(run, sequence);
    const changedCount = numberOf(answer[5]);
    const isListed = changedCount === 0 || answer.length > 9;
    const changed = new Map<string, number>();
    for (let i = 9; i + 1 < answer.length; i += 2) changed.set(wordOf(answer[i]), numberOf(answer[i + 1]));
    return {
      run,
      sequence,
      mode,
      isContained: numberOf(answer[3]) === 1,
      forgotten: numberOf(answer[4]),
      start: { run: wordOf(answer[6]), sequence: numberOf(answer[7]) },
      epoch: wordOf(answer[8]),
      changed: isListed ? changed : undefined,
    };
  }

  /** The newest sequence of each key; undefined where Redis does not list it. */
  async newestOf(keys: readonly string[]): Promise<(number | undefined)[]> {
    const last = `${this.#root}:last`;
    const answer = await this.#caller.send(['zmscore', last, ...keys], last);
    if (!Array.isArray(answer) || answer.length !== keys.length) throw strange(answer);
    return answer.map((score) => (score === null || score === undefined ? undefined : numberOf(score)));
  }

  /** One page of history; undefined where Redis has none, because it is empty. */
  async read({ keys, run, after, limit, max, through }: ReadQuestion): Promise<Page | undefined> {
    const [meta, last, , runs] = this.#keys as [string, string, string, string];
    const streams = keys.map((key) => `${this.#root}:h:${key}`);
    const answer = await this.#run(
      READ,
      [meta, last, runs, ...streams],
      [
        run,
        String(limit),
        String(max),
        String(PAGE_BYTES),
        through === undefined ? '+' : String(through),
        ...after.map(String),
      ],
    );
    if (answer.length === 0) return undefined;
    const point = { run: wordOf(answer[0]), sequence: numberOf(answer[1]), epoch: wordOf(answer[2]) };
    const verdict = wordOf(answer[3]);
    if (verdict !== 'ok') {
      const told = verdict === 'epoch' ? 'epoch' : 'unknown';
      return { ...point, verdict: told, more: false, missing: undefined, lostKeys: [], events: [] };
    }
    const [more, missing, missingRun, lost, flat] = answer.slice(4);
    if (!Array.isArray(lost) || !Array.isArray(flat)) throw strange(answer);
    const events: StoredEvent[] = [];
    for (let i = 0; i + 3 < flat.length; i += 4) {
      const key = keys[numberOf(flat[i]) - 1];
      if (key === undefined) throw strange(flat[i]);
      const [sequence, itsRun, text] = [numberOf(flat[i + 1]), wordOf(flat[i + 2]), wordOf(flat[i + 3])];
      events.push({ key, sequence, run: itsRun, text });
    }
    const through_ = numberOf(missing);
    return {
      ...point,
      verdict,
      more: numberOf(more) === 1,
      missing: through_ === 0 ? undefined : { run: wordOf(missingRun), sequence: through_ },
      lostKeys: lost.map((index) => keys[numberOf(index) - 1] ?? ''),
      events,
    };
  }

  get #keys(): [string, ...string[]] {
    const root = this.#root;
    return [root, `${root}:last`, `${root}:times`, `${root}:runs`];
  }

  async #run(script: RedisScript, keys: [string, ...string[]], args: string[]): Promise<Answer> {
    const answer = await this.#caller.run(script, keys, args);
    if (!Array.isArray(answer)) throw strange(answer);
    return answer;
  }
}

/** A name for a run; one that is taken into use lasts as long as its history. */
function newRun(): string {
  return Math.random().toString(36).slice(2, 12).padEnd(10, '0');
}

const wordOf = (value: unknown): string => {
  if (typeof value === 'string') return value;
  if (Buffer.isBuffer(value)) return value.toString();
  throw strange(value);
};

const numberOf = (value: unknown): number => {
  // A text where the application's client is told to give numbers or texts another type.
  const number = typeof value === 'number' ? value : Number(wordOf(value));
  if (!Number.isSafeInteger(number)) throw strange(value);
  return number;
};

function strange(value: unknown): SseError {
  return new SseError('SSE_ERR_BUS_UNAVAILABLE', 'Redis gave an answer that makes no sense', {
    cause: new TypeError(`got ${JSON.stringify(value)?.slice(0, 200)}`),
  });
}
