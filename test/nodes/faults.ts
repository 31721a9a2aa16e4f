/** What may happen to three nodes and their bus. Each fault begins, lasts, and is over when its promise resolves. */
import { setTimeout as lasting } from 'node:timers/promises';
import { JetStreamApiCodes, JetStreamApiError, jetstream } from '@nats-io/jetstream';
import { type NatsServer, natsClient } from '../support/nats-server.js';
import type { RedisServer } from '../support/redis-server.js';
import { until } from '../support/until.js';
import type { Member } from './member.js';
import type { World } from './world.js';

/** How long things last, in ms. */
export interface Durations {
  /** A node and its bus do not reach each other. */
  readonly partition: number;
  /** A node is stopped. */
  readonly stop: number;
  /** The bus is away. */
  readonly outage: number;
}

export interface Fault {
  /** True where history is lost: then, and only then, may a gap be told. */
  readonly loses: boolean;
  strike(world: World, member: Member, durations: Durations): Promise<void>;
}

const keeping = (strike: Fault['strike']): Fault => ({ loses: false, strike });
const losing = (strike: Fault['strike']): Fault => ({ loses: true, strike });

/** Two faults do not share a process: one would stop or end what the other is about to. */
const onNode = (member: Member, world: World, action: () => Promise<void>) =>
  world.alone(`node ${world.members.indexOf(member)}`, action);
const onServer = (world: World, action: () => Promise<void>) => world.alone('server', action);
const onProxy = (member: Member, world: World, action: () => Promise<void>) =>
  world.alone(`proxy ${world.members.indexOf(member)}`, action);

/** Those that need no bus in particular. */
const ANY_BUS = {
  'a node’s connections to the bus are cut': keeping((world, member) =>
    onProxy(member, world, async () => member.proxy.cut()),
  ),
  'a node does not reach the bus, and is told so': keeping((world, member, { partition }) =>
    onProxy(member, world, async () => {
      member.proxy.refuse();
      await lasting(partition);
      member.proxy.mend();
    }),
  ),
  'a node does not reach the bus, in silence': keeping((world, member, { partition }) =>
    onProxy(member, world, async () => {
      member.proxy.drop();
      await lasting(partition);
      member.proxy.mend();
    }),
  ),
  'all that a node and the bus say to each other comes late': keeping((world, member, { partition }) =>
    onProxy(member, world, async () => {
      member.proxy.stall();
      await lasting(partition / 2);
      member.proxy.mend();
    }),
  ),
  'a node is killed and another takes its place': keeping((world, member) =>
    onNode(member, world, async () => {
      await member.kill();
      await member.start();
    }),
  ),
  'a node is deployed': keeping((world, member) =>
    onNode(member, world, async () => {
      await member.close(200);
      await member.start();
    }),
  ),
  'a node is stopped for a while': keeping((world, member, { stop }) =>
    onNode(member, world, async () => {
      member.freeze();
      await lasting(stop);
      member.thaw();
    }),
  ),
  'a node’s clock jumps': keeping((world, member) =>
    onNode(member, world, async () => {
      for (const hours of [26, -26, 0]) {
        await member.setClock(hours * 3_600_000);
        await lasting(100);
      }
    }),
  ),
} satisfies Record<string, Fault>;

export function redisFaults(server: RedisServer): Readonly<Record<string, Fault>> {
  const command = (...words: [string, ...string[]]) => server.admin((redis) => redis.call(...words));
  return {
    ...ANY_BUS,
    'Redis is killed and comes back with its disk': keeping((world, _, { outage }) =>
      onServer(world, async () => {
        await server.kill();
        await lasting(outage);
        await server.start();
      }),
    ),
    'Redis is killed and comes back empty': losing((world, _, { outage }) =>
      onServer(world, async () => {
        await server.kill();
        await server.forget();
        await lasting(outage);
        await server.start();
      }),
    ),
    'Redis is stopped for a while': keeping((world, _, { outage }) =>
      onServer(world, async () => {
        server.freeze();
        await lasting(outage);
        server.thaw();
      }),
    ),
    'CLIENT KILL TYPE pubsub': keeping((world) =>
      onServer(world, async () => {
        await command('CLIENT', 'KILL', 'TYPE', 'pubsub');
      }),
    ),
    'Redis drops every subscriber as too slow': keeping((world) =>
      onServer(world, async () => {
        const before = (await command('CONFIG', 'GET', 'client-output-buffer-limit')) as [string, string];
        await command('CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 1 1 1');
        // What does not fit into the 16 KiB that a connection has of its own is one byte too many.
        world.size = 60_000;
        await lasting(400);
        world.size = 200;
        await command('CONFIG', 'SET', 'client-output-buffer-limit', before[1]);
      }),
    ),
    'SCRIPT FLUSH': keeping((world) =>
      onServer(world, async () => {
        await command('SCRIPT', 'FLUSH');
      }),
    ),
    FLUSHALL: losing((world) =>
      onServer(world, async () => {
        await command('FLUSHALL');
      }),
    ),
  };
}

export function natsFaults(server: NatsServer): Readonly<Record<string, Fault>> {
  return {
    ...ANY_BUS,
    'NATS is killed and comes back with its disk': keeping((world, _, { outage }) =>
      onServer(world, async () => {
        await server.kill();
        await lasting(outage);
        await server.start();
      }),
    ),
    'NATS is killed and comes back empty': losing((world, _, { outage }) =>
      onServer(world, async () => {
        await server.kill();
        await server.forget();
        await lasting(outage);
        await server.start();
      }),
    ),
    'NATS is stopped for a while': keeping((world, _, { outage }) =>
      onServer(world, async () => {
        server.freeze();
        await lasting(outage);
        server.thaw();
      }),
    ),
    'the stream is deleted': losing((world) =>
      onServer(world, async () => {
        const connection = await natsClient(server.url);
        const manager = await jetstream(connection).jetstreamManager(false);
        // On a busy machine an answer may be late: the stream is gone then, or there again.
        const isGone = (error: unknown): boolean =>
          error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound;
        const names = () => manager.streams.names().next();
        for (const name of await until(() => names().catch(() => undefined), 'the streams')) {
          await until(() => manager.streams.delete(name).then(Boolean, isGone), `the end of ${name}`);
        }
        await connection.close();
      }),
    ),
  };
}
