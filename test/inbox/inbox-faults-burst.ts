/**
 * Sends from any node, at once and in any order, with what races with them: reads, subscriptions, transactions, connects, deaths.
 * Afterwards the store is asked where everything came to stand, and the model is told in that order.
 */
import { expect } from 'vitest';
import type { NewMessage, Reader, Receiver } from '../../src/inbox/store.js';
import type { Device } from './device.js';
import type { Life } from './inbox-faults.js';
import { GROUPS, type Node, readerOf, TYPES, USERS, type World } from './inbox-property.js';
import type { Known } from './model.js';

const PRIORITIES = ['normal', 'high', 'urgent'] as const;
const KEYS = ['a', 'b'];

interface Sent {
  readonly message: Omit<NewMessage, 'eventId'>;
  readonly life: Life | undefined;
  /** Undefined where its node died before it could say. */
  eventId: string | undefined;
}

/** A change of one subscription. */
interface Change {
  readonly user: string;
  readonly tenant: string;
  readonly group: string;
  readonly types: readonly string[] | undefined;
  readonly isNew: boolean;
}

type Race = 'none' | 'read' | 'change' | 'death';

export class Burst {
  readonly #world: World;
  readonly #sent: Sent[] = [];
  readonly #underWay: Promise<unknown>[] = [];
  #dying: number | undefined = undefined;
  #lastEnqueued: string | undefined = undefined;
  #change: Change | undefined = undefined;
  #read: { readonly device: Device; changed: number } | undefined = undefined;

  constructor(world: World) {
    this.#world = world;
  }

  async run(): Promise<void> {
    const { random, store } = this.#world;
    const headBefore = await store.head();
    const count = random.one([1, 2, 3, 5, 5, 12]);
    const race = this.#race();
    const raceAt = random.below(count + 1);
    this.#world.history.push(`send ${count}${race === 'none' ? '' : `, racing with ${race}`}`);
    // A read must not race with time.
    if (race !== 'read' && random.below(5) === 0) await this.#enqueue();
    // Often one node's, one behind the other; or of any.
    const node = random.below(2) === 0 ? this.#world.node : undefined;
    for (let i = 0; i <= count; i++) {
      if (i === raceAt) this.#startRace(race);
      if (i < count) this.#send(node ?? this.#world.node);
      await this.#between();
    }
    await Promise.all(this.#underWay);
    if (this.#dying !== undefined) await this.#world.replace(this.#dying);
    const last = this.#lastEnqueued;
    if (last !== undefined) {
      await this.#world.untilPassing(async () => (await store.find(last)) !== undefined, 'what was enqueued');
    }
    await this.#reconcile(headBefore);
  }

  #race(): Race {
    const { random, canDie } = this.#world;
    return random.one<Race>(['none', 'none', 'none', 'none', 'read', 'read', 'change', canDie ? 'death' : 'none']);
  }

  /** Whatever may come in between. */
  async #between(): Promise<void> {
    const { random, devices } = this.#world;
    const what = random.below(12);
    if (what === 0) this.#world.connect(random.one(devices));
    else if (what === 1) this.#world.cut(random.one(devices));
    for (let turns = random.below(3); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
  }

  #send({ inbox, life }: Node): void {
    if (life?.isOver) return;
    const { random, clock, model, judge } = this.#world;
    const number = this.#world.nextNumber();
    const { receiver, event, options, level, expiresAt } = this.#draw();
    const isKept = random.below(8) > 0;
    const dedupKey = isKept && random.below(6) === 0 ? random.one(KEYS) : undefined;
    const more = { ...options, ...(dedupKey !== undefined && { dedupKey }), ...(!isKept && { persist: false }) };
    const { type, name } = receiver;
    const now = clock.now();
    const result =
      type === 'user'
        ? inbox.sendToUser(name, event, number, more)
        : type === 'group'
          ? inbox.sendToGroup(name, event, number, more)
          : inbox.broadcast(event, number, more);
    if (!isKept) {
      for (const reader of this.#world.readers) {
        // To a group it is an event of a topic like any other: who comes to have the topic gets it out of history.
        const isTheirs =
          type === 'group' ? reader.tenants.includes(receiver.tenantId) : model.isFor(receiver, event, reader);
        if (isTheirs) judge.allow(reader, number);
      }
      // A bus that is away refuses it, and that is the end of it.
      this.#underWay.push(Promise.race([result.catch(() => {}), life?.gone ?? result.catch(() => {})]));
      return;
    }
    const message = this.#messageOf(number, receiver, event, level, expiresAt, now, dedupKey);
    const sent: Sent = { message, life, eventId: undefined };
    this.#sent.push(sent);
    const settled = result.then((id) => {
      sent.eventId = id;
    });
    this.#underWay.push(life === undefined ? settled : Promise.race([settled, life.gone]));
  }

