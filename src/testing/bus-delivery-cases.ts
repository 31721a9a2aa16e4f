/** Cases of the bus conformance suite: what is delivered, in which order, to whom, and what happens when the carrier breaks. */
import assert from 'node:assert/strict';
import { EVENT_ID } from '../core/bus.js';
import { isSseError } from '../core/errors.js';
import { A, type Add, assertGrowing, B, dataOf, numbers, QUIET } from './bus-case.js';
import { outgoing } from './bus-recorder.js';

export function addDelivery(add: Add): void {
  add('order: events are delivered in the order of publishing, over all keys', {}, async (node) => {
    for (let i = 1; i <= 30; i++) await node.publish(i % 3 === 0 ? A : i % 3 === 1 ? B : QUIET, String(i));
    assert.deepEqual(dataOf(await node.delivered(30)), numbers(30));
    assertGrowing(node.events);
  });

  add('order: publishes that are not awaited keep the order of their calls', {}, async (node) => {
    const ids = await Promise.all(numbers(200).map((data) => node.bus.publish(outgoing(data > '5' ? A : B, data))));
    assert.deepEqual(dataOf(await node.delivered(200)), numbers(200));
    assert.deepEqual(
      node.events.map(({ id }) => id),
      ids,
      'each publish resolves with the id of its own event',
    );
  });

  add('once: an event is delivered once, to its publisher too', {}, async (node) => {
    await node.publish(A, ...numbers(10));
    await node.publish(B, 'end');
    await node.delivered(1, B);
    assert.deepEqual(node.dataOf(A), numbers(10));
  });

  add('ids match [A-Za-z0-9._~-]{1,128} and differ', {}, async (node) => {
    const ids = [...(await node.publish(A, ...numbers(20))), (await node.bus.head()).id];
    for (const id of ids) assert.match(id, EVENT_ID);
    assert.equal(new Set(ids.slice(0, 20)).size, 20);
  });

  add('an event arrives as it was published', {}, async (node) => {
    const texts = [
      '',
      ' ',
      'plain',
      'two\r\nlines\rthree\n',
      'nul \0 inside',
      'ünïcödé 🎈 \u2028',
      'x'.repeat(300_000),
    ];
    for (const data of texts) await node.bus.publish(outgoing(A, data));
    const more = { event: 'näme: 1', json: true, timestamp: 1_700_000_000_000.5, expiresAt: 1_800_000_000_001 };
    const id = await node.bus.publish(outgoing('t:ten%20ant:x:y z', '{"a":1}', more));
    await node.bus.join('t:ten%20ant:x:y z');
    await node.bus.publish(outgoing('t:ten%20ant:x:y z', '{"a":1}', more));
    const events = await node.delivered(texts.length, A);
    assert.deepEqual(dataOf(events), texts);
    const last = (await node.delivered(1, 't:ten%20ant:x:y z')).at(-1)!;
    const { event, data, json, timestamp, expiresAt, key, frame } = last;
    assert.deepEqual({ event, data, json, timestamp, expiresAt, key }, { ...outgoing(key, '{"a":1}', more) });
    assert.equal(frame, undefined, '`frame` is the broker’s to set');
    assert.notEqual(last.id, id);
  });

  add('interest: after join has returned no event of the key is missed', {}, async (node) => {
    for (let round = 0; round < 20; round++) {
      const key = `t::joined-${round}`;
      await node.bus.join(key);
      await node.publish(key, 'first');
      assert.deepEqual(dataOf(await node.delivered(1, key)), ['first']);
    }
  });

  add('interest: joining twice delivers once; leaving and joining again delivers again', {}, async (node) => {
    await node.bus.join(A);
    await node.publish(A, '1');
    await node.delivered(1, A);
    node.bus.leave(A);
    node.bus.leave('t::never-joined');
    await node.bus.join(A);
    await node.publish(A, '2');
    await node.publish(B, 'end');
    await node.delivered(1, B);
    assert.deepEqual(node.dataOf(A), ['1', '2']);
  });

  add('publishing from inside deliver keeps the order', {}, async (node) => {
    const published: Promise<string>[] = [];
    const deliver = node.deliver.bind(node);
    node.deliver = (event) => {
      deliver(event);
      if (event.data.length < 4) {
        published.push(Promise.resolve(node.bus.publish(outgoing(B, `${event.data}x`))));
      }
    };
    await node.publish(A, 'x');
    await node.delivered(3, B);
    await Promise.all(published);
    assertGrowing(node.events);
    assert.deepEqual(node.dataOf(B), ['xx', 'xxx', 'xxxx']);
  });

  add('head: is the newest event, and a cursor that misses nothing', {}, async (node) => {
    const empty = await node.bus.head();
    assert.match(empty.id, EVENT_ID);
    const nothing = await node.read([A], empty.id);
    assert.deepEqual([nothing.events, nothing.more, nothing.loss], [[], false, undefined]);
    await node.publish(A, '1', '2');
    const [, newest] = await node.delivered(2);
    const head = await node.bus.head();
    assert.equal(head.sequence, newest!.sequence);
    const after = await node.read([A], head.id);
    assert.deepEqual([after.events, after.more, after.loss], [[], false, undefined]);
    assert.equal((await node.read([A], newest!.id)).loss, undefined);
  });

  add('status: a started bus is up and has said so', {}, async (node) => {
    assert.equal(node.bus.status().state, 'up');
    await node.eventually(() => node.statuses.at(-1)?.state === 'up', 'status to be told');
    assert.equal(typeof node.bus.name, 'string');
  });
}

