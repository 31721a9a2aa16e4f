/**
 * A server with an inbox that kills itself: told at which step, and at its which occurrence, it sends SIGKILL to itself there. Each
 * number whose send has resolved is in `log` by then.
 */
import fs from 'node:fs';
import http from 'node:http';
import Libsql from 'libsql';
import { SqliteBus } from '../../src/buses/sqlite.js';
import { Inbox } from '../../src/inbox/inbox.js';
import { SqlStore } from '../../src/inbox/sql-store.js';
import type { SqliteHandle } from '../../src/inbox/sqlite-connection.js';
import { Broker, createHandler, type OutgoingEvent } from '../../src/index.js';
import type { KillOrder } from './kill-order.js';

process.once('message', async ({ store: file, history, log, first, step, occurrence }: KillOrder) => {
  let left = occurrence;
  const at = (name: string): void => {
    if (name === step && --left <= 0) process.kill(process.pid, 'SIGKILL');
  };
  const database = new Libsql(file);
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
  const store = new SqlStore({ dialect: 'sqlite', database: database as unknown as SqliteHandle });
  const watched = new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return async (...args: unknown[]) => {
        at(`before ${String(name)}`);
        const result: unknown = await value.apply(target, args);
        if (name !== 'relay' || (result as unknown[]).length > 0) at(`after ${String(name)}`);
        return result;
      };
    },
  });
  const inner = history === undefined ? undefined : new SqliteBus({ database: history, historySize: 100_000 });
  const broker = new Broker({ ...(inner && { bus: inner }), retry: 0 });
  broker.on('error', (error) => console.error(error));
  const inbox = new Inbox({ broker, store: watched, nodeLease: 1_000, relayInterval: 20, deviceGrace: 20 });
  // Where the bus takes a message, as the inbox gives it to its broker.
  broker.on('eventPublished', () => at('after publish'));
  const { publish } = SqliteBus.prototype;
  if (inner) {
    inner.publish = function (this: SqliteBus, event: OutgoingEvent) {
      at('before publish');
      return publish.call(this, event);
    };
  }
  await inbox.start();
  const handler = createHandler(broker, { authenticator: () => ({ userId: 'anna' }) });
  const server = http.createServer(handler).listen(0, '127.0.0.1', () => {
    const { port } = server.address() as { port: number };
    process.send!({ port });
    if (step !== undefined) void send();
  });

  let next = first;
  async function send(): Promise<void> {
    const resolved = fs.openSync(log, 'a');
    const done = (number: number) => () => {
      fs.writeSync(resolved, `${number}\n`);
      at('after resolve');
    };
    for (;;) {
      const burst = Array.from({ length: 3 }, () => {
        const number = next++;
        return inbox.sendToUser('anna', 'number', number).then(done(number));
      });
      const enqueued = next++;
      database.exec('BEGIN');
      const written = inbox.enqueue(database, { userId: 'anna' }, 'number', enqueued);
      await written.catch(() => {});
      database.exec('COMMIT');
      at('after enqueue');
      done(enqueued)();
      await Promise.all(burst);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
});
process.send!({ isReady: true });
