/** Whatever goes wrong at the start or the end, an inbox that was closed leaves nothing behind. */
import { expect, onTestFinished, test } from 'vitest';
import { Inbox, MemoryStore, type Presence } from '../../src/inbox/index.js';
import { makeBroker } from '../support/broker.js';
import { SharedHub } from '../support/shared-bus.js';

class BrokenStore extends MemoryStore {
  readonly down = new Set<'head' | 'renewNode'>();
  listeners = 0;

  override async head(): Promise<number> {
    if (this.down.has('head')) throw new Error('the database is down');
    return super.head();
  }

  override async renewNode(...args: Parameters<MemoryStore['renewNode']>): Promise<void> {
    if (this.down.has('renewNode')) throw new Error('the database is down');
    return super.renewNode(...args);
  }

  override async onEnqueued(callback: () => void): Promise<() => Promise<void>> {
    const undo = await super.onEnqueued(callback);
    this.listeners++;
    return async () => {
      this.listeners--;
      await undo();
    };
  }
}

test('one whose store fails at the end is closed all the same', async () => {
  const broker = makeBroker();
  const store = new BrokenStore();
  let attached = 0;
  const presence: Presence = {
    attach: () => {
      attached++;
      return async () => void attached--;
    },
    isOnline: async () => false,
  };
  const inbox = new Inbox({ broker, store, presence });
  await inbox.start();
  expect([attached, store.listeners]).toEqual([1, 1]);
  store.down.add('renewNode');
  await expect(inbox.close()).rejects.toThrow('the database is down');
  expect([attached, store.listeners]).toEqual([0, 0]);
  // The broker may have another.
  store.down.clear();
  const next = new Inbox({ broker, store });
  onTestFinished(() => next.close());
  await next.start();
});

test('one whose store fails at the start hears nothing, however often it is tried', async () => {
  const store = new BrokenStore();
  const inbox = new Inbox({ broker: makeBroker(), store });
  store.down.add('head');
  for (let i = 0; i < 3; i++) await expect(inbox.start()).rejects.toThrow('the database is down');
  expect(store.listeners).toBe(0);
  store.down.clear();
  await inbox.start();
  expect(store.listeners).toBe(1);
  await inbox.close();
  expect(store.listeners).toBe(0);
});

test('a change that comes after the broker was closed is stored, and waits for no other node', async () => {
  const hub = new SharedHub();
  const [one, other] = [makeBroker({ bus: hub.port() }), makeBroker({ bus: hub.port() })];
  const inbox = new Inbox({ broker: one, store: new MemoryStore() });
  onTestFinished(() => inbox.close());
  await other.start();
  await inbox.start();
  await one.start();
  await one.close();
  expect(await inbox.subscribe('anna', 'team')).toBe(true);
  expect(await inbox.subscriptions('anna')).toEqual([{ group: 'team' }]);
});