export function addLiveOnly(add: Add, historySize: number): void {
  add(
    `live only: what is for one client or between brokers is delivered in order, and then nowhere${historySize === 0 ? ', and no loss' : ''}`,
    { historySize },
    async (node) => {
      const { id } = await node.bus.head();
      const keys = ['c::one', 'n::', 'n::node'];
      for (const key of keys) await node.bus.join(key);
      for (let i = 1; i <= 9; i++) await node.publish(keys[i % 3]!, String(i));
      assert.deepEqual(dataOf(await node.delivered(9)), numbers(9));
      assertGrowing(node.events);
      const { events, more, loss, head } = await node.read([...keys, A], id);
      assert.deepEqual([events, more, loss], [[], false, undefined]);
      assert.equal(head.sequence, node.events.at(-1)!.sequence, 'they have their place in the one order');
      for (const key of keys) node.bus.leave(key);
      await node.publish('c::one', 'nobody');
      await node.publish(A, 'end');
      assert.equal((await node.read(keys, id)).loss, undefined);
    },
  );
}

export function addShared(add: Add, history: boolean): void {
  add('shared: every node sees the same order and each event once', {}, async (node, { fixture, start }) => {
    const other = await start(await fixture.another!(), A, B, QUIET);
    const publishing = numbers(100).map((data) => [
      node.bus.publish(outgoing(A, `n${data}`)),
      other.bus.publish(outgoing(B, `o${data}`)),
    ]);
    await Promise.all(publishing.flat());
    await node.delivered(200);
    await other.delivered(200);
    assert.deepEqual(
      node.events.map(({ id }) => id),
      other.events.map(({ id }) => id),
    );
    assertGrowing(node.events);
    assert.equal(new Set(dataOf(node.events)).size, 200);
    for (const [key, letter] of [
      [A, 'n'],
      [B, 'o'],
    ] as const) {
      assert.deepEqual(
        node.dataOf(key),
        numbers(100).map((data) => letter + data),
        'each publisher’s own order',
      );
    }
  });

  add(
    'shared: a node that has joined a key misses nothing that another publishes',
    {},
    async (node, { fixture, start }) => {
      const other = await start(await fixture.another!());
      for (let round = 0; round < 10; round++) {
        const key = `t::round-${round}`;
        await other.bus.join(key);
        await node.publish(key, 'first');
        assert.deepEqual(dataOf(await other.delivered(1, key)), ['first']);
      }
    },
  );

  add('shared: says so, and carries what brokers tell each other', {}, async (node, { fixture, start }) => {
    const other = await start(await fixture.another!(), 'n::', 'n::other');
    assert.equal(node.bus.isShared, true);
    await node.publish('n::', 'to all');
    await node.publish('n::other', 'to one');
    assert.deepEqual(dataOf(await other.delivered(2)), ['to all', 'to one']);
  });

  if (!history) return;
  add('shared: an id of one node is understood by the others', {}, async (node, { fixture, start }) => {
    const [id] = await node.publish(A, '1', '2');
    const other = await start(await fixture.another!());
    const { events, loss } = await other.read([A], id!);
    assert.deepEqual([dataOf(events), loss], [['2'], undefined]);
    assert.equal((await other.bus.head()).sequence, (await node.bus.head()).sequence);
  });
}

export function addBreaks(add: Add, history: boolean): void {
  add(
    'down: publishing rejects with a retryable error, the state says why, and it recovers',
    {},
    async (node, { fixture, clock }) => {
      const { id } = await node.bus.head();
      await node.publish(A, 'before');
      await fixture.breakCarrier!();
      await assert.rejects(
        // Large: a carrier that is nearly full must not squeeze it in.
        async () => node.bus.publish(outgoing(A, `during ${'x'.repeat(200_000)}`)),
        (error) => isSseError(error) && error.code === 'SSE_ERR_BUS_UNAVAILABLE' && error.retryable,
      );
      await node.eventually(() => node.statuses.at(-1)?.state === 'down', 'status down');
      assert.equal(node.bus.status().state, 'down');
      assert.ok(node.bus.status().reason, 'the reason is given');
      await fixture.mendCarrier!();
      await node.eventually(() => {
        clock.advance(1_000);
        return node.bus.status().state === 'up';
      }, 'the bus to recover by itself');
      assert.equal(node.statuses.at(-1)?.state, 'up');
      await node.publish(A, 'after');
      // What was rejected may have got through, or not; what was resolved has.
      await node.eventually(() => node.dataOf().includes('after'), '`after` to be delivered');
      const delivered = node.dataOf().filter((data) => !data.startsWith('during'));
      assert.deepEqual(delivered, ['before', 'after']);
      assertGrowing(node.events);
      if (!history) return;
      const { events, loss } = await node.read([A], id);
      assert.deepEqual([dataOf(events), loss], [dataOf(node.events), undefined]);
    },
  );
}

export function addClose(add: Add): void {
  add('close: may be called twice, and nothing is delivered after it', {}, async (node) => {
    const publishing = numbers(20).map(async (data) => node.bus.publish(outgoing(A, data)));
    await Promise.all([node.bus.close(), node.bus.close()]);
    const delivered = node.events.length;
    await node.bus.close();
    publishing.push((async () => node.bus.publish(outgoing(A, 'late')))());
    for (const result of await Promise.allSettled(publishing)) {
      if (result.status === 'rejected') assert.ok(isSseError(result.reason), String(result.reason));
    }
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(node.events.length, delivered);
    assert.ok(!node.dataOf().includes('late'));
  });
}
