/**
 * The stream of a namespace: how it is made, what it holds, and the questions that we ask the server about it.
 *
 * - The server republishes each event that it has stored to `….live.<token>.<key>`, with the sequence and that of the one
 *   before it on the subject. The token is drawn when the stream is made, so the first event of a stream that has replaced
 *   another one gives it away.
 * - One event more than `historySize` is kept per key: the oldest of those is a witness. Where it is there, something may
 *   have been dropped, and everything after it is there; where it is not, nothing was. So a gap is told exactly.
 * - What age and bytes drop goes oldest first over all keys, so the first sequence of the stream tells it; but that number
 *   also moves when a busy key drops its oldest. An anchor, a message that no key's limit drops, holds it where it belongs.
 */
import { randomBytes } from 'node:crypto';
import { SseError } from '../core/errors.js';
import { isLiveOnly } from '../core/topic.js';
import type {
  JetStream,
  JetStreamManager,
  NatsConsumerMessage,
  NatsMessageQuery,
  NatsPublishOptions,
  NatsStoredMessage,
  NatsStreamInfo,
} from './nats-client.js';
import { failureOf, isStreamMissing, isStreamThere, messageOf, unavailable } from './nats-failure.js';
import { replacingHeaders } from './nats-headers.js';
import type { ResolvedNatsBusOptions } from './nats-options.js';
import { pause } from './nats-pause.js';
import type { Range } from './nats-reorder.js';
import type { NatsSubjects } from './nats-subjects.js';
import { NextBatch } from './next-batch.js';

/** A stream as it is at one moment. */
export interface StreamView {
  /** This stream and no other one, also of the same name. */
  readonly epoch: string;
  /** In the subjects of what it republishes. */
  readonly token: string;
  readonly replicas: number;
  /** Events kept per key, without the witness. */
  readonly historySize: number;
  /** Age in ms at which an event is dropped; 0 for never. */
  readonly historyTtl: number;
  /** Age and bytes have dropped nothing from here on. */
  readonly first: number;
  /** The newest sequence. */
  readonly last: number;
}

/** Anchors per age limit: so much of it nothing can be told exactly. */
const ANCHORS = 20;
/** Within this time the server knows a message that was sent twice, where events are kept as long. */
export const DUPLICATE_WINDOW_MS = 120_000;
/** Messages asked for one by one before a consumer is worth its price (0.7 ms against 0.2 ms, nats-server 2.9). */
const SINGLE_READS = 4;
/** Messages that one pull of a consumer asks for. */
const PULL_MESSAGES = 256;
/** A consumer that was left behind by a crash goes after so long. */
const CONSUMER_IDLE_NS = 30e9;
/**
 * So long nobody makes a stream again that was there. Of one that is made while the server still deletes its predecessor it
 * takes the files away with those (nats-server 2.9.10): it would serve until the server's next start and be gone then.
 */
const DELETION_MS = 500;

export class NatsStream {
  readonly #options: ResolvedNatsBusOptions;
  readonly #jetstream: JetStream;
  readonly #subjects: NatsSubjects;
  readonly #view = new NextBatch(() => this.#askView());
  #manager: JetStreamManager | undefined = undefined;
  #wasThere = false;
  /** Who waits for an answer. */
  readonly #waiting = new Set<(error: unknown) => void>();

  constructor(jetstream: JetStream, subjects: NatsSubjects, options: ResolvedNatsBusOptions) {
    this.#jetstream = jetstream;
    this.#subjects = subjects;
    this.#options = options;
  }

  /** Makes the stream, or takes the one that is there; rejects where it cannot serve. */
  async open(): Promise<StreamView> {
    const { manageStream } = this.#options;
    const manager = await this.#streams();
    let info = await this.#found(manager);
    if (info === undefined && this.#wasThere) {
      await pause(DELETION_MS);
      info = await this.#found(manager);
    }
    info ??= await this.#make(manager);
    this.#wasThere = true;
    // One that is somebody else's is refused before it is touched: a limit would drop what they keep in it.
    let view = this.#viewOf(info);
    if (manageStream) view = this.#viewOf(await this.#adjusted(manager, info));
    if (view.last > 0) return view;
    await this.#anchor(view, 0);
    return this.view();
  }