  #draw() {
    const { random, clock } = this.#world;
    const tenantId = random.one([undefined, undefined, 'acme']);
    const event = random.one(TYPES);
    const level = random.below(3) as 0 | 1 | 2;
    const ttl = random.one(this.#world.ttls);
    const type = random.one(['user', 'user', 'group', 'everybody'] as const);
    const name = type === 'user' ? random.one(USERS) : type === 'group' ? random.one(GROUPS) : '';
    const receiver: Receiver = { type, name, tenantId: tenantId ?? '' };
    const expiresAt = ttl === 0 ? 0 : clock.now() + ttl;
    return { receiver, event, level, expiresAt, options: { tenantId, ttl, priority: PRIORITIES[level] } };
  }

  #messageOf(
    number: number,
    receiver: Receiver,
    event: string,
    priority: 0 | 1 | 2,
    expiresAt: number,
    createdAt: number,
    dedupKey: string | undefined,
  ): Omit<NewMessage, 'eventId'> {
    const more = dedupKey === undefined ? {} : { dedupKey };
    const data = String(number);
    return { receiver, event, data, json: true, priority, status: 'sent', expiresAt, createdAt, ...more };
  }

  /** A transaction of the application, committed or rolled back; when it is relayed, its messages have positions. */
  async #enqueue(): Promise<void> {
    const { random, clock } = this.#world;
    const isCommitted = random.below(3) > 0;
    const { inbox, life } = this.#world.node;
    const enqueued: Sent[] = [];
    const count = random.between(1, 3);
    this.#world.history.push(`enqueue ${count}, ${isCommitted ? 'committed' : 'rolled back'}`);
    await this.#world.transaction(async (tx) => {
      for (let i = 0; i < count; i++) {
        const number = this.#world.nextNumber();
        const { receiver, event, options, level, expiresAt } = this.#draw();
        const { type, name } = receiver;
        // The last says by its position that those before it are through.
        const dedupKey = i < count - 1 && random.below(2) === 0 ? random.one(KEYS) : undefined;
        const to =
          type === 'user' ? { userId: name } : type === 'group' ? { group: name } : ({ everybody: true } as const);
        const now = clock.now();
        const eventId = await inbox.enqueue(tx, to, event, number, { ...options, ...(dedupKey && { dedupKey }) });
        const message = this.#messageOf(number, receiver, event, level, expiresAt, now, dedupKey);
        enqueued.push({ message, life, eventId });
      }
    }, isCommitted);
    if (!isCommitted) return;
    this.#sent.push(...enqueued);
    this.#lastEnqueued = enqueued.at(-1)!.eventId;
  }

  #startRace(race: Race): void {
    const { random } = this.#world;
    if (race === 'read') {
      const device = random.one(this.#world.devices);
      const { userId, tenantId } = device;
      const read = { device, changed: 0 };
      this.#read = read;
      const node = this.#world.node;
      const marked = node.inbox.markRead(userId, 'all', { tenantId }).then((changed) => {
        read.changed = changed;
      });
      this.#underWay.push(marked);
    } else if (race === 'change') {
      this.#startChange();
    } else if (race === 'death') {
      this.#dying = random.below(this.#world.nodes.length);
      this.#underWay.push(this.#world.kill(this.#dying));
    }
  }

  #startChange(): void {
    const { random, model } = this.#world;
    const user = random.one(USERS);
    const tenant = random.one(['', 'acme']);
    const group = random.one(GROUPS);
    const isNew = !model.hasSubscription(user, tenant, group);
    const types = isNew ? random.one([undefined, ['note'], ['alarm']]) : undefined;
    this.#change = { user, tenant, group, types, isNew };
    this.#world.history.push(
      `${user}@${tenant} ${isNew ? 'subscribes to' : 'unsubscribes from'} ${group} ${types ?? ''}`,
    );
    const options = tenant === '' ? {} : { tenantId: tenant };
    const { inbox } = this.#world.node;
    const done = isNew ? inbox.subscribe(user, group, types, options) : inbox.unsubscribe(user, group, options);
    this.#underWay.push(this.#world.passing(done.then((was) => expect(was).toBe(true))));
  }

  /** Tells the model what has become of it all. */
  async #reconcile(headBefore: number): Promise<void> {
    const { model, store, judge } = this.#world;
    const stored = await this.#storedNow(headBefore);
    const since = await this.#sinceOfChange(headBefore);
    const added: Known[] = [];
    let isChanged = false;
    const change = (): void => {
      if (isChanged || this.#change === undefined) return;
      isChanged = true;
      const { user, tenant, group, types, isNew } = this.#change;
      if (isNew) model.subscribe(user, tenant, group, types);
      else model.unsubscribe(user, tenant, group);
    };
    const allow = (): void => {
      for (const { message } of stored) {
        for (const reader of this.#world.readers) {
          if (model.isFor(message.receiver, message.event, reader)) judge.allow(reader, Number(message.data));
        }
      }
    };
    allow();
    for (const { message, position } of stored) {
      if (position > since) change();
      if (!model.append(message)) throw new Error(`${message.data} was stored beside one with the same key`);
      judge.stored(Number(message.data), message.eventId, position);
      added.push(model.all.at(-1)!);
    }
    change();
    allow();
    if (this.#change !== undefined) this.#world.allowLate(true);
    if (this.#read !== undefined) await this.#takeRead(added);
    expect(await store.head()).toBeGreaterThanOrEqual(stored.at(-1)?.position ?? 0);
  }

  /** What is stored of it, in the order of positions. */
  async #storedNow(headBefore: number): Promise<{ message: NewMessage; position: number }[]> {
    const { store, model } = this.#world;
    const found = new Map<string, { message: NewMessage; position: number }>();
    for (const { message, life, eventId } of this.#sent) {
      const { dedupKey } = message;
      const id = eventId ?? life?.given.get(message.data);
      if (id === undefined) continue;
      const one = await store.find(id);
      if (one === undefined) {
        const isLost = eventId === undefined;
        if (isLost || dedupKey !== undefined) continue;
        throw new Error(`${message.data} is not stored, and its send has resolved`);
      }
      const known = model.all.find((other) => other?.message.eventId === id);
      if (known !== undefined || one.data !== message.data) {
        // The first of its key, of before or of this burst.
        expect(dedupKey).toBeDefined();
        expect([one.dedupKey, one.receiver.tenantId]).toEqual([dedupKey, message.receiver.tenantId]);
        continue;
      }
      expect(one.position).toBeGreaterThan(headBefore);
      const { receiver, event, priority, expiresAt } = one;
      expect({ receiver, event, priority, expiresAt }, message.data).toEqual({
        receiver: message.receiver,
        event: message.event,
        priority: message.priority,
        expiresAt: message.expiresAt,
      });
      found.set(id, { message: { ...message, eventId: id }, position: one.position });
    }
    return [...found.values()].sort((a, b) => a.position - b.position);
  }

  /** From which position on a new subscription counts. */
  async #sinceOfChange(headBefore: number): Promise<number> {
    if (this.#change?.isNew !== true) return 0;
    const { user, tenant, group } = this.#change;
    const all = await this.#world.store.subscriptions({ userId: user, tenants: [tenant] });
    const { since } = all.find((one) => one.group === group)!;
    expect(since).toBeGreaterThanOrEqual(headBefore);
    return since;
  }

  /** Of what was sent meanwhile the first ones of each kind were read, of what there was before all. */
  async #takeRead(added: readonly Known[]): Promise<void> {
    const { model, clock, store } = this.#world;
    const { device, changed } = this.#read!;
    const reader: Reader = readerOf(device);
    const now = clock.now();
    const left = new Set((await store.pending({ reader, after: 0, limit: 1_000, now })).map(({ eventId }) => eventId));
    const unread = model.unread(reader, now);
    const read = unread.filter(({ message }) => !left.has(message.eventId));
    for (const known of read) model.markRead(known, reader, now);
    const old = unread.filter((known) => !added.includes(known));
    for (const known of old) expect(read, known.message.data).toContain(known);
    // A database reads one kind after the other, and each of them as far as it has come by then.
    const kinds = new Map<string, Known[]>();
    for (const known of unread.filter((one) => added.includes(one))) {
      const { receiver, event, priority } = known.message;
      const kind = JSON.stringify(receiver.type === 'user' ? receiver : [receiver, event, priority]);
      kinds.set(kind, [...(kinds.get(kind) ?? []), known]);
    }
    for (const sent of kinds.values()) {
      const count = sent.filter((known) => read.includes(known)).length;
      for (const known of sent.slice(0, count)) expect(read, known.message.data).toContain(known);
    }
    if (!this.#world.isReal) expect(changed).toBe(read.length);
  }
}
