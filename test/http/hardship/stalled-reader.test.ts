/** Promise 3: a slow reader costs a bounded amount and nobody else notices. Measured in a process of its own. */
import { expect, test } from 'vitest';
import { startChild } from '../../support/child.js';
import { connectRaw } from '../../support/raw.js';
import { until } from '../../support/until.js';
import { firstWrong, SequenceReader } from './sequence-reader.js';
import type { FromServer, Memory } from './stalled-server.js';

const MIB = 1024 * 1024;
const TOTAL = 200 * MIB;
const WARM_UP = 20 * MIB;

/** What one stalled client may keep: its queue (1 MiB), one write under way, and room for what the others have in flight. */
const BOUND_AFTER = 6 * MIB;
/** What the process may grow by while 200 MiB go out: garbage that was not collected yet included, far below what was sent. */
const BOUND_PEAK = 128 * MIB;

type Account = Extract<FromServer, { after: Memory }>;

for (const overflow of ['disconnect', 'drop-oldest', 'drop-newest'] as const) {
  test(`one of three never reads while 200 MiB go out: ${overflow}`, { timeout: 60_000 }, async () => {
    const server = await startChild<FromServer>('test/http/hardship/stalled-server.ts', [overflow]);
    const { port } = (await server.next()) as { port: number };
    const healthy = await Promise.all(
      ['a', 'b'].map(async (name) => {
        const reader = new SequenceReader();
        const connection = await connectRaw(port, { paused: true });
        connection.socket.on('data', (bytes: Buffer) => reader.feed(bytes)).resume();
        connection.get(`/?user_id=${name}`);
        await until(() => reader.others.length > 0, 'connected');
        return reader;
      }),
    );
    const publish = async (from: number, total: number, clients: number) => {
      server.send({ from, total, clients });
      const account = (await server.next(30_000)) as Account;
      await until(
        () => healthy.every((reader) => reader.numbers.length === account.published),
        'the others to have it all',
      );
      return account;
    };
    // What publishing alone costs.
    const warm = await publish(0, WARM_UP, 2);

    const stalled = await connectRaw(port, { paused: true });
    stalled.get('/?user_id=stalled');
    const first = warm.published;
    const account = await publish(first, TOTAL, 3);
    expect(account.bytes).toBeGreaterThanOrEqual(TOTAL);

    const grown = {
      after: Math.round((account.after.buffers + account.after.heap - warm.after.buffers - warm.after.heap) / MIB),
      peak: Math.round((account.peak.rss - warm.peak.rss) / MIB),
    };
    console.log(`${overflow}: +${grown.after} MiB kept, +${grown.peak} MiB at most`);
    expect(account.after.buffers + account.after.heap).toBeLessThan(warm.after.buffers + warm.after.heap + BOUND_AFTER);
    expect(account.peak.rss).toBeLessThan(warm.peak.rss + BOUND_PEAK);
    expect(account.queuedBytes).toBeLessThanOrEqual(MIB);

    // The others: every event, once, in order, and nothing told that is not theirs.
    for (const { numbers, others, gaps } of healthy) {
      expect(firstWrong(numbers)).toBe(-1);
      expect(numbers).toHaveLength(account.published);
      expect(others).toHaveLength(1);
      expect(gaps).toEqual([]);
    }

    // The one: named once, with the cause.
    expect(account.overflowed).toHaveLength(1);
    expect(account.overflowed[0]).toMatch(new RegExp(`^stalled ${overflow} bytes `));
    const { stats } = account;
    const reader = new SequenceReader();
    stalled.socket.on('data', (bytes: Buffer) => reader.feed(bytes)).resume();

    if (overflow === 'disconnect') {
      expect(stats).toMatchObject({ totalClients: 2, ending: 0, queuedFrames: 0 });
      expect(stats.disconnects.overflow).toBe(1);
      expect(stats.dropped).toBeGreaterThan(0);
      await stalled.ended();
      // It was cut, not ended: what it has is a beginning without a hole.
      expect(reader.isComplete).toBe(false);
      expect(reader.numbers.length).toBeGreaterThan(0);
      expect(firstWrong(reader.numbers, first)).toBe(-1);
      return;
    }

    expect(stats).toMatchObject({ totalClients: 3, disconnects: { overflow: 0 } });
    await until(() => reader.gaps.length > 0, 'the gap to be told');
    const next = await publish(account.published, 1, 3);
    await until(() => reader.numbers.at(-1) === next.published - 1, 'the newest event');
    // Every hole is told where it is, with the ids around it, and what is missing is what was counted as dropped.
    let missing = 0;
    let at = 0;
    let expected = first;
    for (const gap of [...reader.gaps, { at: reader.numbers.length, data: undefined }]) {
      const whole = reader.numbers.slice(at, gap.at);
      expect(firstWrong(whole, expected)).toBe(-1);
      at = gap.at;
      if (gap.data === undefined) break;
      const after = reader.numbers[at]!;
      missing += after - (expected + whole.length);
      expected = after;
      expect(gap.data.reason).toBe('overflow');
      expect(gap.data.requested).toBe(reader.ids[at - 1]);
      expect(sequenceOf(gap.data.resumedFrom)).toBe(sequenceOf(reader.ids[at]!) - 1);
    }
    expect(missing).toBe(next.stats.dropped);
    expect(missing).toBeGreaterThan(account.published / 2);
    const inQueue = reader.numbers.length - reader.gaps[0]!.at;
    if (overflow === 'drop-oldest') {
      // The newest are there: one hole, and then as much as the queue holds.
      expect(reader.gaps).toHaveLength(1);
      expect(inQueue).toBeGreaterThan(10);
    } else {
      // The oldest are there, then what was small enough to fit beside them.
      expect(inQueue).toBeLessThan(2 * reader.gaps.length + 20);
    }
  });
}

/** Ids of the memory bus end in the place of the event. */
const sequenceOf = (id: string): number => Number(/-(\d+)$/.exec(id)![1]);
