// A BullMQ worker that tells browsers how its jobs get on. It serves nothing itself: it publishes to topic `job:<id>`, and
// whatever broker shares the Redis has the streams (examples/bullmq-server.mjs).
//
//   npm install sse-broker bullmq ioredis
//   REDIS_URL=redis://localhost:6379 node examples/bullmq-worker.mjs
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { createPublisher } from 'sse-broker';
import { RedisBus } from 'sse-broker/redis';

const { REDIS_URL = 'redis://localhost:6379', QUEUE = 'reports', NAMESPACE = 'example' } = process.env;

const redis = new Redis(REDIS_URL);
const publisher = createPublisher({ bus: new RedisBus({ client: redis, namespace: NAMESPACE }) });
// Every event that could not be sent comes here as well: work goes on without an audience.
publisher.on('error', (error) => console.error(`${error.code}: ${error.message}`));

// The work: BullMQ keeps the progress for who asks for it later, the broker tells who watches now.
async function work(job) {
  const { pages = 5 } = job.data;
  for (let page = 1; page <= pages; page++) {
    await sleep(Number(process.env.INTERVAL ?? 500));
    if (page === job.data.failsAt) throw new Error(`page ${page} cannot be printed`);
    await job.updateProgress(page / pages);
  }
  return { pages };
}

// BullMQ blocks on a connection of its own, and asks for this option.
const connection = new Redis(REDIS_URL, { maxRetriesPerRequest: null });
const worker = new Worker(QUEUE, work, { connection, concurrency: 10 });

const report = (job, event, data) =>
  publisher.sendToTopic(`job:${job.id}`, event, { jobId: job.id, ...data }).catch(() => {});

worker.on('progress', (job, progress) => report(job, 'job.progress', { progress }));
worker.on('completed', (job, result) => report(job, 'job.completed', { result }));
worker.on('failed', (job, error) => {
  // Told at every attempt; the job has failed with the last one.
  if (job && job.attemptsMade >= (job.opts.attempts ?? 1)) report(job, 'job.failed', { message: error.message });
});
worker.on('error', (error) => console.error(error.message));

await worker.waitUntilReady();
console.log(`working on ${QUEUE}`);

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    // First the jobs that run, then what they still report, then the connections.
    await worker.close();
    await publisher.close();
    redis.disconnect();
    connection.disconnect();
  });
}
