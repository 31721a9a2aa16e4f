/** What SqliteBus keeps, forgets, and remembers of what it forgot, also over restarts. */
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { SqliteBus } from '../../src/buses/sqlite.js';
import { ManualClock } from '../../src/testing/index.js';
import { until } from '../support/until.js';
import { testDrivers } from './sqlite-drivers.js';
import { event, folderOfTest, historyWith, read, started } from './sqlite-history.js';

const [libsql] = await testDrivers();

describe('many channel keys', () => {
  /** Runs SQL over a closed history. */
  async function changed<Row>(file: string, sql: string, query: string): Promise<Row> {
    const db = libsql!.open(file);
    db.exec(sql);
    const [row] = db.prepare(query).all() as [Row];
    db.close();
    return row;
  }
  const numbersTo = (count: number) =>
    `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count})`;

  test('no gap is told for a key that never had an event, after a restart, because many others have lost some', async () => {
    const file = path.join(folderOfTest(), 'history.db');
    const before = await started({ database: file });
    const start = before.head().id;
    await before.close();
    await changed(
      file,
      `INSERT INTO sse_keys ${numbersTo(120_000)} SELECT i, 't::' || i, i, 0 FROM n;
       INSERT INTO sse_events ${numbersTo(120_000)} SELECT 120000 + i, i, 'e', 'x', 0, 1, 0, 1, 100 FROM n;
       UPDATE sse_meta SET sequence = 240000;`,
      'SELECT 1',
    );
    const bus = await started({ database: file });
    expect((await read(bus, start, ['t::never'])).loss).toBeUndefined();
    expect((await read(bus, start, ['t::1'])).loss).toBe('evicted');
  });

  test('keys that come and go are not counted again each time: none is forgotten before its time', async () => {
    const clock = new ManualClock();
    const file = path.join(folderOfTest(), 'history.db');
    await historyWith(0, file);
    await changed(
      file,
      `INSERT INTO sse_keys ${numbersTo(100_000)} SELECT i, 't::' || i, i, 1 FROM n;
       UPDATE sse_meta SET sequence = 100000;`,
      'SELECT 1',
    );
    const bus = await started({ database: file, historyTtl: 60_000, clock });
    await Promise.all(Array.from({ length: 10 }, (_, i) => bus.publish(event('again', `t::${i + 1}`))));
    await until(() => {
      clock.advance(70_000);
      return bus.status().details?.historyEvents === 0;
    });
    clock.advance(70_000);
    await bus.close();
    const row = await changed(file, '', 'SELECT forgotten, (SELECT count(*) FROM sse_keys) AS keys FROM sse_meta');
    expect(row).toEqual({ forgotten: 0, keys: 100_000 });
  });
});

