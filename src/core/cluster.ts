/**
 * The other nodes: who lives, what they have, and what is asked of them.
 *
 * Nodes talk over the bus that carries the events, on keys of their own (`nodeKey` in topic.ts), so it works the same on
 * every bus and needs nothing besides. Each node says every third of a lease that it is there; who is silent for a whole
 * lease is gone. Leases run by monotonic time, and stand still while this node's own beats do not come back to it: then it
 * was stopped itself, or it is the bus that is silent, and it cannot judge the others.
 *
 * What is lost here costs lateness, never correctness: beats carry digests, and questions have deadlines.
 */
import type { Bus } from './bus.js';
import type { Clock } from './clock.js';
import { type CallResult, ClusterCalls } from './cluster-calls.js';
import {
  type Ask,
  type Beat,
  type ClusterCall,
  type ClusterMessage,
  decodeMessage,
  encodeMessage,
  isForAll,
  MAX_MESSAGE_LENGTH,
  type NodeFigures,
} from './cluster-message.js';
import { Outbox, type Speaker } from './cluster-outbox.js';
import { Replica } from './cluster-replica.js';
import { isSseError, SseError } from './errors.js';
import type { BusEvent } from './event.js';
import type { ResolvedOptions } from './options.js';
import type { UserConnection } from './presence.js';
import type { PresenceDirectory } from './presence-directory.js';
import { nodeKey } from './topic.js';

/** What the other nodes are to a broker. */
export interface ClusterHost {
  readonly nodeId: string;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly directory: PresenceDirectory;
  readonly options: Pick<ResolvedOptions, 'nodeName' | 'nodeTimeout' | 'nodeAnswerTimeout' | 'maxPresence'>;
  figures(): NodeFigures;
  /** Does what another node asks; undefined where this node has no such client. */
  run(request: ClusterCall): CallResult | Promise<CallResult>;
  joined(node: NodeInfo): void;
  left(node: NodeInfo, reason: NodeLeaveReason): void;
  failed(error: unknown): void;
}

/** A node, as listeners are told. */
export interface NodeInfo {
  /** Drawn at random when its broker was made. */
  readonly id: string;
  /** `nodeName` of its options. */
  readonly name: string | undefined;
}

/** Why a node is gone: it said so, or was silent for `nodeTimeout`. */
export type NodeLeaveReason = 'goodbye' | 'timeout';

/** Figures of one node. */
export interface NodeStats extends NodeInfo, NodeFigures {
  /** True for the node that was asked. */
  readonly isSelf: boolean;
  /** True where this node knows all its connections; false while they are on their way. */
  readonly isSynced: boolean;
  /** ms since this node heard of it; 0 for itself. */
  readonly silentFor: number;
}

interface Peer {
  readonly id: string;
  name: string | undefined;
  figures: NodeFigures;
  /** Monotonic ms; moved on while this node cannot judge. */
  heardAt: number;
  readonly replica: Replica;
}

/** Beats in one lease. */
const BEATS = 3;
/** Looks at the clock in one lease, at most every `MAX_TICK` ms. */
const TICKS = 30;
const MAX_TICK = 500;
/** A node that has just joined waits this many ms for the others to say that they are there, before it asks them. */
const DISCOVERY = 500;
/** Most nodes that are kept in mind. */
const MAX_NODES = 1_000;
/** Messages that make no sense are told once in this many ms. */
const TELL_EVERY = 10_000;

const NO_FIGURES: NodeFigures = { clients: 0, users: 0, topics: 0 };

