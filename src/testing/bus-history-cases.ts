/** Cases of the bus conformance suite: what is kept, served again, and told as lost. */
import assert from 'node:assert/strict';
import { A, type Add, assertGrowing, B, dataOf, numbers, QUIET, sequenceAfter } from './bus-case.js';
import { outgoing } from './bus-recorder.js';

export function addHistory(add: Add): void {
  add('read: gives what came after an id, of the asked keys, in order', {}, async (node) => {
    const ids: string[] = [];
    for (let i = 1; i <= 12; i++) ids.push(...(await node.publish([A, B, QUIET][i % 3]!, String(i))));
    const { events, more, loss } = await node.read([A, B], ids[3]!);
    assert.deepEqual(dataOf(events), ['6', '7', '9', '10', '12']);
    assert.deepEqual([more, loss], [false, undefined]);
    assertGrowing(events);
    assert.deepEqual(dataOf((await node.read([A], ids[11]!)).events), []);
  });

  add('read: an event is the same as when it was delivered', {}, async (node) => {
    const { id } = await node.bus.head();
    const texts = ['', 'nul \0', 'a\r\nb', '🎈', 'y'.repeat(100_000)];
    for (const data of texts)
      await node.bus.publish(outgoing(A, data, { json: data === '', expiresAt: 7, timestamp: 0.5 }));
    // A `ttl` of Number.MAX_SAFE_INTEGER, a timestamp in nanoseconds.
    await node.bus.publish(outgoing(A, 'far', { expiresAt: 2 ** 53 + 2, timestamp: 1.7e18 }));
    const live = await node.delivered(texts.length + 1);
    const { events } = await node.read([A], id);
    assert.deepEqual(
      events.map((event) => ({ ...event, frame: undefined })),
      live.map((event) => ({ ...event, frame: undefined })),
    );
  });

  add('read: with no keys, or keys that never had an event, there is nothing and nothing is lost', {}, async (node) => {
    const { id } = await node.bus.head();
    await node.publish(A, '1');
    for (const keys of [[], ['t::never']]) {
      const { events, more, loss } = await node.read(keys, id);
      assert.deepEqual([events, more, loss], [[], false, undefined]);
    }
  });

  add('read: pages of any size join to the whole, also while others publish', {}, async (node) => {
    const { id } = await node.bus.head();
    for (let i = 1; i <= 24; i++) await node.publish(i % 2 === 0 ? A : B, String(i));
    for (const limit of [1, 5, 8, 12, 24, 100]) {
      const { events, loss } = await node.readAll([A, B], id, limit);
      assert.deepEqual(dataOf(events), numbers(24), `limit ${limit}`);
      assert.equal(loss, undefined);
    }
    const exact = await node.read([A, B], id, { limit: 24 });
    assert.deepEqual([exact.events.length, exact.more], [24, false], 'nothing follows the last event');
  });

  add('read: beyond `max` only the newest are served, and that is told', {}, async (node) => {
    const { id } = await node.bus.head();
    await node.publish(A, ...numbers(10));
    const ids = node.events.map((event) => event.id);
    const all = await node.read([A], id, { max: 10 });
    assert.deepEqual([all.events.length, all.loss], [10, undefined], 'exactly `max` is no loss');
    const some = await node.read([A], id, { max: 4, limit: 3 });
    assert.deepEqual([dataOf(some.events), some.more, some.loss], [['7', '8', '9'], true, 'evicted']);
    assert.equal(await sequenceAfter(node, some), 7, 'nothing is missing after `completeAfter`');
    assert.deepEqual(dataOf((await node.read([A], ids[8]!)).events), ['10']);
  });

  add(
    'evicted: a loss is told exactly where an event of those keys was dropped',
    { historySize: 5 },
    async (node, bench) => {
      const { id: start } = await node.bus.head();
      await node.publish(QUIET, 'q');
      await node.publish(A, ...numbers(12));
      await node.delivered(13);
      await bench.settle();
      const ids = [start, ...node.of(A).map((event) => event.id)];
      for (let seen = 0; seen <= 12; seen++) {
        const { events, loss } = await node.read([A], ids[seen]!);
        // A bus may keep more than it was told to; what it serves and what it tells must agree.
        const expected = numbers(12 - seen, seen + 1);
        if (loss === undefined) assert.deepEqual(dataOf(events), expected, `after ${seen}`);
        else {
          assert.equal(loss, 'evicted');
          assert.ok(seen < 7, `nothing after ${seen} was dropped`);
          assert.deepEqual(
            dataOf(events),
            expected.slice(-events.length),
            'what is served is the newest, without holes',
          );
          assert.ok(events.length >= 5 && events.length < expected.length);
        }
        if (seen === 0) assert.equal(loss, 'evicted');
      }
      const quiet = await node.read([QUIET], start);
      assert.deepEqual([dataOf(quiet.events), quiet.loss], [['q'], undefined], 'a busy key evicts no quiet one');
      assert.equal((await node.read([QUIET, A], start)).loss, 'evicted');
    },
  );

  add('evicted: nothing is missing after `completeAfter`', { historySize: 5 }, async (node, bench) => {
    const { id } = await node.bus.head();
    for (let i = 1; i <= 20; i++) await node.publish(i % 2 === 0 ? A : B, String(i));
    await node.delivered(20);
    await bench.settle();
    const result = await node.read([A, B], id);
    assert.equal(result.loss, 'evicted');
    const from = await sequenceAfter(node, result);
    const complete = node.events.filter((event) => Number(event.data) >= from);
    assert.deepEqual(dataOf(result.events.filter((event) => Number(event.data) >= from)), dataOf(complete));
  });

  add('unknown: what no bus made is told as a loss, and breaks nothing', {}, async (node) => {
    const [id] = await node.publish(A, '1');
    const garbage = [
      '',
      ' ',
      '-',
      '0',
      'garbage',
      'x'.repeat(128),
      `${id}0000000`,
      `${id}-`,
      `x${id}`,
      '\0\r\n',
      '../..',
    ];
    for (const after of garbage) {
      const { events, loss, completeAfter, head } = await node.read([A], after);
      assert.ok(loss === 'unknown' || loss === 'epoch', `${JSON.stringify(after)} is told as a loss; got ${loss}`);
      assert.equal((await node.read([A], completeAfter ?? head.id)).loss, undefined);
      assertGrowing(events);
    }
  });

  add('two readers of one page get the same event objects', {}, async (node) => {
    const { id } = await node.bus.head();
    await node.publish(A, ...numbers(10));
    const [first, second] = [await node.read([A], id), await node.read([A], id)];
    // Encoded frames are kept with the event: a thousand clients that resume share them.
    for (const [i, event] of first.events.entries()) assert.equal(event, second.events[i]);
  });

  add('cut points: history up to the head and then live is everything, once', {}, async (node) => {
    const keys = [A, B];
    const { id: start } = await node.bus.head();
    let isPublishing = true;
    const published: Promise<string>[] = [];
    const publisher = (async () => {
      for (let i = 1; i <= 400; i++) {
        published.push(Promise.resolve(node.bus.publish(outgoing(keys[i % 2]!, String(i)))));
        if (i % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.all(published);
      isPublishing = false;
    })();
    const readers: { readonly seen: string[]; readonly head: number }[] = [];
    while (isPublishing) {
      const { events, loss, head } = await node.readAll(keys, start, 13);
      assert.equal(loss, undefined);
      readers.push({ seen: dataOf(events), head: head.sequence });
      await new Promise((resolve) => setImmediate(resolve));
    }
    await publisher;
    await node.delivered(400);
    assert.ok(readers.length > 1);
    for (const { seen, head } of readers) {
      const live = node.events.filter((event) => event.sequence > head);
      assert.deepEqual([...seen, ...dataOf(live)], numbers(400));
    }
  });
}

export function addNoHistory(add: Add): void {
  add(
    'disabled: without history a loss is told where something was published since',
    { historySize: 0 },
    async (node) => {
      const { id } = await node.bus.head();
      const nothing = await node.read([A, B], id);
      assert.deepEqual([nothing.events, nothing.loss], [[], undefined]);
      const [one] = await node.publish(A, '1');
      assert.equal((await node.read([A, B], id)).loss, 'disabled');
      assert.equal((await node.read([B], id)).loss, undefined);
      assert.equal((await node.read([A, B], one!)).loss, undefined);
    },
  );
}

export function addAges(add: Add): void {
  add(
    'age: an event is forgotten after `historyTtl`, not before',
    { historyTtl: 60_000 },
    async (node, { clock, settle }) => {
      const { id } = await node.bus.head();
      await node.publish(A, 'old');
      clock.advance(30_000);
      await node.publish(B, 'young');
      clock.advance(29_000);
      await settle();
      const before = await node.read([A, B], id);
      assert.deepEqual([dataOf(before.events), before.loss], [['old', 'young'], undefined]);
      clock.advance(2_000);
      await settle();
      // A bus may look only now and then.
      clock.advance(25_000);
      await settle();
      const after = await node.read([A, B], id);
      assert.deepEqual([dataOf(after.events), after.loss], [['young'], 'evicted']);
      const young = await node.read([B], id);
      assert.deepEqual(
        [dataOf(young.events), young.loss],
        [['young'], undefined],
        'no gap for a key that lost nothing',
      );
      clock.advance(120_000);
      await settle();
      assert.equal((await node.read([A], id)).loss, 'evicted', 'an emptied key is remembered');
      assert.equal((await node.read([A], node.of(A)[0]!.id)).loss, undefined);
    },
  );
}

export function addBytes(add: Add): void {
  add(
    'bytes: the oldest go first, whatever their key, and that is told',
    { historyBytes: 50_000 },
    async (node, { settle }) => {
      const { id } = await node.bus.head();
      await node.publish(QUIET, 'q');
      const big = 'x'.repeat(1_000);
      for (let i = 1; i <= 200; i++) await node.bus.publish(outgoing(i % 2 === 0 ? A : B, `${i} ${big}`));
      await node.delivered(201);
      await settle();
      const { events, loss } = await node.read([A, B], id);
      assert.equal(loss, 'evicted');
      assert.ok(events.length > 5 && events.length < 100, `${events.length} events of 1 kB in 50 kB`);
      assert.deepEqual(dataOf(events), dataOf(node.of(A, B).slice(-events.length)));
      const quiet = await node.read([QUIET], id);
      assert.deepEqual([quiet.events, quiet.loss], [[], 'evicted'], 'an emptied key is remembered');
      assert.equal((await node.read([QUIET], node.of(QUIET)[0]!.id)).loss, undefined);
      assert.equal((await node.read(['t::never'], id)).loss, undefined);
    },
  );
}

export function addExpired(add: Add, hasClock: boolean): void {
  const past = { expiresAt: 7 };

  add(
    'ttl: an event whose ttl had passed when it was dropped is no loss; one behind it is',
    { historySize: 5 },
    async (node, { settle }) => {
      const { id } = await node.bus.head();
      await node.bus.publish(outgoing(A, 'lasting'));
      const [last] = await node.publish(A, 'lasting too');
      for (const data of numbers(20)) await node.bus.publish(outgoing(A, data, past));
      await settle();
      assert.equal((await node.read([A], id)).loss, 'evicted', 'two that last were dropped too');
      assert.equal((await node.read([A], last!)).loss, undefined, 'of those behind them nobody wants any');
      await node.publish(A, ...numbers(6));
      await settle();
      assert.equal((await node.read([A], last!)).loss, 'evicted');
    },
  );

  add('ttl: events past it do not count for `max`', {}, async (node) => {
    const { id } = await node.bus.head();
    await node.publish(A, ...numbers(4));
    for (const data of numbers(6, 5)) await node.bus.publish(outgoing(A, data, past));
    const enough = await node.read([A], id, { max: 4 });
    assert.equal(enough.loss, undefined);
    assert.deepEqual(dataOf(enough.events.filter(({ expiresAt }) => expiresAt === 0)), numbers(4));
    const fewer = await node.read([A], id, { max: 3 });
    assert.equal(fewer.loss, 'evicted');
    assert.deepEqual(dataOf(fewer.events.filter(({ expiresAt }) => expiresAt === 0)), numbers(3, 2));
  });

  if (!hasClock) return;
  add(
    'ttl: an event dropped before its ttl had passed is a loss until then',
    { historySize: 2 },
    async (node, { clock, settle }) => {
      const { id } = await node.bus.head();
      for (const ttl of [90_000, 30_000, 60_000]) {
        await node.bus.publish(outgoing(A, String(ttl), { expiresAt: clock.now() + ttl }));
      }
      await node.publish(A, 'kept', 'kept too');
      await settle();
      const lossAfter = async (cursor: string) => (await node.read([A], cursor)).loss;
      const [first, second, third] = node.events.map((event) => event.id);
      assert.deepEqual(
        [await lossAfter(id), await lossAfter(first!), await lossAfter(second!), await lossAfter(third!)],
        ['evicted', 'evicted', 'evicted', undefined],
      );
      clock.advance(61_000);
      await settle();
      assert.deepEqual([await lossAfter(id), await lossAfter(first!)], ['evicted', undefined]);
      clock.advance(30_000);
      await settle();
      assert.equal(await lossAfter(id), undefined);
    },
  );
}

export function addDurable(add: Add): void {
  add('durable: after a restart the same ids lead on, without a gap', {}, async (node, { fixture, start }) => {
    const { id: empty } = await node.bus.head();
    const ids = await node.publish(A, ...numbers(5));
    const head = await node.bus.head();
    await node.bus.close();
    const again = await start(await fixture.reopen!(), A, B);
    assert.deepEqual(await again.bus.head(), head);
    const { events, loss } = await again.read([A], ids[1]!);
    assert.deepEqual([dataOf(events), loss], [['3', '4', '5'], undefined]);
    assert.deepEqual(
      events.map(({ id }) => id),
      ids.slice(2),
    );
    const next = await again.bus.publish(outgoing(A, '6', { expiresAt: 2 ** 53 + 2 }));
    assert.deepEqual(dataOf((await again.read([A], head.id)).events), ['6']);
    const [six] = await again.delivered(1);
    assert.ok(six!.sequence > head.sequence);
    await again.bus.close();
    const third = await start(await fixture.reopen!(), A);
    assert.deepEqual(dataOf((await third.readAll([A], empty, 2)).events), numbers(6));
    assert.equal((await third.read([A], next)).loss, undefined);
  });

  add('durable: what was dropped is told after a restart too, exactly', { historySize: 3 }, async (node, bench) => {
    const { id: start } = await node.bus.head();
    await node.publish(QUIET, 'q');
    const ids = await node.publish(A, ...numbers(9));
    await bench.settle();
    await node.bus.close();
    const again = await bench.start(await bench.fixture.reopen!());
    await bench.settle();
    assert.equal((await again.read([A], start)).loss, 'evicted');
    const kept = await again.read([A], ids[5]!);
    assert.deepEqual([dataOf(kept.events), kept.loss], [['7', '8', '9'], undefined]);
    const quiet = await again.read([QUIET], start);
    assert.deepEqual([dataOf(quiet.events), quiet.loss], [['q'], undefined]);
    assert.equal((await again.read(['t::never'], start)).loss, undefined);
  });
}
