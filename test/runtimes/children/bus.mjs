// One event over a bus that is a server of its own, from publish to sink: bus.mjs redis|ioredis|nats|nats-ws <url>
import { Broker } from 'sse-broker';
import { NatsBus } from 'sse-broker/nats';
import { RedisBus } from 'sse-broker/redis';

const [kind, url] = process.argv.slice(2);

const makers = {
  async redis() {
    const { createClient } = await import('redis');
    const client = await createClient({ url }).connect();
    return { bus: new RedisBus({ client }), close: () => client.close() };
  },
  async ioredis() {
    const { Redis } = await import('ioredis');
    const client = new Redis(url);
    return { bus: new RedisBus({ client }), close: () => client.quit() };
  },
  async nats() {
    const { connect } = await import('@nats-io/transport-node');
    return overNats(await connect({ servers: [url] }));
  },
  async 'nats-ws'() {
    const { wsconnect } = await import('@nats-io/transport-node');
    return overNats(await wsconnect({ servers: [url] }));
  },
};

async function overNats(connection) {
  const { jetstream } = await import('@nats-io/jetstream');
  return { bus: new NatsBus({ connection, jetstream: jetstream(connection) }), close: () => connection.close() };
}

const { bus, close } = await makers[kind]();
const broker = new Broker({ bus });
const id = await new Promise((resolve) => {
  let owner;
  const gone = () => queueMicrotask(() => owner?.closed());
  const clientId = broker.connect({
    identity: { userId: 'alice' },
    topics: [],
    sink: {
      open: (given) => {
        owner = given;
      },
      write: ({ payload }) => {
        const [, found] = /^id: (.+)\nevent: note$/m.exec(payload) ?? [];
        if (found !== undefined) resolve(found);
        return true;
      },
      end: gone,
      destroy: gone,
      progress: () => 0,
    },
  });
  void broker.whenStreaming(clientId).then(() => broker.sendToUser('alice', 'note', 'hello'));
});
await broker.close();
await close();
console.log(id);
