/**
 * What the inbox costs: its stores, and the class over them.
 *
 *     node bench/inbox.mjs                 all
 *     node bench/inbox.mjs sends [rows]    storing a turn's messages, beside one bare insert of the same rows by the same driver
 *     node bench/inbox.mjs connect [n]     the 100 pending of one user among n stored messages, SQLite (default 1 000 000)
 *     node bench/inbox.mjs online [rows]   a turn's Inbox.sendToUser to users who are online, beside the same insert
 *     node bench/inbox.mjs arrive [n]      a stream opened to a user with 100 pending among n, until the last of them is written
 *     node bench/inbox.mjs unread [n]      counting unread ones, of 100 and of n, to a user, a group and everybody, SQLite
 *
 * A turn is waited for before the next. CPU is that of this process: the servers' is in the wall time only.
 *
 * The stores are bundled from the sources. Servers: POSTGRES_URL, MYSQL_URL; one that is not there is left out, and said so.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import Database from 'libsql';
import { createPool } from 'mysql2/promise';
import pg from 'pg';
import { build } from 'tsup';
import { median } from './driver/statistics.mjs';

const outDir = fileURLToPath(new URL('../node_modules/.cache/bench-inbox/', import.meta.url));
const source = fileURLToPath(new URL('../src/inbox/', import.meta.url));
await build({
  config: false,
  entry: {
    store: `${source}sql-store.ts`,
    message: `${source}sql-message.ts`,
    inbox: `${source}inbox.ts`,
    broker: `${source}../core/broker.ts`,
  },
  outDir,
  format: 'esm',
  outExtension: () => ({ js: '.mjs' }),
  target: 'node20',
  splitting: true,
  silent: true,
});
const { SqlStore } = await import(pathToFileURL(`${outDir}store.mjs`).href);
const { Inbox } = await import(pathToFileURL(`${outDir}inbox.mjs`).href);
const { Broker } = await import(pathToFileURL(`${outDir}broker.mjs`).href);
const { messageColumns } = await import(pathToFileURL(`${outDir}message.mjs`).href);

/** Takes everything at once. */
class Taker {
  bytes = 0;
  onWrite = () => {};
  open(owner) {
    this.owner = owner;
  }
  write(encoded) {
    // As a socket's sink takes what has one recipient.
    this.bytes += (encoded.chunkText ?? encoded.chunk).length;
    this.onWrite(encoded);
    return true;
  }
  end() {}
  destroy() {}
  progress() {
    return 0;
  }
}

