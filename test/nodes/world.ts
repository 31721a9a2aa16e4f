/**
 * Three nodes in processes of their own over one real bus, visitors that hop between them, and publishes from all of them to
 * users, topics, tenants and everybody. A fault strikes while all that goes on; then everything is mended, and judged.
 */
import { randomBytes } from 'node:crypto';
import { onTestFinished } from 'vitest';
import { childStarter } from '../support/child.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';
import { type Counting, Ledger } from './ledger.js';
import { Member } from './member.js';
import type { BusKind, Look, Publication, Reply, Target } from './node-program.js';
import type { Random } from './random.js';
import { type Person, Visitor } from './visitor.js';

const PEOPLE: readonly Person[] = [
  { identity: { userId: 'ann' }, topics: ['a', 'b'] },
  { identity: { userId: 'ann' }, topics: ['c'] },
  { identity: { userId: 'bob', tenantId: 'acme' }, topics: ['a'] },
  { identity: { userId: 'ann', tenantId: 'acme' }, topics: ['b'] },
  { identity: { userId: 'cy', tenantId: 'other' }, topics: ['a', 'b', 'c'] },
  { identity: {}, topics: ['c'] },
];

/** Seldom enough that every connection lives to see something. */
const HOP_EVERY_MS = 150;
/** Batches that a node may owe an answer to. */
const OUTSTANDING = 4;
/** How long everything may take to be well again after everything was mended. */
const WELL_WITHIN_MS = 25_000;
/** V8 takes its time with code and maps; a leak takes more with every fault. */
const HEAP_ALLOWANCE = 6 * 1024 * 1024;

export class World {
  readonly members: readonly Member[];
  readonly visitors: readonly Visitor[];
  readonly random: Random;
  readonly ledger: Ledger;
  /** Characters of each event, beyond the few that it needs; a fault may ask for large ones. */
  size = 200;
  readonly #locks = new Map<string, Promise<unknown>>();
  #isBusy = false;

  private constructor(members: readonly Member[], random: Random, counting: Counting) {
    this.members = members;
    this.random = random;
    this.ledger = new Ledger(counting);
    const pickPort = () => {
      const living = members.filter(({ isLiving }) => isLiving);
      return living.length === 0 ? undefined : random.one(living).port;
    };
    this.visitors = PEOPLE.map((person) => new Visitor(person, pickPort, () => random.between(0, 60)));
  }

  /** `busPort`: of the real server; each node reaches it through a proxy of its own. It ends with the test. */
  static async start(kinds: readonly BusKind[], busPort: number, random: Random): Promise<World> {
    const namespace = `nodes-${randomBytes(6).toString('hex')}`;
    const fork = await childStarter<Reply>('test/nodes/node-program.ts');
    const members: Member[] = [];
    for (const kind of kinds) {
      const proxy = await TcpProxy.start(busPort);
      onTestFinished(() => proxy.close());
      members.push(new Member(proxy, kind, namespace, fork));
    }
    await Promise.all(members.map((member) => member.start()));
    const world = new World(members, random, kinds[0] === 'nats' ? 'per epoch' : 'ever');
    onTestFinished(() => {
      for (const visitor of world.visitors) visitor.leave();
    });
    for (const visitor of world.visitors) visitor.come();
    await until(() => world.visitors.every(({ isStreaming }) => isStreaming), 'every visitor’s stream');
    return world;
  }