  /** The stream as it is after this call. */
  view(): Promise<StreamView> {
    return this.#view.get();
  }

  /** The connection broke: no answer comes any more to what was asked. */
  interrupt(reason: Error): void {
    for (const fail of [...this.#waiting]) fail(reason);
  }

  /** Stores an event; resolves with its sequence. Order is that of the calls. */
  async store(key: string, payload: Uint8Array, messageId: string | undefined): Promise<number> {
    const { stream, requestTimeout } = this.#options;
    const options: NatsPublishOptions = {
      timeout: requestTimeout,
      expect: { streamName: stream },
      ...(messageId !== undefined && { msgID: messageId }),
      ...(isLiveOnly(key) && { headers: replacingHeaders() }),
    };
    try {
      return (await this.#jetstream.publish(this.#subjects.event(key), payload, options)).seq;
    } catch (error) {
      throw failureOf('the event was not stored', error);
    }
  }

  /** Places an anchor where the newest is old. Safe to call on every node: the server keeps one. */
  async anchor(view: StreamView): Promise<void> {
    const spacing = view.historyTtl / Math.max(2, Math.min(ANCHORS, view.historySize));
    const newest = await this.#message({ last_by_subj: this.#subjects.anchor });
    const isOld = newest !== undefined && spacing > 0 && Date.now() - newest.time.getTime() > spacing;
    if (newest === undefined || isOld) await this.#anchor(view, newest?.seq ?? view.last);
  }

  /** The newest message of a key; asked from the leader: a replica may be behind. */
  last(key: string): Promise<NatsStoredMessage | undefined> {
    return this.#message({ last_by_subj: this.#subjects.event(key) });
  }

  /**
   * A message of a key by its sequence. Undefined where it is not there any more; rejects where there is another one: a
   * stream that has replaced the one that was listed counts from one again, and has other people's events there.
   */
  async body(sequence: number, key: string): Promise<NatsStoredMessage | undefined> {
    const message = await this.#at(sequence);
    if (message !== undefined && message.subject !== this.#subjects.event(key)) throw replaced();
    return message;
  }

  /** The subjects of these sequences, as far as the stream has them; `areFew`: so few that each is asked for. */
  async subjects(ranges: readonly Range[], areFew: boolean): Promise<Map<number, string>> {
    const subjects = new Map<number, string>();
    if (!areFew) {
      const { first } = ranges[0]!;
      const { last } = ranges[ranges.length - 1]!;
      await this.#pull(this.#subjects.events, first - 1, last, ({ seq, subject }) => subjects.set(seq, subject));
      return subjects;
    }
    const asked: Promise<void>[] = [];
    for (const { first, last } of ranges) {
      for (let sequence = first; sequence <= last; sequence++) {
        asked.push(this.#at(sequence).then((message) => void (message && subjects.set(sequence, message.subject))));
      }
    }
    await Promise.all(asked);
    return subjects;
  }

  /**
   * The sequences of a key after `after`, in order, at least to `until`, which is one of them. Sequences that are dropped
   * while this runs may be left out: then as many newer ones follow as are kept per key, and the witness.
   */
  async list(key: string, after: number, until: number, seen: (message: NatsStoredMessage) => void): Promise<number[]> {
    const sequences: number[] = [];
    const subject = this.#subjects.event(key);
    let last = after;
    for (let i = 0; i < SINGLE_READS && last < until; i++) {
      const message = await this.#message({ seq: last + 1, next_by_subj: subject });
      if (message === undefined) throw unavailable('history was dropped while it was read');
      seen(message);
      sequences.push(message.seq);
      last = message.seq;
    }
    if (last < until) await this.#pull(subject, last, until, ({ seq }) => sequences.push(seq));
    return sequences;
  }

  async #at(sequence: number): Promise<NatsStoredMessage | undefined> {
    const { stream } = this.#options;
    const manager = await this.#streams();
    // Any replica may answer; one that does not have it yet is no proof.
    const direct = this.#asked('history', manager.direct.getMessage(stream, { seq: sequence } as never)).catch(
      () => null,
    );
    return (await direct) ?? (await this.#message({ seq: sequence }));
  }

  /** Lists the heads of what a subject has after `after`, in order, at least to `until`. */
  async #pull(
    subject: string,
    after: number,
    until: number,
    seen: (message: NatsConsumerMessage) => void,
  ): Promise<void> {
    const { stream } = this.#options;
    const manager = await this.#streams();
    const config = {
      // With a name the filter is part of the subject that is asked, and permissions can tell.
      name: `sse-${randomBytes(9).toString('hex')}`,
      filter_subject: subject,
      deliver_policy: 'by_start_sequence',
      opt_start_seq: after + 1,
      ack_policy: 'none',
      headers_only: true,
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: CONSUMER_IDLE_NS,
    };
    const info = await this.#asked('history', manager.consumers.add(stream, config));
    try {
      const consumer = this.#jetstream.consumers.getConsumerFromInfo(info);
      let pending = info.num_pending;
      let last = after;
      let delivered = 0;
      while (pending > 0 && last < until) {
        const before = last;
        // Less than a second the client refuses.
        const expires = Math.max(1_000, this.#options.requestTimeout);
        const request = { max_messages: Math.min(pending, PULL_MESSAGES), expires };
        // The client gives up by itself, in silence: an end before the end is told below.
        for await (const message of await consumer.fetch(request)) {
          // What was on its way when the connection broke is not sent again, and the next batch would go on after it.
          if (message.info.deliverySequence !== ++delivered) throw unavailable('history was not read whole');
          seen(message);
          last = message.seq;
          pending = message.info.pending;
          if (pending === 0) break;
        }
        if (last === before) break;
      }
      if (last < until) throw unavailable('history was not read to its end');
    } catch (error) {
      throw failureOf('history cannot be read', error);
    } finally {
      // It would go by itself; nothing depends on this.
      manager.consumers.delete(stream, info.name).catch(() => {});
    }
  }

  async #message(query: NatsMessageQuery): Promise<NatsStoredMessage | undefined> {
    const manager = await this.#streams();
    const message = await this.#asked('history', manager.streams.getMessage(this.#options.stream, query as never));
    return message ?? undefined;
  }

  async #streams(): Promise<JetStreamManager> {
    this.#manager ??= await this.#jetstream.jetstreamManager(false);
    return this.#manager;
  }

  async #askView(): Promise<StreamView> {
    const manager = await this.#streams();
    return this.#viewOf(await this.#asked('the stream', manager.streams.info(this.#options.stream)));
  }

  /** Undefined where there is none and one may be made. */
  async #found(manager: JetStreamManager): Promise<NatsStreamInfo | undefined> {
    const { stream, manageStream } = this.#options;
    try {
      return await this.#asked('the stream', manager.streams.info(stream));
    } catch (error) {
      if (!isStreamMissing((error as Error).cause)) throw error;
      if (manageStream) return undefined;
      throw unavailable(`there is no stream ${stream}; make it, or leave manageStream out`, error);
    }
  }