/** Counted, after two that warm up. */
const ROUNDS = 9;
const folder = mkdtempSync(path.join(os.tmpdir(), 'bench-inbox-'));
let ids = 0;
const questions = { sends, online, connect, arrive, unread };
const [question, amount] = process.argv.slice(2);
try {
  for (const [name, ask] of Object.entries(questions)) {
    if (question === undefined || question === name) await ask(Number(amount ?? 0));
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function openSqlite(name) {
  const database = new Database(path.join(folder, name));
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
  return database;
}

function message(receiver, more = {}) {
  const text = `${ids++}`.padStart(12, '0');
  return {
    eventId: `0192f3c4-5b6d-7e8f-9a0b-${text}`,
    receiver,
    event: 'order.paid',
    data: JSON.stringify({ order: text, text: 'x'.repeat(150) }),
    json: true,
    priority: 0,
    status: 'sent',
    expiresAt: 0,
    createdAt: Date.now(),
    ...more,
  };
}
function toUser(name) {
  return { type: 'user', name, tenantId: '' };
}

/** Databases that can be reached: their stores, and the bare insert of rows into equal tables. */
async function databases() {
  const found = [];
  const prefix = `b${process.pid}_`;
  const columns = Object.entries(messageColumns);
  const head = `INSERT INTO ${prefix}raw_message (${columns.map(([name]) => name).join(', ')}) VALUES `;
  const add = async (name, options, run, exec, end) => {
    try {
      const store = new SqlStore({ ...options, prefix });
      await store.start();
      await new SqlStore({ ...options, prefix: `${prefix}raw_` }).start();
      let position = 0;
      const insert = (messages) => {
        const parameters = [];
        for (const one of messages) {
          const row = { message: one, position: ++position, node: 'node-1' };
          for (const [, value] of columns) parameters.push(value(row));
        }
        return run(head, columns.length, messages.length, parameters);
      };
      const dispose = async () => {
        const t = ['message', 'outbox', 'lane', 'dead', 'read', 'cursor', 'reader', 'subscription', 'device', 'node'];
        for (const table of [...t, 'relay', 'sequence', 'migration']) {
          for (const p of [prefix, `${prefix}raw_`]) await exec(`DROP TABLE ${p}${table}`);
        }
        await end();
      };
      found.push({ name, store, insert, dispose });
    } catch (error) {
      console.log(`${name}: left out, ${error.message}`);
      await end();
    }
  };
  const marks = (width, count) =>
    Array(count)
      .fill(`(${Array(width).fill('?').join(', ')})`)
      .join(', ');
  const sqlite = openSqlite('sends.db');
  const prepared = new Map();
  await add(
    'SQLite (libsql)',
    { dialect: 'sqlite', database: sqlite },
    (sql, width, count, parameters) => {
      let statement = prepared.get(count);
      statement ??= sqlite.prepare(sql + marks(width, count));
      prepared.set(count, statement);
      sqlite.exec('BEGIN IMMEDIATE');
      statement.run(...parameters);
      sqlite.exec('COMMIT');
    },
    (sql) => sqlite.exec(sql),
    () => sqlite.close(),
  );
  const pool = new pg.Pool({ connectionString: process.env.POSTGRES_URL ?? 'postgres://postgres@127.0.0.1:5432/test' });
  await add(
    'PostgreSQL (pg)',
    { dialect: 'postgres', pool },
    (sql, width, count, parameters) => {
      let n = 0;
      return pool.query(sql + marks(width, count).replace(/\?/g, () => `$${++n}`), parameters);
    },
    (sql) => pool.query(sql),
    () => pool.end(),
  );
  const mysql = createPool(process.env.MYSQL_URL ?? 'mysql://root@127.0.0.1:3306/test');
  await add(
    'MariaDB (mysql2)',
    { dialect: 'mysql', pool: mysql },
    (sql, width, count, parameters) => mysql.query(sql + marks(width, count), parameters),
    (sql) => mysql.query(sql),
    () => mysql.end(),
  );
  return found;
}

async function timed(work) {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await work();
  const { user, system } = process.cpuUsage(cpu);
  return { wall: (performance.now() - start) * 1_000, cpu: user + system };
}

/** Rounds of `ours` and of the bare insert in turn, so that what the machine does meanwhile meets both. */
async function beside(perTurn, perRound, make, ours, bare) {
  const count = Math.min(perRound, perTurn * 200);
  const round = async (write) => {
    const batches = Array.from({ length: count / perTurn }, () => Array.from({ length: perTurn }, make));
    const { wall, cpu } = await timed(async () => {
      for (const batch of batches) await write(batch);
    });
    return { wall: wall / count, cpu: cpu / count };
  };
  const rounds = [];
  for (let i = 0; i < ROUNDS + 2; i++) {
    const first = await round(i % 2 === 0 ? ours : bare);
    const second = await round(i % 2 === 0 ? bare : ours);
    // The first two warm up.
    if (i >= 2) rounds.push(i % 2 === 0 ? { ours: first, bare: second } : { ours: second, bare: first });
  }
  const figures = { 'per turn': perTurn };
  for (const what of ['wall', 'cpu']) {
    const of = (who) => median(rounds.map((one) => one[who][what])).toFixed(1);
    const label = what === 'cpu' ? 'CPU' : what;
    figures[`${label} µs`] = `${of('ours')} / ${of('bare')}`;
    figures[`${label} ratio`] = Number(median(rounds.map(({ ours, bare }) => ours[what] / bare[what])).toFixed(2));
  }
  // What is done every few seconds is in few of the rounds, which a median passes over.
  const sum = (who) => rounds.reduce((total, one) => total + one[who].cpu, 0);
  figures['CPU in all'] = Number((sum('ours') / sum('bare')).toFixed(2));
  return figures;
}

async function sends(rows) {
  const perRound = rows || 3_200;
  const table = [];
  for (const { name, store, insert, dispose } of await databases()) {
    await store.renewNode('node-1', 0, Date.now() + 1e9);
    for (const perTurn of [64, 16, 1]) {
      const make = () => message(toUser(`user-${Math.floor(Math.random() * 10_000)}`));
      table.push({
        database: name,
        ...(await beside(perTurn, perRound, make, (batch) => store.append(batch, 'node-1'), insert)),
      });
    }
    await store.close();
    await dispose();
  }
  console.log(`\nstoring messages to users, µs each, ours / bare insert (medians of ${ROUNDS} interleaved rounds)`);
  console.table(table);
}

function percentiles(times) {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (p) => Number(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))].toFixed(3));
  return { 'p50 ms': at(0.5), 'p99 ms': at(0.99), 'max ms': Number(sorted.at(-1).toFixed(3)) };
}

async function measure(times, work) {
  const took = [];
  for (let i = 0; i < times; i++) {
    const start = performance.now();
    await work(i);
    took.push(performance.now() - start);
  }
  return percentiles(took);
}

async function fill(store, count, receiverOf) {
  const size = 1_024;
  for (let done = 0; done < count; done += size) {
    const batch = Array.from({ length: Math.min(size, count - done) }, (_, i) => message(...receiverOf(done + i)));
    await store.append(batch, 'node-1');
  }
}