describe('retention', () => {
  /** Lets the clock run until nothing is left to clean. */
  async function cleaned(bus: SqliteBus, clock: ManualClock): Promise<void> {
    await until(() => {
      clock.advance(50);
      return clock.timers === 0 || bus.status().details?.cleaningEvents === 0;
    });
    clock.advance(50);
  }
  const rowsOf = (file: string) => {
    const db = libsql!.open(file);
    const [row] = db
      .prepare('SELECT count(*) AS events, (SELECT count(*) FROM sse_keys) AS keys FROM sse_events')
      .all();
    db.close();
    return row;
  };

  test('by count: what is dropped leaves the file', async () => {
    const clock = new ManualClock();
    const file = path.join(folderOfTest(), 'history.db');
    const bus = await started({ database: file, historySize: 10, clock });
    await Promise.all(Array.from({ length: 1_000 }, (_, i) => bus.publish(event(String(i), `t::${i % 3}`))));
    expect(bus.status().details).toMatchObject({ historyEvents: 30, historyKeys: 3, cleaningEvents: 970 });
    await cleaned(bus, clock);
    expect(clock.timers).toBe(0);
    await bus.close();
    expect(rowsOf(file)).toEqual({ events: 30, keys: 3 });
  });

  test('by bytes and by age: keys without events stay known, over a restart too', async () => {
    const clock = new ManualClock();
    const file = path.join(folderOfTest(), 'history.db');
    const options = { database: file, historyBytes: 100_000, historyTtl: 60_000, clock };
    let bus = await started(options);
    const start = bus.head().id;
    await bus.publish(event('quiet', 'u::quiet'));
    for (let i = 0; i < 300; i++) await bus.publish(event('x'.repeat(1_000)));
    await cleaned(bus, clock);
    expect(bus.status().details!.historyBytes).toBeLessThanOrEqual(100_000);
    expect(bus.status().details!.historyBytes).toBeGreaterThan(90_000);
    await bus.close();
    bus = await started(options);
    expect(bus.status().details!.historyBytes).toBeGreaterThan(90_000);
    expect(await read(bus, start, ['u::quiet'])).toMatchObject({ events: [], loss: 'evicted' });
    expect((await read(bus, start, ['u::other'])).loss).toBeUndefined();
    clock.advance(70_000);
    await cleaned(bus, clock);
    expect(bus.status().details).toMatchObject({ historyEvents: 0, historyBytes: 0, historyKeys: 0 });
    await bus.close();
    expect(rowsOf(file)).toEqual({ events: 0, keys: 2 });
  });

  test('a process that dies while it cleans, after it could not for a while, forgets no loss', async () => {
    const clock = new ManualClock();
    const database = libsql!.open(path.join(folderOfTest(), 'application.db'));
    onTestFinished(() => void database.close());
    let commits = Number.POSITIVE_INFINITY;
    const dying = {
      exec(sql: string) {
        if (commits === 0 && sql.startsWith('BEGIN')) throw new Error('disk I/O error');
        database.exec(sql);
        if (sql === 'COMMIT') commits--;
      },
      prepare: (sql: string) => database.prepare(sql),
      close: () => {},
    };
    const options = { historySize: 1, historyBytes: 5_000, clock };
    const bus = await started({ ...options, database: dying });
    const { id } = bus.head();
    await Promise.all(Array.from({ length: 200 }, (_, i) => bus.publish(event('x'.repeat(100), `t::${i}`))));
    await bus.publish(event('dropped'));
    commits = 0;
    clock.advance(50);
    expect(bus.status().state).toBe('down');
    commits = 2;
    await bus.publish(event('kept'));
    clock.advance(50);
    expect(commits).toBe(0);
    const next = await started({ ...options, database });
    const { events, loss } = await read(next, id);
    expect([events.map(({ data }) => data), loss]).toEqual([['kept'], 'evicted']);
  });

  test('a smaller historySize after a restart takes effect, and tells', async () => {
    const clock = new ManualClock();
    const file = path.join(folderOfTest(), 'history.db');
    const ids = await historyWith(100, file);
    const bus = await started({ database: file, historySize: 10, clock });
    expect(await read(bus, ids[0]!)).toMatchObject({ loss: 'evicted', completeAfter: ids[89] });
    expect((await read(bus, ids[89]!)).events).toHaveLength(10);
    await cleaned(bus, clock);
    await bus.close();
    expect(rowsOf(file)).toEqual({ events: 10, keys: 1 });
  });

  test('one step of cleaning takes a few ms, however much there is', async () => {
    const clock = new ManualClock();
    const bus = await started({ database: path.join(folderOfTest(), 'history.db'), historySize: 1, clock });
    await Promise.all(Array.from({ length: 20_000 }, (_, i) => bus.publish(event(String(i)))));
    const before = performance.now();
    clock.advance(50);
    const took = performance.now() - before;
    expect(bus.status().details!.cleaningEvents).toBeGreaterThan(0);
    expect(bus.status().details!.cleaningEvents).toBeLessThan(19_999);
    // Far below what deleting all of it takes; the machine may be busy.
    expect(took).toBeLessThan(100);
  });
});
