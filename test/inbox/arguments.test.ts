/** What is called with rubbish says so, by an error of ours that names it; nothing is read past. */
import { expect, onTestFinished, test } from 'vitest';
import { Inbox, type InboxReceiver, MemoryStore } from '../../src/inbox/index.js';
import { makeBroker } from '../support/broker.js';

const RUBBISH: readonly unknown[] = [
  null,
  0,
  7,
  'acme',
  true,
  [],
  ['x'],
  {},
  { tenant: 'acme' },
  () => {},
  Symbol('s'),
];

function makeInbox() {
  const store = new MemoryStore();
  const inbox = new Inbox({ broker: makeBroker(), store });
  onTestFinished(() => inbox.close());
  return { inbox, store };
}

/** Settles to the code of ours, or to what else came of it. */
async function codeOf(call: () => Promise<unknown>): Promise<string> {
  try {
    await call();
    return 'resolved';
  } catch (error) {
    return String((error as { code?: unknown }).code ?? error);
  }
}

test('options that are none, or none of those known, are refused by every method', async () => {
  const { inbox } = makeInbox();
  const calls: Record<string, (options: never) => Promise<unknown>> = {
    sendToUser: (options) => inbox.sendToUser('anna', 'note', 1, options),
    broadcast: (options) => inbox.broadcast('note', 1, options),
    pending: (options) => inbox.pending('anna', options),
    markRead: (options) => inbox.markRead('anna', 'all', options),
    unreadCount: (options) => inbox.unreadCount('anna', options),
    isOnline: (options) => inbox.isOnline('anna', options),
    subscribe: (options) => inbox.subscribe('anna', 'team', undefined, options),
    unsubscribe: (options) => inbox.unsubscribe('anna', 'team', options),
    subscriptions: (options) => inbox.subscriptions('anna', options),
  };
  for (const [name, call] of Object.entries(calls)) {
    // A tenant beside its object would be none: what is asked is another tenant's, or everybody's.
    for (const options of [null, 'acme', 7, true, ['acme'], { tenant: 'acme' }, { tenantid: 'acme' }]) {
      expect(await codeOf(() => call(options as never)), `${name}(${JSON.stringify(options)})`).toBe(
        'SSE_ERR_INVALID_OPTION',
      );
    }
    for (const tenantId of [null, '', 7, 'a\0b', '\ud800', 'x'.repeat(257), {}]) {
      expect(await codeOf(() => call({ tenantId } as never)), `${name} in ${String(tenantId)}`).toBe(
        'SSE_ERR_INVALID_TENANT',
      );
    }
  }
});

test('whatever is given for anything, an error of ours comes of it', async () => {
  const { inbox, store } = makeInbox();
  const known = /^(SSE_ERR_[A-Z_]+|resolved)$/;
  for (const rubbish of RUBBISH as never[]) {
    const calls = [
      () => inbox.sendToUser(rubbish, 'note', 1),
      () => inbox.sendToUser('anna', rubbish, 1),
      () => inbox.sendToGroup(rubbish, 'note', 1),
      ...(['priority', 'ttl', 'dedupKey', 'persist', 'tenantId'] as const).map(
        (name) => () => inbox.sendToUser('anna', 'note', 1, { [name]: rubbish }),
      ),
      () => inbox.pending(rubbish),
      () => inbox.pending('anna', { after: rubbish }),
      () => inbox.pending('anna', { limit: rubbish }),
      () => inbox.markRead('anna', rubbish),
      () => inbox.markRead('anna', [rubbish]),
      () => inbox.markRead('anna', { upTo: rubbish }),
      () => inbox.subscribe('anna', rubbish),
      () => inbox.subscribe('anna', 'team', rubbish),
      () => inbox.subscribe('anna', 'team', [rubbish]),
      () => inbox.unsubscribe('anna', rubbish),
      () => inbox.isOnline(rubbish),
      () => inbox.enqueue(rubbish, { userId: 'anna' }, 'note', 1),
      () => inbox.enqueue(store.begin(), rubbish, 'note', 1),
    ];
    for (const call of calls) expect(await codeOf(call), `${String(call)} of ${String(rubbish)}`).toMatch(known);
  }
  for (const ttl of [-1, Number.NaN, Number.POSITIVE_INFINITY, 1e300, '5']) {
    expect(await codeOf(() => inbox.sendToUser('anna', 'note', 1, { ttl: ttl as number }))).toBe(
      'SSE_ERR_INVALID_OPTION',
    );
  }
});

test('a receiver is one, and what is enqueued is kept', async () => {
  const { inbox, store } = makeInbox();
  const receivers = [
    { userId: 'anna', group: 'team' },
    { userId: 'anna', everybody: true },
    { everybody: false },
    { users: ['anna'] },
  ] as unknown as InboxReceiver[];
  for (const receiver of receivers) {
    expect(await codeOf(() => inbox.enqueue(store.begin(), receiver, 'note', 1)), JSON.stringify(receiver)).toBe(
      'SSE_ERR_INVALID_OPTION',
    );
  }
  const options = { persist: false } as object;
  expect(await codeOf(() => inbox.enqueue(store.begin(), { userId: 'anna' }, 'note', 1, options))).toBe(
    'SSE_ERR_INVALID_OPTION',
  );
});