async function connect(count) {
  const total = count || 1_000_000;
  const users = Math.ceil(total / 100);
  const store = new SqlStore({ dialect: 'sqlite', database: openSqlite('connect.db') });
  await store.start();
  await fill(store, total, (i) => [toUser(`user-${i % users}`), { priority: i % 3 }]);
  const reader = (i) => ({ userId: `user-${(i * 7919) % users}`, tenants: [''] });
  const now = Date.now();
  const through = await store.head();
  const table = [];
  const list = (i) => store.backlog({ reader: reader(i), from: 0, through, limit: 100, now });
  if ((await list(1)).length !== 100) throw new Error('a user has not 100 pending');
  table.push({ what: 'backlog(100)', ...(await measure(2_000, list)) });
  const pending = (i) => store.pending({ reader: reader(i), after: 0, limit: 100, now });
  table.push({ what: 'pending(100)', ...(await measure(2_000, pending)) });
  table.push({ what: 'unreadCount', ...(await measure(2_000, (i) => store.unreadCount(reader(i), now))) });
  console.log(`\none user's 100 pending of ${total.toLocaleString('en')} stored messages, SQLite`);
  console.table(table);
}

async function online(rows) {
  const perRound = rows || 3_200;
  const users = Array.from({ length: 1_000 }, (_, i) => `user-${i}`);
  const table = [];
  for (const { name, store, insert, dispose } of await databases()) {
    // Without the counter: counting is a read of its own for each user who got something.
    const broker = new Broker({ heartbeatInterval: 0, clientTimeout: 0 });
    const inbox = new Inbox({ broker, store, unreadEvent: false, cleanupInterval: 0 });
    await inbox.start();
    for (const userId of users) broker.connect({ sink: new Taker(), identity: { userId } });
    const send = (batch) => Promise.all(batch.map((one) => inbox.sendToUser(one.receiver.name, one.event, one.data)));
    for (const perTurn of [64, 16, 1]) {
      const make = () => message(toUser(users[Math.floor(Math.random() * users.length)]));
      table.push({ database: name, ...(await beside(perTurn, perRound, make, send, insert)) });
    }
    await inbox.close();
    await broker.close({ timeoutMs: 100 });
    await store.close();
    await dispose();
  }
  console.log(
    `\nInbox.sendToUser to 1 000 users who are online, µs each, ours / bare insert (medians of ${ROUNDS} interleaved rounds)`,
  );
  console.table(table);
}

async function arrive(count) {
  const total = count || 1_000_000;
  const users = Math.ceil(total / 100);
  const store = new SqlStore({ dialect: 'sqlite', database: openSqlite('arrive.db') });
  await store.start();
  await fill(store, total, (i) => [toUser(`user-${i % users}`), { priority: i % 3 }]);
  const broker = new Broker({ heartbeatInterval: 0, clientTimeout: 0 });
  const inbox = new Inbox({ broker, store, cleanupInterval: 0 });
  // What the filling node has not said to be published goes out once more when the inbox starts; that is not the question.
  await store.renewNode('node-1', total, Date.now() + 1e9);
  await inbox.start();
  const one = (i) =>
    new Promise((resolve) => {
      const sink = new Taker();
      let events = 0;
      sink.onWrite = (encoded) => {
        events += encoded.count;
        if (events === 100) resolve(sink);
      };
      broker.connect({ sink, identity: { userId: `user-${(i * 7919) % users}` } });
    });
  const sinks = [];
  const took = await measure(2_000, async (i) => sinks.push(await one(i)));
  console.log(`\na stream with the 100 pending of one user of ${total.toLocaleString('en')} stored messages, SQLite`);
  console.table([{ what: 'connect until the last is written', ...took }]);
  for (const sink of sinks) sink.owner.closed();
  await inbox.close();
  await broker.close({ timeoutMs: 100 });
}

async function unread(count) {
  const table = [];
  const now = Date.now();
  for (const total of [100, count || 1_000_000]) {
    for (const [what, receiverOf] of [
      ['to the user', () => [toUser('anna')]],
      ['to a group', () => [{ type: 'group', name: 'team', tenantId: '' }]],
      ['to everybody', () => [{ type: 'everybody', name: '', tenantId: '' }]],
      ['to a group, with a ttl', () => [{ type: 'group', name: 'team', tenantId: '' }, { expiresAt: now + 1e9 }]],
    ]) {
      const store = new SqlStore({ dialect: 'sqlite', database: openSqlite(`unread-${total}-${table.length}.db`) });
      await store.start();
      await store.subscribe('anna', '', 'team', undefined);
      await fill(store, total, receiverOf);
      const reader = { userId: 'anna', tenants: [''] };
      if ((await store.unreadCount(reader, now)) !== total) throw new Error(`the count of ${total} ${what} is wrong`);
      table.push({ what, messages: total, ...(await measure(5_000, () => store.unreadCount(reader, now))) });
    }
  }
  console.log('\nunreadCount, SQLite');
  console.table(table);
}
