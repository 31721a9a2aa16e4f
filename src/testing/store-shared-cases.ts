/** Cases of the store conformance suite: groups, the outbox, nodes that die, and several processes. */
import assert from 'node:assert/strict';
import { isSseError } from '../core/errors.js';
import {
  type AddStoreCase,
  ANNA,
  ANNA_AT_ACME,
  BEN,
  idsOf,
  message,
  NODE,
  NOW,
  toEverybody,
  toGroup,
  toUser,
  unreadOf,
} from './store-case.js';

export function addGroups(add: AddStoreCase): void {
  add('says when the first unread message expires', async ({ store }) => {
    assert.equal(await store.nextExpiry(ANNA, NOW), 0);
    await store.subscribe('anna', '', 'team', undefined);
    await store.append(
      [
        message('a', toUser('anna'), { expiresAt: NOW + 30 }),
        message('b', toGroup('team'), { expiresAt: NOW + 20 }),
        message('c', toEverybody(), { expiresAt: NOW + 10 }),
        message('d', toUser('ben'), { expiresAt: NOW + 5 }),
        message('e', toUser('anna')),
      ],
      NODE,
    );
    assert.equal(await store.nextExpiry(ANNA, NOW), NOW + 10);
    assert.equal(await store.nextExpiry(ANNA, NOW + 10), NOW + 20);
    assert.equal(await store.nextExpiry(ANNA, NOW + 20), NOW + 30);
    assert.equal(await store.nextExpiry(ANNA, NOW + 30), 0);
    await store.markRead(BEN, 'all', NOW);
    assert.equal(await store.nextExpiry(BEN, NOW), 0);
  });

  add('says what other nodes have still to publish', async ({ store }) => {
    await store.renewNode('other', 0, NOW + 1_000);
    await store.renewNode(NODE, 0, NOW + 1_000);
    assert.equal(await store.firstUnpublished(NODE), 0);
    const [own] = await store.append([message('a', toUser('anna'))], NODE);
    assert.equal(await store.firstUnpublished(NODE), 0);
    assert.equal(await store.firstUnpublished('other'), own!.position);
    const [first, second] = await store.append([message('b', toUser('anna')), message('c', toUser('anna'))], 'other');
    assert.equal(await store.firstUnpublished(NODE), first!.position);
    await store.renewNode('other', first!.position, NOW + 1_000);
    assert.equal(await store.firstUnpublished(NODE), second!.position);
    // Taken over, it is for the one who took it, until that says that it is out.
    assert.deepEqual(idsOf(await store.relay({ node: 'third', limit: 10, now: NOW + 2_000 })).sort(), ['a', 'c']);
    assert.equal(await store.firstUnpublished(NODE), own!.position);
    await store.relayed('third', [own!.position]);
    assert.equal(await store.firstUnpublished(NODE), second!.position);
    await store.relayed('third', [second!.position]);
    assert.equal(await store.firstUnpublished(NODE), 0);
  });

  add('shows a subscriber what came after subscribing, of the types subscribed to', async ({ store }) => {
    await store.append([message('early', toGroup('team'))], NODE);
    assert.equal(await store.subscribe('anna', '', 'team', undefined), true);
    assert.equal(await store.subscribe('ben', '', 'team', ['alarm', 'news', 'alarm']), true);
    await store.append(
      [
        message('note', toGroup('team')),
        message('alarm', toGroup('team'), { event: 'alarm' }),
        message('else', toGroup('others')),
      ],
      NODE,
    );
    assert.deepEqual(await unreadOf(store, ANNA), [['note', 'alarm'], 2]);
    assert.deepEqual(await unreadOf(store, BEN), [['alarm'], 1]);
    assert.equal(await store.markRead(ANNA, { eventIds: ['alarm', 'early'] }, NOW), 1);
    assert.deepEqual(await unreadOf(store, ANNA), [['note'], 1]);
    assert.deepEqual(await unreadOf(store, BEN), [['alarm'], 1]);
    const [subscription] = await store.subscriptions(BEN);
    assert.deepEqual(
      { ...subscription, since: 0 },
      { group: 'team', eventTypes: ['alarm', 'news'], tenantId: '', since: 0 },
    );
  });

  add('replaces a subscription without losing its beginning or what was read', async ({ store }) => {
    await store.subscribe('anna', '', 'team', ['alarm']);
    await store.append([message('note', toGroup('team')), message('alarm', toGroup('team'), { event: 'alarm' })], NODE);
    assert.equal(await store.markRead(ANNA, 'all', NOW), 1);
    assert.equal(await store.subscribe('anna', '', 'team', undefined), false);
    assert.deepEqual(await unreadOf(store, ANNA), [['note'], 1]);
    assert.equal(await store.subscribe('anna', '', 'team', ['news']), false);
    assert.deepEqual(await unreadOf(store, ANNA), [[], 0]);
    assert.equal((await store.subscriptions(ANNA)).length, 1);
  });

  add('ends a subscription with what was unread of it; a new one begins anew', async ({ store }) => {
    await store.subscribe('anna', '', 'team', undefined);
    await store.append([message('a', toGroup('team'))], NODE);
    assert.equal(await store.unsubscribe('anna', '', 'team'), true);
    assert.equal(await store.unsubscribe('anna', '', 'team'), false);
    assert.deepEqual(await unreadOf(store, ANNA), [[], 0]);
    await store.append([message('b', toGroup('team'))], NODE);
    assert.equal(await store.subscribe('anna', '', 'team', undefined), true);
    await store.append([message('c', toGroup('team'))], NODE);
    assert.deepEqual(await unreadOf(store, ANNA), [['c'], 1]);
  });

  add('gives the tenants of a subscriber their own messages and those without a tenant', async ({ store }) => {
    await store.subscribe('anna', 'acme', 'team', undefined);
    await store.subscribe('anna', 'other', 'team', undefined);
    await store.append(
      [
        message('none', toGroup('team')),
        message('acme', toGroup('team', 'acme')),
        message('x', toGroup('team', 'other')),
      ],
      NODE,
    );
    assert.deepEqual(await unreadOf(store, ANNA), [[], 0]);
    assert.deepEqual(await unreadOf(store, ANNA_AT_ACME), [['none', 'acme'], 2]);
    assert.equal(await store.markRead(ANNA_AT_ACME, { upTo: 'none' }, NOW), 1);
    const other = { userId: 'anna', tenants: ['', 'other'] };
    assert.deepEqual(await unreadOf(store, other), [['x'], 1]);
    assert.deepEqual(
      (await store.subscriptions(ANNA_AT_ACME)).map(({ tenantId }) => tenantId),
      ['acme'],
    );
  });

  add('adds up two subscriptions of one user to one group', async ({ store }) => {
    await store.subscribe('anna', '', 'team', ['alarm']);
    await store.append([message('a', toGroup('team'), { event: 'alarm' }), message('n', toGroup('team'))], NODE);
    await store.subscribe('anna', 'acme', 'team', undefined);
    await store.append(
      [message('b', toGroup('team', 'acme')), message('c', toGroup('team'), { event: 'alarm' })],
      NODE,
    );
    assert.deepEqual(await unreadOf(store, ANNA_AT_ACME), [['a', 'b', 'c'], 3]);
    assert.deepEqual(await unreadOf(store, ANNA), [['a', 'c'], 2]);
  });

  add('counts right for a group whose messages are read, expire and are cleaned up in any order', async ({ store }) => {
    await store.subscribe('anna', '', 'team', undefined);
    await store.subscribe('ben', '', 'team', undefined);
    const ids = Array.from({ length: 300 }, (_, i) => `m${i}`);
    const expiresAt = (i: number): number => (i % 3 === 0 ? NOW + 100 + ((i * 7) % 50) : 0);
    await store.append(
      ids.map((id, i) => message(id, toGroup('team'), { expiresAt: expiresAt(i), priority: i % 50 === 0 ? 2 : 0 })),
      NODE,
    );
    assert.equal(await store.markRead(ANNA, { eventIds: ids.filter((_, i) => i % 4 === 1) }, NOW), 75);
    for (const now of [NOW, NOW + 110, NOW + 125, NOW + 200]) {
      const [before, count] = await unreadOf(store, ANNA, now);
      assert.equal(count, before.length);
      for (let deleted = -1; deleted !== 0; ) {
        deleted = await store.cleanup({ now, readBefore: 0, createdBefore: 0, limit: 17 });
        assert.deepEqual(await unreadOf(store, ANNA, now), [before, count]);
        assert.equal(
          await store.unreadCount(BEN, now),
          ids.filter((_, i) => expiresAt(i) === 0 || expiresAt(i) > now).length,
        );
      }
    }
    assert.equal(await store.markRead(ANNA, { upTo: 'm200' }, NOW + 200), 100);
    assert.equal(await store.markRead(ANNA, 'all', NOW + 200), 50);
    assert.equal(await store.unreadCount(ANNA, NOW + 200), 0);
  });
}

