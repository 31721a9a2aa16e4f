/** Nodes on NATS as the tests use them: a bus, its own connection, and what it told. */
import { type JetStreamClient, jetstream } from '@nats-io/jetstream';
import type { ConnectionOptions, Msg, NatsConnection } from '@nats-io/transport-node';
import { onTestFinished } from 'vitest';
import { NatsBus, type NatsBusOptions } from '../../src/buses/nats.js';
import { Recorder } from '../../src/testing/bus-recorder.js';
import { natsClient } from '../support/nats-server.js';

export interface NatsNode extends Recorder {
  readonly connection: NatsConnection;
}

/** Starts a node at `url` that has joined `keys`; it ends with the test. */
export async function startNode(
  url: string,
  keys: readonly string[],
  options: Partial<NatsBusOptions> = {},
  wrap: (connection: NatsConnection) => NatsConnection = (connection) => connection,
  makeJetStream: (connection: NatsConnection) => JetStreamClient = (connection) => jetstream(connection),
  credentials: ConnectionOptions = {},
): Promise<NatsNode> {
  const connection = await natsClient(url, credentials);
  const settings = {
    checkInterval: 200,
    requestTimeout: 1_000,
    recoveryJitter: 20,
    linger: 50,
    historyTtl: 0,
    ...options,
  };
  if (settings.jetstream === false || settings.manageStream === false)
    delete (settings as Record<string, unknown>).historyTtl;
  const bus = new NatsBus({
    connection: wrap(connection),
    jetstream: makeJetStream(connection),
    ...settings,
  });
  onTestFinished(async () => {
    await bus.close();
    await connection.close();
  });
  const recorder = await Recorder.start(bus, keys, 15_000);
  return Object.assign(recorder, { connection });
}

type Callback = NonNullable<NonNullable<Parameters<NatsConnection['subscribe']>[1]>['callback']>;

/** A connection whose messages pass through `hook`, which hands them on, later, or not at all. */
export function hooked(connection: NatsConnection, hook: (message: Msg, deliver: () => void) => void): NatsConnection {
  return new Proxy(connection, {
    get(target, property) {
      if (property !== 'subscribe') {
        const value = Reflect.get(target, property) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      }
      const subscribe: NatsConnection['subscribe'] = (subject, options) => {
        const callback: Callback = (error, message) => {
          const deliver = () => options!.callback!(error, message);
          if (error === null) hook(message, deliver);
          else void deliver();
        };
        return target.subscribe(subject, { ...options, callback });
      };
      return subscribe;
    },
  });
}

/** Publishes until it is taken, as an application that tries again does. */
export async function publishUntilTaken(node: Recorder, key: string, data: string): Promise<string> {
  for (;;) {
    const [id] = await node.publish(key, data).catch(() => []);
    if (id !== undefined) return id;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