  async #make(manager: JetStreamManager): Promise<NatsStreamInfo> {
    const { stream, storage } = this.#options;
    const config = {
      name: stream,
      subjects: [this.#subjects.events],
      republish: { src: this.#subjects.events, dest: this.#subjects.republished(randomBytes(6).toString('hex')) },
      retention: 'limits',
      discard: 'old',
      storage,
      allow_direct: true,
      allow_rollup_hdrs: true,
      // A message that goes missing in the middle cannot be told from one that never was.
      deny_delete: true,
      ...this.#limits(),
    };
    try {
      return await manager.streams.add(config);
    } catch (error) {
      // Another node was first, with a token of its own.
      if (isStreamThere(error)) return await this.#asked('the stream', manager.streams.info(stream));
      throw failureOf(`the stream ${stream} cannot be made`, error);
    }
  }

  #limits(): Record<string, number> {
    const { historySize, historyBytes, historyTtl, replicas } = this.#options;
    const window = historyTtl === 0 ? DUPLICATE_WINDOW_MS : Math.min(historyTtl, DUPLICATE_WINDOW_MS);
    return {
      max_msgs_per_subject: historySize + 1,
      max_bytes: historyBytes === 0 ? -1 : historyBytes,
      max_age: historyTtl * 1e6,
      duplicate_window: window * 1e6,
      num_replicas: replicas,
    };
  }