  /** Lets `strike` happen in the middle of everything; whatever it begins it also ends. */
  async during(strike: () => Promise<void>): Promise<void> {
    this.#isBusy = true;
    const life = [...this.members.map((member) => this.#publish(member)), this.#hop()];
    const before = this.ledger.acknowledged;
    await until(() => this.ledger.acknowledged >= before + 30, 'the first publishes');
    try {
      await strike();
    } finally {
      this.#isBusy = false;
      await Promise.all(life);
    }
  }

  /** Waits until all is well; resolves to what is wrong by then, or did not become well. */
  async judge(): Promise<string[]> {
    const down = await this.#whenUp();
    if (down !== undefined) return [down, ...this.#deaths()];
    // A last event for everybody: whoever has it has, or was told, everything before it. A node notices within a check interval
    // that all was lost: until then it may refuse to publish, and its gap may cover this event too.
    let last = -1;
    const isTaken = async () => {
      last = this.ledger.add({ kind: 'everybody', name: '' });
      await this.#settle(this.members[0]!, [{ n: last, target: { kind: 'everybody', name: '' }, size: 0 }]);
      return this.ledger.isAcknowledged(last);
    };
    await until(isTaken, 'the last publish to be taken', WELL_WITHIN_MS).catch(() => {});
    if (!this.ledger.isAcknowledged(last)) return ['the last event was not taken by the bus'];
    const lacking = () => this.visitors.filter((visitor) => !this.ledger.isAccountedFor(last, visitor));
    await until(() => lacking().length === 0, 'the last event', WELL_WITHIN_MS).catch(() => {});
    const faults = lacking().map((visitor) => `no last event for ${visitor}`);
    return [...faults, ...this.ledger.faults(this.visitors, last), ...this.#deaths(), ...(await this.#leftovers())];
  }

  /** One at a time, of those that touch the same thing. */
  alone<T>(what: string, action: () => Promise<T>): Promise<T> {
    const turn = (this.#locks.get(what) ?? Promise.resolve()).then(action);
    this.#locks.set(
      what,
      turn.catch(() => {}),
    );
    return turn;
  }

  /** Waits until every node has its bus; why not, where that takes too long. */
  async #whenUp(): Promise<string | undefined> {
    let looks: readonly Look[] = [];
    const isUp = async () => {
      looks = await Promise.all(this.members.map((member) => member.look()));
      return looks.every(({ bus }) => bus === 'up');
    };
    return until(isUp, 'the nodes to be up', WELL_WITHIN_MS).then(
      () => undefined,
      ({ message }: Error) => `${message}: ${looks.map(({ reason }) => reason ?? 'up').join('; ')}`,
    );
  }

  /** Publishes, through a node, until it is told to stop. */
  async #publish(member: Member): Promise<void> {
    const outstanding = new Set<Promise<void>>();
    while (this.#isBusy) {
      if (member.isLiving && outstanding.size < OUTSTANDING) {
        const batch = Array.from({ length: this.random.between(1, 6) }, () => this.#publication());
        const settled = this.#settle(member, batch).finally(() => outstanding.delete(settled));
        outstanding.add(settled);
      }
      await new Promise((resolve) => setTimeout(resolve, this.random.between(5, 25)));
    }
    await Promise.all(outstanding);
  }

  /** Notes what became of each; of a process that was killed nobody knows, so nothing is owed. */
  async #settle(member: Member, batch: readonly Publication[]): Promise<void> {
    const { lives } = member;
    const outcomes = await member.publish(batch).catch((error: Error) => {
      if (member.lives === lives && member.isLiving) throw error;
      return [];
    });
    for (const outcome of outcomes) this.ledger.settle(outcome);
  }

  #publication(): Publication {
    const target = this.#target();
    return { n: this.ledger.add(target), target, size: this.random.below(this.size) };
  }

  #target(): Target {
    const tenantId = this.random.one([undefined, undefined, 'acme', 'other']);
    const kind = this.random.one(['user', 'topic', 'topic', 'everybody'] as const);
    if (kind === 'everybody') return { kind, name: '', tenantId };
    return { kind, name: this.random.one(kind === 'user' ? ['ann', 'bob', 'cy'] : ['a', 'b', 'c']), tenantId };
  }

  async #hop(): Promise<void> {
    while (this.#isBusy) {
      await new Promise((resolve) => setTimeout(resolve, this.random.between(1, 2 * HOP_EVERY_MS)));
      this.random.one(this.visitors).hop();
    }
  }

  #deaths(): string[] {
    return this.members.flatMap(({ died }, i) => (died === undefined ? [] : [`node ${i}: ${died}`]));
  }

  /** Nobody who left is kept, nothing waits, and the heap is what it was. */
  async #leftovers(): Promise<string[]> {
    const faults: string[] = [];
    const looks = () => Promise.all(this.members.map((member) => member.look()));
    const sum = (all: readonly Look[], of: (look: Look) => number) => all.reduce((total, look) => total + of(look), 0);
    const isClean = (all: readonly Look[]) =>
      sum(all, ({ clients, ending }) => clients + ending) === this.visitors.length &&
      sum(all, ({ sockets }) => sockets) === this.visitors.length &&
      sum(all, ({ queuedFrames }) => queuedFrames) === 0;
    let last = await looks();
    const isEmptied = async () => {
      last = await looks();
      return isClean(last);
    };
    await until(isEmptied, 'what is left of those who left').catch(() => {
      faults.push(`left over: ${JSON.stringify(last)}`);
    });
    for (const [i, member] of this.members.entries()) {
      const { heapUsed } = last[i]!;
      member.firstHeap ??= heapUsed;
      const grown = heapUsed - member.firstHeap;
      if (grown > HEAP_ALLOWANCE) faults.push(`node ${i}: heap grew by ${(grown / 2 ** 20).toFixed(1)} MiB`);
    }
    return faults;
  }
}