export class Cluster {
  readonly #host: ClusterHost;
  readonly #peers = new Map<string, Peer>();
  readonly #calls = new ClusterCalls();
  readonly #speaker: Speaker;
  readonly #outbox: Outbox;
  readonly #beatEvery: number;
  readonly #tickMs: number;
  #state: 'idle' | 'joining' | 'open' | 'closed' = 'idle';
  #stopTicks: (() => void) | undefined = undefined;
  #tickedAt = 0;
  #nextBeatAt = 0;
  /** When its own beat last came back. */
  #echoAt = 0;
  /** When it is old enough to know the others. */
  #settledAt = Number.POSITIVE_INFINITY;
  /** Questions that wait until then. */
  #waiting: { readonly deadline: number; readonly resolve: () => void }[] = [];
  /** Echoes that are under way, by id. */
  readonly #echoes = new Map<number, { readonly deadline: number; readonly resolve: (isBack: boolean) => void }>();
  #lastEcho = 0;
  #refused = 0;
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(host: ClusterHost) {
    this.#host = host;
    const { nodeTimeout } = host.options;
    this.#beatEvery = nodeTimeout / BEATS;
    this.#tickMs = Math.max(10, Math.min(MAX_TICK, Math.floor(nodeTimeout / TICKS)));
    const { nodeId, clock, directory } = host;
    this.#speaker = {
      nodeId,
      clock,
      directory,
      figures: () => host.figures(),
      send: (to, message) => this.#send(to, message),
    };
    this.#outbox = new Outbox(this.#speaker, nodeTimeout);
  }

  /** When the bus is started: joins, and says that this node is there. Never rejects; what fails is tried again. */
  async open(): Promise<void> {
    if (this.#state !== 'idle') return;
    this.#state = 'joining';
    this.#tickedAt = this.#host.clock.monotonic();
    this.#stopTicks = this.#host.clock.every(this.#tickMs, () => this.#tick());
    await this.#join();
  }

  /** A client of this node that has a user came or went; the directory knows already. */
  changed(connection: UserConnection, isAdded: boolean): void {
    this.#outbox.changed(connection, isAdded);
  }

  /** What came for nodes. Never throws. */
  receive({ data }: BusEvent): void {
    if (this.#state === 'closed') return;
    let message: ClusterMessage;
    try {
      message = decodeMessage(data);
    } catch (error) {
      this.#refuse(error);
      return;
    }
    this.#take(message);
  }

  /**
   * Asks the node that has a client, or all where that is not known. Rejects with `SSE_ERR_CLUSTER_TIMEOUT`,
   * `SSE_ERR_BUS_UNAVAILABLE`, and what the other node answers.
   */
  async ask(request: ClusterCall): Promise<CallResult> {
    if (this.#state === 'idle') return undefined;
    const { clock, directory, options, nodeId: from } = this.#host;
    const deadline = clock.monotonic() + options.nodeAnswerTimeout;
    // Nobody would wake up who waits then.
    if (this.#state !== 'closed' && clock.monotonic() < this.#settledAt) await this.#settled(deadline);
    if (this.#state !== 'open') throw notJoined(this.#state);
    const known = 'clientId' in request ? directory.nodeOf(request.clientId) : undefined;
    const to = known !== undefined && this.#peers.has(known) ? known : '';
    const nodeIds = to === '' ? [...this.#peers.keys()] : [to];
    if (nodeIds.length === 0) return isForAll(request) ? 0 : undefined;
    return this.#calls.ask(request, nodeIds, deadline, (id) => this.#publish(to, { kind: 'ask', from, id, request }));
  }

  /** Resolves to true when everything that was published before has come to this node, to false where that cannot be said. */
  async echo(): Promise<boolean> {
    if (this.#state !== 'open') return false;
    const { clock, nodeId: from, options } = this.#host;
    const id = ++this.#lastEcho;
    const isBack = new Promise<boolean>((resolve) => {
      this.#echoes.set(id, { deadline: clock.monotonic() + options.nodeAnswerTimeout, resolve });
    });
    if (!(await this.#send(from, { kind: 'echo', from, id }))) this.#endEcho(id, false);
    return isBack;
  }

  #endEcho(id: number, isBack: boolean): void {
    this.#echoes.get(id)?.resolve(isBack);
    this.#echoes.delete(id);
  }

  /** All nodes that live, this one first. */
  nodes(): NodeStats[] {
    const { nodeId, options, clock } = this.#host;
    const now = clock.monotonic();
    const self = { id: nodeId, name: options.nodeName, isSelf: true, isSynced: true, silentFor: 0 };
    const nodes: NodeStats[] = [{ ...self, ...this.#host.figures() }];
    for (const { id, name, figures, heardAt, replica } of this.#peers.values()) {
      const silentFor = Math.max(0, Math.round(now - heardAt));
      nodes.push({ id, name, isSelf: false, isSynced: replica.isSynced, silentFor, ...figures });
    }
    return nodes;
  }

  /** Says that this node goes, and forgets the others. Resolves when the bus has taken it, or not. */
  async close(): Promise<void> {
    const wasOpen = this.#state === 'open' || this.#state === 'joining';
    this.#state = 'closed';
    this.#stopTicks?.();
    this.#stopTicks = undefined;
    this.#outbox.close();
    this.#calls.close();
    for (const id of [...this.#echoes.keys()]) this.#endEcho(id, false);
    this.#wake(Number.POSITIVE_INFINITY);
    this.#peers.clear();
    if (!wasOpen) return;
    const { bus, nodeId } = this.#host;
    await this.#send('', { kind: 'bye', from: nodeId });
    bus.leave(nodeKey(''));
    bus.leave(nodeKey(nodeId));
  }

  async #join(): Promise<void> {
    const { bus, nodeId, clock, failed } = this.#host;
    this.#nextBeatAt = Number.POSITIVE_INFINITY;
    try {
      await Promise.all([bus.join(nodeKey('')), bus.join(nodeKey(nodeId))]);
    } catch (error) {
      // The next beat tries again.
      this.#nextBeatAt = clock.monotonic() + this.#beatEvery;
      failed(error);
      return;
    }
    if (this.#state !== 'joining') return;
    this.#state = 'open';
    const now = clock.monotonic();
    this.#echoAt = now;
    this.#settledAt = now + Math.min(DISCOVERY, this.#beatEvery);
    this.#beat('', true);
  }

  #tick(): void {
    const now = this.#host.clock.monotonic();
    const elapsed = now - this.#tickedAt;
    this.#tickedAt = now;
    if (this.#state === 'joining') {
      if (now >= this.#nextBeatAt) void this.#join();
      this.#wake(now);
      return;
    }
    this.#wake(now >= this.#settledAt ? Number.POSITIVE_INFINITY : now);
    // Half a lease: what a peer may have been silent for besides does not make it a whole one.
    const isDeaf = now - this.#echoAt > this.#beatEvery * (BEATS / 2);
    if (isDeaf) for (const peer of this.#peers.values()) peer.heardAt += elapsed;
    if (now >= this.#nextBeatAt) this.#beat('', false);
    for (const peer of this.#peers.values()) {
      if (now - peer.heardAt >= this.#host.options.nodeTimeout) this.#drop(peer, 'timeout');
    }
    this.#calls.expire(now);
    for (const [id, { deadline }] of this.#echoes) if (deadline <= now) this.#endEcho(id, false);
  }

  #beat(to: string, isNew: boolean): void {
    const { nodeId, options, clock } = this.#host;
    if (to === '') {
      // Nodes that were started together drift apart.
      this.#nextBeatAt = clock.monotonic() + this.#beatEvery * (0.9 + Math.random() * 0.1);
    }
    this.#outbox.flush();
    void this.#send(to, {
      kind: 'beat',
      from: nodeId,
      name: options.nodeName ?? '',
      figures: this.#host.figures(),
      ...this.#outbox.digest,
      isNew,
    });
  }

  #take(message: ClusterMessage): void {
    const { from } = message;
    if (from === this.#host.nodeId) {
      if (message.kind === 'beat') this.#echoAt = this.#host.clock.monotonic();
      else if (message.kind === 'echo') this.#endEcho(message.id, true);
      return;
    }
    switch (message.kind) {
      case 'beat': {
        this.#takeBeat(message);
        return;
      }
      case 'delta': {
        const peer = this.#heard(from, undefined);
        if (peer === undefined) return;
        peer.figures = message.figures;
        peer.replica.delta(message);
        return;
      }
      case 'bye': {
        const peer = this.#peers.get(from);
        if (peer !== undefined) this.#drop(peer, 'goodbye');
        return;
      }
      case 'sync':
        this.#outbox.request(from);
        return;
      case 'snapshot':
        this.#peers.get(from)?.replica.part(message);
        return;
      case 'ask':
        void this.#answer(message);
        return;
      case 'answer':
        this.#calls.answered(message);
    }
  }

  #takeBeat(beat: Beat): void {
    const peer = this.#heard(beat.from, beat.name);
    if (peer === undefined) return;
    peer.figures = beat.figures;
    peer.replica.beat(beat);
    if (beat.isNew) this.#beat(beat.from, false);
  }

  #heard(id: string, name: string | undefined): Peer | undefined {
    const now = this.#host.clock.monotonic();
    let peer = this.#peers.get(id);
    if (peer === undefined) {
      if (this.#peers.size >= MAX_NODES) return undefined;
      const replica = new Replica(id, this.#speaker, this.#host.options.maxPresence, this.#beatEvery);
      peer = { id, name: name || undefined, figures: NO_FIGURES, heardAt: now, replica };
      this.#peers.set(id, peer);
      this.#host.joined({ id, name: peer.name });
    }
    if (name !== undefined) peer.name = name || undefined;
    peer.heardAt = now;
    return peer;
  }

  #drop(peer: Peer, reason: NodeLeaveReason): void {
    this.#peers.delete(peer.id);
    // Who was on a node that died has been gone since it was last heard of.
    this.#host.directory.removeNode(peer.id, reason === 'timeout' ? peer.heardAt : undefined);
    this.#calls.gone(peer.id);
    this.#host.left({ id: peer.id, name: peer.name }, reason);
  }

  async #answer({ from: to, id, request }: Ask): Promise<void> {
    const from = this.#host.nodeId;
    let value: CallResult;
    let error: { readonly code: string; readonly message: string } | undefined;
    try {
      value = await this.#host.run(request);
    } catch (failure) {
      error = isSseError(failure)
        ? { code: failure.code, message: failure.message }
        : { code: 'SSE_ERR_INTERNAL', message: 'the other node failed' };
    }
    await this.#send(to, { kind: 'answer', from, id, value, error });
  }

  /** False where the bus did not take it: it says itself when it is down, and what was lost is noticed by beats. */
  async #send(to: string, message: ClusterMessage): Promise<boolean> {
    try {
      await this.#publish(to, message);
      return true;
    } catch (error) {
      if (!isSseError(error) || error.code !== 'SSE_ERR_BUS_UNAVAILABLE') this.#host.failed(error);
      return false;
    }
  }

  async #publish(to: string, message: ClusterMessage): Promise<void> {
    const data = encodeMessage(message);
    if (data.length > MAX_MESSAGE_LENGTH) {
      throw new SseError(
        'SSE_ERR_EVENT_TOO_LARGE',
        `a message to other nodes has ${data.length} characters, ${MAX_MESSAGE_LENGTH} are allowed; give a shorter reason`,
      );
    }
    const timestamp = this.#host.clock.now();
    await this.#host.bus.publish({ key: nodeKey(to), event: 'node', data, json: true, timestamp, expiresAt: 0 });
  }

  #settled(deadline: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push({ deadline, resolve });
    });
  }

  /** Lets questions go on whose deadline is not later than that. */
  #wake(now: number): void {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = waiting.filter(({ deadline }) => deadline > now);
    for (const { deadline, resolve } of waiting) if (deadline <= now) resolve();
  }

  #refuse(error: unknown): void {
    this.#refused++;
    const now = this.#host.clock.monotonic();
    if (now - this.#toldAt < TELL_EVERY) return;
    this.#toldAt = now;
    this.#host.failed(
      new SseError('SSE_ERR_INVALID_BUS_EVENT', `${this.#refused} messages of nodes made no sense; see cause`, {
        cause: error,
      }),
    );
  }
}

function notJoined(state: 'idle' | 'joining' | 'closed'): SseError {
  return state === 'closed'
    ? new SseError('SSE_ERR_BROKER_CLOSED', 'the broker is closed; other nodes cannot be asked any more')
    : new SseError('SSE_ERR_BUS_UNAVAILABLE', 'the bus has not joined what nodes tell each other; try again');
}