export function addRelay(add: AddStoreCase): void {
  add('gives out what a dead node appended and did not publish, once', async ({ store }) => {
    await store.renewNode('dead', 0, NOW + 10);
    await store.renewNode('live', 0, NOW + 100);
    const [first] = await store.append([message('a', toUser('anna')), message('b', toGroup('team'))], 'dead');
    await store.append([message('c', toEverybody())], 'live');
    await store.renewNode('dead', first!.position, NOW + 10);
    await store.renewNode('dead', 0, NOW + 10);
    assert.deepEqual(await store.relay({ node: 'live', limit: 10, now: NOW + 9 }), []);
    const taken = await store.relay({ node: 'live', limit: 10, now: NOW + 10 });
    assert.deepEqual(idsOf(taken), ['b']);
    assert.deepEqual(await store.relay({ node: 'live', limit: 10, now: NOW + 10 }), []);
    await store.renewNode('third', 0, NOW + 1_000);
    assert.deepEqual(await store.relay({ node: 'third', limit: 10, now: NOW + 50 }), []);
    // The one that took it over dies as well: it said that it published 'c', but not what it took.
    await store.renewNode('live', await store.head(), NOW + 100);
    const again = await store.relay({ node: 'third', limit: 10, now: NOW + 100 });
    assert.deepEqual(again, taken);
    await store.relayed('third', [again[0]!.position, 999]);
    await store.renewNode('fourth', 0, NOW + 9_000);
    assert.deepEqual(await store.relay({ node: 'fourth', limit: 10, now: NOW + 5_000 }), []);
  });

  add('gives a node that ends to others, in steps, and forgets one that left nothing', async ({ store }) => {
    await store.renewNode('ends', 0, NOW + 1_000);
    await store.append(
      ['a', 'b', 'c'].map((id) => message(id, toUser('anna'))),
      'ends',
    );
    await store.renewNode('ends', 0, 0);
    await store.renewNode('heir', 0, NOW + 1_000);
    assert.deepEqual(idsOf(await store.relay({ node: 'heir', limit: 2, now: NOW })), ['a', 'b']);
    assert.deepEqual(idsOf(await store.relay({ node: 'heir', limit: 2, now: NOW })), ['c']);
    assert.deepEqual(idsOf(await store.relay({ node: 'heir', limit: 2, now: NOW })), []);
    // It comes back under its name, which was forgotten.
    await store.renewNode('ends', 0, NOW + 1_000);
    await store.append([message('d', toUser('anna'))], 'ends');
    await store.renewNode('ends', await store.head(), 0);
    assert.deepEqual(await store.relay({ node: 'heir', limit: 2, now: NOW }), []);
  });
}

