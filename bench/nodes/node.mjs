/** One node in a process of its own: a broker over Redis behind an HTTP server, as an application deploys it. */
import http from 'node:http';
import { Redis } from 'ioredis';
import { Broker, createHandler, queryTopicResolver } from 'sse-broker';
import { RedisBus } from 'sse-broker/redis';
import { answer } from '../shared/ipc.mjs';

/** @type {Broker} */
let broker;

answer({
  /** @param {{ port: number, redisPort: number, namespace: string }} message `port`: 0 for a free one */
  async start({ port, redisPort, namespace }) {
    const client = new Redis(redisPort);
    broker = new Broker({ bus: new RedisBus({ client, namespace }) });
    broker.on('error', (error) => console.error(error.code, error.message));
    await broker.start();
    const handler = createHandler(broker, { topicResolver: queryTopicResolver() });
    const server = http.createServer((req, res) => void handler(req, res));
    await new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve(undefined)));
    const address = server.address();
    return { port: typeof address === 'object' ? address?.port : port };
  },
  /** @param {{ reconnectWithinMs: number }} message */
  close({ reconnectWithinMs }) {
    return broker.close({ reconnectWithinMs });
  },
  stats() {
    const { totalClients, gaps, replayed, queuedFrames, disconnects } = broker.getStats();
    const { user, system } = process.cpuUsage();
    return { clients: totalClients, gaps, replayed, queuedFrames, disconnects, cpuMicros: user + system };
  },
});
