// Starts BullMQ jobs and streams how they get on. The work is done elsewhere: examples/bullmq-worker.mjs. Start as many of
// both as you like; a browser may be connected to any.
//
//   npm install sse-broker bullmq ioredis
//   PORT=3000 REDIS_URL=redis://localhost:6379 node examples/bullmq-server.mjs
import http from 'node:http';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { Broker, createHandler, queryTopicResolver } from 'sse-broker';
import { RedisBus } from 'sse-broker/redis';

const { REDIS_URL = 'redis://localhost:6379', QUEUE = 'reports', NAMESPACE = 'example' } = process.env;

const redis = new Redis(REDIS_URL);
const broker = new Broker({ bus: new RedisBus({ client: redis, namespace: NAMESPACE }) });
broker.on('error', (error) => console.error(`${error.code}: ${error.message}`));
await broker.start();

const connection = new Redis(REDIS_URL, { maxRetriesPerRequest: null });
const queue = new Queue(QUEUE, { connection });

const events = createHandler(broker, {
  topicResolver: queryTopicResolver(),
  // In your application: is it a job of this user?
  authorizeTopic: (_identity, topic) => topic.startsWith('job:'),
});

async function startJob(url, res) {
  // The id comes from who asks, who is listening by then: no event is too early.
  const jobId = url.searchParams.get('id') ?? '';
  if (!/^[a-z][\w-]{0,40}$/.test(jobId)) {
    res.writeHead(400).end('id must be a letter, then letters, digits, _ and -\n');
    return;
  }
  const failsAt = Number(url.searchParams.get('fails-at') ?? 0);
  await queue.add('report', { pages: 5, failsAt }, { jobId, removeOnComplete: 1_000, removeOnFail: 1_000 });
  res.writeHead(202, { 'content-type': 'application/json' }).end(`${JSON.stringify({ jobId })}\n`);
}

const server = http.createServer((req, res) => {
  const url = new URL(`http://localhost${req.url}`);
  if (url.pathname === '/events') events(req, res);
  else if (url.pathname === '/jobs' && req.method === 'POST') {
    startJob(url, res).catch((error) => res.writeHead(503).end(`${error.message}\n`));
  } else res.writeHead(404).end();
});
server.listen(Number(process.env.PORT ?? 3000), () => {
  const { port } = server.address();
  console.log(`curl -N 'http://localhost:${port}/events?topics=job:first'`);
  console.log(`curl -X POST 'http://localhost:${port}/jobs?id=first'   # fails-at=3 makes it fail`);
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    server.close();
    // Clients come back to another instance, each at a moment of its own, and miss nothing.
    await broker.close({ reconnectWithinMs: 5_000 });
    server.closeAllConnections();
    await queue.close();
    redis.disconnect();
    connection.disconnect();
  });
}