export function addTransactions(add: AddStoreCase): void {
  add('shows what was enqueued after the commit and the relay, and nothing before', async ({ store, fixture }) => {
    await store.renewNode(NODE, 0, NOW + 1_000);
    const sent = [
      message('a', toUser('anna'), { dedupKey: 'k', data: "it's \u0000 😀", json: false }),
      message('b', toGroup('team')),
    ];
    await store.subscribe('ben', '', 'team', undefined);
    await fixture.transaction!(async (tx) => {
      await store.enqueue(tx, sent);
      await store.enqueue(tx, []);
    });
    assert.equal(await store.find('a'), undefined);
    assert.deepEqual(await unreadOf(store, ANNA), [[], 0]);
    const relayed = await store.relay({ node: NODE, limit: 10, now: NOW });
    assert.deepEqual(
      relayed.map(({ position: _, ...rest }) => rest),
      sent,
    );
    assert.deepEqual(await unreadOf(store, ANNA), [['a'], 1]);
    assert.deepEqual(await unreadOf(store, BEN), [['b'], 1]);
    assert.deepEqual(await store.relay({ node: NODE, limit: 10, now: NOW }), []);
  });

  add('keeps nothing of a transaction that rolled back', async ({ store, fixture }) => {
    const failed = fixture.transaction!(async (tx) => {
      await store.enqueue(tx, [message('a', toUser('anna'))]);
      throw new Error('rolled back on purpose');
    });
    await assert.rejects(failed, /on purpose/);
    assert.deepEqual(await store.relay({ node: NODE, limit: 10, now: NOW }), []);
    assert.equal(await store.head(), 0);
  });

  add('drops duplicates of what is there or was enqueued before', async ({ store, fixture }) => {
    await store.append([message('a', toUser('anna')), message('k', toUser('anna'), { dedupKey: 'k' })], NODE);
    await fixture.transaction!(async (tx) => {
      await store.enqueue(tx, [message('a', toUser('anna')), message('b', toUser('anna'))]);
      await store.enqueue(tx, [message('b', toUser('anna')), message('c', toUser('anna'), { dedupKey: 'k' })]);
    });
    assert.deepEqual(idsOf(await store.relay({ node: NODE, limit: 10, now: NOW })), ['b']);
    assert.deepEqual(await store.relay({ node: NODE, limit: 10, now: NOW }), []);
    assert.deepEqual(await unreadOf(store, ANNA), [['a', 'k', 'b'], 3]);
  });

  add(
    'gives what a relay took and did not publish to the next one, once its lease is over',
    async ({ store, fixture }) => {
      await store.renewNode('first', 0, NOW + 10);
      await fixture.transaction!((tx) =>
        store.enqueue(tx, [message('a', toUser('anna')), message('b', toUser('anna'))]),
      );
      const [a] = await store.relay({ node: 'first', limit: 10, now: NOW });
      await store.relayed('first', [a!.position]);
      await store.renewNode('second', 0, NOW + 1_000);
      assert.deepEqual(await store.relay({ node: 'second', limit: 10, now: NOW }), []);
      assert.deepEqual(idsOf(await store.relay({ node: 'second', limit: 10, now: NOW + 10 })), ['b']);
    },
  );

  add('refuses a transaction that is none', async ({ store }) => {
    for (const tx of [undefined, null, 'tx', {}, { query: 1 }]) {
      await assert.rejects(store.enqueue(tx, [message('a', toUser('anna'))]), (error) => {
        return isSseError(error) && error.code === 'SSE_ERR_INVALID_OPTION';
      });
    }
  });
}