  /** A stream of ours that has other limits than this node was told to give it. */
  async #adjusted(manager: JetStreamManager, info: NatsStreamInfo): Promise<NatsStreamInfo> {
    const { stream, storage } = this.#options;
    const { config } = info;
    if (config.storage !== undefined && config.storage !== storage) {
      const remedy = 'delete the stream, or give the option as it is';
      throw new SseError('SSE_ERR_HISTORY_UNUSABLE', `stream ${stream} is of storage ${config.storage}; ${remedy}`);
    }
    const wanted = this.#limits();
    const isSame = Object.entries(wanted).every(([name, value]) => (config as Record<string, unknown>)[name] === value);
    if (isSame) return info;
    return this.#asked(`the limits of stream ${stream}`, manager.streams.update(stream, wanted));
  }

  #viewOf({ config, created, state }: NatsStreamInfo): StreamView {
    const { stream } = this.#options;
    const token = this.#subjects.tokenOfDestination(config.republish?.dest);
    const unusable = (problem: string): SseError =>
      new SseError('SSE_ERR_HISTORY_UNUSABLE', `stream ${stream} ${problem}; see docs/guides/nats.md`);
    if (token === undefined) {
      throw unusable(`must republish ${this.#subjects.events} to ${this.#subjects.republished('<token>')}`);
    }
    if (config.subjects?.includes(this.#subjects.events) !== true) throw unusable(`must have ${this.#subjects.events}`);
    if (config.allow_rollup_hdrs !== true) throw unusable('must have allow_rollup_hdrs');
    const perKey = config.max_msgs_per_subject ?? -1;
    return {
      epoch: `${epochOf(created)}${token.replace(/[^A-Za-z0-9]/g, '')}`,
      token,
      replicas: config.num_replicas ?? 1,
      historySize: perKey < 1 ? Number.POSITIVE_INFINITY : perKey - 1,
      historyTtl: (config.max_age ?? 0) / 1e6,
      first: state.messages === 0 ? state.last_seq + 1 : state.first_seq,
      last: state.last_seq,
    };
  }

  /** `after`: what every node that wants one now knows alike, so that the server takes one and drops the rest. */
  async #anchor(view: StreamView, after: number): Promise<void> {
    const msgID = `anchor ${view.epoch} ${after}`;
    const { requestTimeout: timeout } = this.#options;
    await this.#asked(
      'the stream',
      this.#jetstream.publish(this.#subjects.anchor, new Uint8Array(), { msgID, timeout }),
    );
  }

  /** Waits for an answer, and no longer than `requestTimeout` or the connection lasts: the client may wait longer. */
  #asked<T>(what: string, answer: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(fail);
      };
      const fail = (error: unknown): void => {
        settle();
        reject(failureOf(`${what} cannot be asked`, error));
      };
      const late = (): void => fail(new Error(`NATS gave no answer in time (requestTimeout)`));
      const timer = setTimeout(late, this.#options.requestTimeout);
      this.#waiting.add(fail);
      answer.then((value) => {
        settle();
        resolve(value);
      }, fail);
    });
  }
}

/** What was listed is of another stream than what is there now: who asks again is answered from that one. */
export function replaced(): SseError {
  return unavailable('the stream was replaced while it was read');
}

/** A time with nanoseconds as a short text. */
function epochOf(created: string): string {
  const digits = created.replace(/\D/g, '');
  if (digits === '')
    throw new SseError('SSE_ERR_HISTORY_UNUSABLE', `the stream has no time of creation: ${messageOf(created)}`);
  return BigInt(digits).toString(36);
}
