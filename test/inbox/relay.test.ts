/** What nodes take over from transactions and from each other goes out, once, whatever the store or the bus does meanwhile. */
import { expect, onTestFinished, test } from 'vitest';
import { Inbox, MemoryStore } from '../../src/inbox/index.js';
import type { OutgoingEvent } from '../../src/index.js';
import { message, toUser } from '../../src/testing/store-case.js';
import { makeBroker } from '../support/broker.js';
import { SharedHub } from '../support/shared-bus.js';
import { until } from '../support/until.js';
import { annasPhone } from './device.js';

type Method = 'relay' | 'relayed';

/** A store whose answers get lost, after the work was done or before, as often as is said. */
class FaultyStore extends MemoryStore {
  readonly lost: Record<Method, number> = { relay: 0, relayed: 0 };
  readonly failing: Record<Method, number> = { relay: 0, relayed: 0 };

  override async relay(...args: Parameters<MemoryStore['relay']>) {
    return this.#faulty('relay', () => super.relay(...args));
  }

  override async relayed(...args: Parameters<MemoryStore['relayed']>) {
    return this.#faulty('relayed', () => super.relayed(...args));
  }

  async #faulty<T>(method: Method, work: () => Promise<T>): Promise<T> {
    if (this.failing[method]-- > 0) throw new Error('the database is down');
    const answer = await work();
    if (this.lost[method]-- > 0) throw new Error('no answer came');
    return answer;
  }
}

/** A node on a shared bus, with a phone of anna's. `nodeLease`: nobody takes over from it within the test. */
async function makeNode(store: MemoryStore, isShared = true) {
  const port = new SharedHub().port();
  const broker = makeBroker(isShared ? { bus: port } : {});
  const inbox = new Inbox({ broker, store, deviceGrace: 20, relayInterval: 20, nodeLease: 3_600_000 });
  onTestFinished(() => inbox.close());
  await inbox.start();
  const { phone, gets } = await annasPhone(broker);
  const enqueue = async (...numbers: number[]): Promise<void> => {
    const tx = store.begin();
    for (const number of numbers) await inbox.enqueue(tx, { userId: 'anna' }, 'note', number);
    tx.commit();
  };
  return { port, broker, inbox, phone, enqueue, gets };
}

const OTHER = 'another node';

test.each([
  ['a shared bus', true],
  ['a bus of its own', false],
])('what was taken by a call whose answer got lost comes, once, while its node lives, on %s', async (_, isShared) => {
  const store = new FaultyStore();
  const { broker, inbox, phone, enqueue, gets } = await makeNode(store, isShared);
  await inbox.sendToUser('anna', 'note', 0);
  store.lost.relay = 1;
  await enqueue(1, 2);
  await until(() => broker.reported.length === 1, 'the answer to be lost');
  // What is sent next must not say that all before it is out.
  await inbox.sendToUser('anna', 'note', 3);
  await until(() => {
    phone.take();
    return phone.messages.length === 4;
  }, 'all four');
  expect([...phone.messages].sort()).toEqual([0, 1, 2, 3]);
  await enqueue(4);
  await gets(...phone.messages, 4);
  expect(inbox.getStats()).toMatchObject({ relayed: 3, published: 5 });
  await until(async () => (await store.firstUnpublished(OTHER)) === 0, 'nothing to be left to publish');
});

test('that a message is out is said again where the store did not hear it', async () => {
  const store = new FaultyStore();
  const { enqueue, gets } = await makeNode(store);
  store.failing.relayed = 1;
  await enqueue(1);
  await gets(1);
  await until(async () => (await store.firstUnpublished(OTHER)) === 0, 'the store to hear it');
  store.failing.relayed = 2;
  await enqueue(2);
  await enqueue(3);
  await gets(1, 2, 3);
  await until(async () => (await store.firstUnpublished(OTHER)) === 0, 'the store to hear of all');
});

test('a bus that takes its time keeps nothing from being stored, no lease from being renewed, nobody from closing', async () => {
  const store = new MemoryStore();
  const { port, inbox, enqueue, gets } = await makeNode(store);
  const publish = port.publish.bind(port);
  const waiting: (() => void)[] = [];
  // Also what nodes say to each other, which has no tag.
  let isAway = false;
  port.publish = (event: OutgoingEvent) =>
    event.tag === undefined
      ? isAway
        ? new Promise(() => {})
        : publish(event)
      : new Promise((resolve) => waiting.push(() => resolve(publish(event))));
  await enqueue(1);
  await until(() => waiting.length === 1, 'the first to wait');
  void inbox.sendToUser('anna', 'note', 2);
  await until(async () => (await store.head()) === 2, 'the second to be stored');
  await enqueue(3);
  await until(() => waiting.length === 3, 'the third to wait');
  for (const go of waiting.splice(0)) go();
  await gets(1, 2, 3);
  const renewals: number[] = [];
  const renewNode = store.renewNode.bind(store);
  store.renewNode = (node, through, leaseUntil) => {
    renewals.push(through);
    return renewNode(node, through, leaseUntil);
  };
  isAway = true;
  await store.append([message('other.1', toUser('anna'))], OTHER);
  await store.renewNode(OTHER, 4, 0);
  await enqueue(5);
  await until(() => waiting.length === 1, 'the last to wait');
  renewals.length = 0;
  void inbox.sendToUser('anna', 'note', 6);
  await until(() => waiting.length === 2, 'the last to be sent');
  for (const go of waiting.splice(1)) go();
  await until(() => renewals.length > 0, 'the lease to be renewed');
  await inbox.close();
  // It is for others now.
  expect(await store.firstUnpublished(OTHER)).toBe(5);
});

test('what the bus refuses is kept within bounds, tried by one while it is away, and comes in order, once', async () => {
  const store = new MemoryStore();
  const { port, broker, inbox, gets } = await makeNode(store);
  let attempts = 0;
  let isAway = true;
  port.refuses = (event) => {
    if (event.tag === undefined) return false;
    attempts++;
    return isAway;
  };
  const read: string[] = [];
  const find = store.find.bind(store);
  store.find = (eventId) => {
    read.push(eventId);
    return find(eventId);
  };
  const pad = 'x'.repeat(100_000);
  const numbers = Array.from({ length: 100 }, (_, i) => i);
  // A number with blanks behind it, for a size.
  await Promise.all(numbers.map((i) => inbox.sendToUser('anna', 'note', `${i}${pad.replaceAll('x', ' ')}`)));
  expect(attempts).toBe(100);
  await until(() => attempts >= 102, 'the first to be tried twice more');
  expect(attempts).toBeLessThan(106);
  expect(broker.reported.length).toBe(attempts);
  isAway = false;
  await gets(...numbers);
  // Four million characters of ten were kept.
  expect(read.length).toBeGreaterThan(50);
  expect(read.length).toBeLessThan(70);
  expect(inbox.getStats()).toMatchObject({ stored: 100, published: 100 });
});
