/** What an inbox knows of deliveries when it moves the cursors of devices, and says to the store so that it need not look. */
import { expect, onTestFinished, test } from 'vitest';
import { Deliveries } from '../../src/inbox/deliveries.js';
import { type AdvanceRequest, type DeviceMove, Inbox, MemoryStore } from '../../src/inbox/index.js';
import type { StreamMailbox } from '../../src/inbox/stream-mailbox.js';
import { Broker } from '../../src/index.js';
import { ManualClock } from '../support/manual-clock.js';
import { quiet } from '../support/shared-bus.js';
import { until } from '../support/until.js';
import { Device } from './device.js';

const GRACE = 1_000;

/** A store that keeps what it is told when cursors move. */
class Told extends MemoryStore {
  readonly moves: (DeviceMove & { readonly delivered: readonly number[] })[] = [];

  override async advance(moves: readonly DeviceMove[], request: AdvanceRequest): Promise<void> {
    const delivered = [...(request.delivered ?? [])].sort((a, b) => a - b);
    this.moves.push(...moves.map((move) => ({ ...move, delivered })));
    await super.advance(moves, request);
  }
}

function start(store: Told) {
  const clock = new ManualClock();
  const broker = new Broker({ clock, clientTimeout: 0, heartbeatInterval: 0, historySize: 100 });
  const inbox = new Inbox({ broker, store, deviceGrace: GRACE, cleanupInterval: 0 });
  onTestFinished(async () => {
    await inbox.close();
    await broker.close({ timeoutMs: 50 });
  });
  /** Grace times pass until the cursor of `device` is where it is to be. */
  const moved = (device: Device, position: number): Promise<unknown> =>
    until(async () => {
      await quiet();
      device.take();
      clock.advance(GRACE);
      await quiet();
      const reader = { userId: device.userId, tenants: [''] };
      return (await store.cursor(reader, device.name)) >= position;
    }, `the cursor to be at ${position}`);
  return { broker, inbox, moved };
}

test('what a stream got out of the store and live is known, each time from where the cursor was', async () => {
  const store = new Told();
  const { broker, inbox, moved } = start(store);
  await inbox.sendToUser('anna', 'note', 1);
  await inbox.sendToUser('ben', 'note', 2);
  await inbox.sendToUser('anna', 'note', 3);
  const phone = new Device('anna', undefined, 'phone');
  phone.connect(broker);
  await until(() => [...broker.getClients()].length === 1, 'the phone');
  await moved(phone, 3);
  expect(store.moves.at(-1)).toMatchObject({ device: 'phone', isListed: true, delivered: [1, 3] });
  await inbox.sendToUser('anna', 'note', 4);
  await inbox.broadcast('note', 5);
  await inbox.sendToUser('anna', 'note', 6);
  await moved(phone, 6);
  expect(store.moves.at(-1)).toMatchObject({ device: 'phone', isListed: true, delivered: [4, 6] });
  phone.cut(1);
});

test('what a client says that it has, got by another stream, is to be looked for', async () => {
  const store = new Told();
  const { broker, inbox, moved } = start(store);
  await inbox.start();
  const phone = new Device('anna', undefined, 'phone');
  phone.connect(broker);
  await until(() => [...broker.getClients()].length === 1, 'the phone');
  const id = await inbox.sendToUser('anna', 'note', 1);
  await inbox.broadcast('note', 2);
  await phone.has(2);
  phone.cut(1);
  phone.connect(broker);
  await moved(phone, 1);
  expect(store.moves[0]).toMatchObject({ device: 'phone', isListed: false });
  expect((await store.find(id))?.status).toBe('sent');
  // From there on it knows.
  await moved(phone, 2);
  await inbox.sendToUser('anna', 'note', 3);
  await moved(phone, 3);
  expect(store.moves.at(-1)).toMatchObject({ isListed: true, delivered: [3] });
  phone.cut(1);
});

const MANY = 256 * 1024;

test('with more than is kept in mind, stores look until the cursors are past it', () => {
  const deliveries = new Deliveries();
  const stream = { advanced: 0, knownAfter: 0, isClosed: false } as StreamMailbox;
  const isListed = (): boolean | undefined => deliveries.moveOf({ stream, position: 1 }).isListed;
  for (let position = 1; position <= MANY; position++) deliveries.add(stream, position);
  expect(isListed()).toBe(true);
  expect(deliveries.byStream().get(stream)).toHaveLength(MANY);
  deliveries.add(stream, MANY + 1);
  expect(isListed()).toBe(false);
  stream.advanced = MANY - 1;
  expect(isListed()).toBe(false);
  stream.advanced = MANY;
  expect(isListed()).toBe(true);
  expect(deliveries.byStream().get(stream)).toEqual([MANY + 1]);
});

test('streams that are over take no room', () => {
  const deliveries = new Deliveries();
  const stays = { advanced: 0, knownAfter: 0, isClosed: false } as StreamMailbox;
  deliveries.add(stays, 1);
  for (let position = 2; position <= 2 * MANY; position++) {
    deliveries.add({ advanced: 0, knownAfter: 0, isClosed: true } as StreamMailbox, position);
  }
  expect(deliveries.moveOf({ stream: stays, position: 1 }).isListed).toBe(true);
  expect([...deliveries.byStream()]).toEqual([[stays, [1]]]);
});

test('what cursors are past, and what streams got that are over, is forgotten', () => {
  const deliveries = new Deliveries();
  const [one, other] = [{ advanced: 0 } as StreamMailbox, { advanced: 0 } as StreamMailbox];
  for (const position of [5, 4, 6]) deliveries.add(one, position);
  deliveries.add(other, 5);
  one.advanced = 5;
  other.isClosed = true;
  expect([...deliveries.byStream()]).toEqual([[one, [6]]]);
});