export function addSharedStores(add: AddStoreCase): void {
  add('starts several times, at once and again, over the same data', async ({ store, another }) => {
    const others = await Promise.all([another(), another(), another()]);
    await store.start();
    await others[0]!.append([message('a', toUser('anna'))], NODE);
    for (const other of [store, ...others]) assert.deepEqual(await unreadOf(other, ANNA), [['a'], 1]);
  });

  add('never shows a position after a greater one was seen, while several append', async ({ store, another }) => {
    const writers = [store, await another(), await another()];
    const reader = await another();
    let isDone = false;
    const seen: string[] = [];
    const poll = async (): Promise<void> => {
      for (let after = 0, last = false; ; ) {
        const page = await reader.pending({ reader: ANNA, after, limit: 1_000, now: NOW });
        seen.push(...idsOf(page));
        after = page.at(-1)?.position ?? after;
        if (last && page.length === 0) return;
        last = isDone;
        // A store of this process would leave no turn for what writes by I/O.
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const polling = poll();
    const writing = writers.flatMap((writer, w) =>
      [0, 1].map(async (lane) => {
        for (let i = 0; i < 12; i++) {
          const size = 1 + ((i * 7 + w) % 5);
          const batch = Array.from({ length: size }, (_, k) =>
            message(`w${w}-${lane}-${i}-${k}`, k % 2 === 0 ? toUser('anna') : toEverybody()),
          );
          await writer.append(batch, `node-${w}`);
        }
      }),
    );
    await Promise.all(writing);
    isDone = true;
    await polling;
    const [all, count] = await unreadOf(store, ANNA);
    assert.deepEqual(seen, all);
    assert.equal(count, all.length);
    assert.equal(new Set(all).size, all.length);
  });

  add('counts right while several append, read and clean up', async ({ store, another }) => {
    const stores = [store, await another(), await another()];
    await store.subscribe('anna', '', 'team', undefined);
    await Promise.all(
      stores.map(async (own, s) => {
        for (let i = 0; i < 10; i++) {
          const id = (kind: string): string => `${kind}-${s}-${i}`;
          await own.append(
            [
              message(id('u'), toUser('anna')),
              message(id('x'), toUser('anna'), { expiresAt: NOW }),
              message(id('g'), toGroup('team')),
              message(id('y'), toGroup('team'), { expiresAt: NOW }),
            ],
            NODE,
          );
          await own.markRead(ANNA, i % 4 === 3 ? 'all' : { eventIds: [id('u'), `g-${s}-${i - 1}`] }, NOW);
          await own.cleanup({ now: NOW, readBefore: NOW + 1, createdBefore: 0, limit: 3 });
        }
      }),
    );
    for (const own of stores) {
      const [ids, count] = await unreadOf(own, ANNA);
      assert.equal(count, ids.length);
    }
    const left = await store.unreadCount(ANNA, NOW);
    assert.equal(await store.markRead(ANNA, 'all', NOW), left);
    assert.equal(await store.unreadCount(ANNA, NOW), 0);
  });

  add('gives what is to be relayed to one of several that ask at once', async ({ store, fixture, another }) => {
    const nodes = [store, await another(), await another()];
    for (const [i, own] of nodes.entries()) await own.renewNode(`node-${i}`, 0, NOW + 1_000);
    await store.renewNode('dead', 0, NOW);
    const dead = Array.from({ length: 40 }, (_, i) => `d${i}`);
    await store.append(
      dead.map((id) => message(id, toUser('anna'))),
      'dead',
    );
    const queued = fixture.transaction === undefined ? [] : Array.from({ length: 40 }, (_, i) => `q${i}`);
    await fixture.transaction?.((tx) =>
      store.enqueue(
        tx,
        queued.map((id) => message(id, toUser('anna'))),
      ),
    );
    const taken: string[] = [];
    await Promise.all(
      nodes.map(async (own, i) => {
        for (let empty = 0; empty < 2; ) {
          const some = await own.relay({ node: `node-${i}`, limit: 7, now: NOW });
          taken.push(...idsOf(some));
          if (some.length === 0) empty++;
        }
      }),
    );
    assert.deepEqual(taken.sort(), [...dead, ...queued].sort());
  });
}
