/**
 * Does the cost follow the recipients, or what else there is? 1 000 and 100 000 clients, each with 10 topics of their own
 * shared by 100 clients: what one event, one visit, and one subscription cost must be the same.
 *
 *     node --expose-gc bench/scale.mjs
 *     node --expose-gc bench/scale.mjs --sizes 1000,10000,100000
 *
 * Figures are CPU time of the process, not wall time. The ratios are to the smallest size.
 */
import { parseArgs } from 'node:util';
import { Broker } from '../dist/index.js';

const { values: args } = parseArgs({ options: { sizes: { type: 'string', default: '1000,10000,100000' } } });
const sizes = args.sizes.split(',').map(Number);
const TOPICS_PER_CLIENT = 10;
const CLIENTS_PER_TOPIC = 100;
/** Topics whose clients fit the processor's cache at any size: what is dearer only for others is memory, not work. */
const NEAR = 20;
const EVENTS = 2000;
const VISITS = 2000;
const ROUNDS = 5;
const DATA = 'x'.repeat(200);

const collect = globalThis.gc ?? (() => {});
const turn = () => new Promise((resolve) => setImmediate(resolve));
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

const sink = {
  open() {},
  write: () => true,
  end() {},
  destroy() {},
  progress: () => 0,
};

/** A sink whose client leaves when told to. */
function leavingSink() {
  let owner;
  return {
    ...sink,
    open: (client) => {
      owner = client;
    },
    leave: () => owner.closed(),
  };
}

/** CPU µs of `action`. */
async function cpuOf(action) {
  const before = process.cpuUsage();
  await action();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

/** Topics of client `i`: every topic has about the same number of clients, at every size. */
function topicsOf(i, topics) {
  return Array.from({ length: TOPICS_PER_CLIENT }, (_, k) => `topic:${(i * TOPICS_PER_CLIENT + k) % topics}`);
}

async function measure(clients) {
  const topics = (clients * TOPICS_PER_CLIENT) / CLIENTS_PER_TOPIC;
  const empty = () => new Broker({ connectedEvent: false, retry: 0, heartbeatInterval: 0, clientTimeout: 0 });

  // What the same clients take without topics is subtracted.
  collect();
  const start = process.memoryUsage().heapUsed;
  const bare = empty();
  for (let i = 0; i < clients; i++) bare.connect({ sink, identity: { userId: `user-${i}` } });
  await turn();
  collect();
  const withoutTopics = process.memoryUsage().heapUsed - start;

  const broker = empty();
  const collectedAt = process.memoryUsage().heapUsed;
  const leaving = [];
  const connecting = await cpuOf(async () => {
    for (let i = 0; i < clients; i++) {
      broker.connect({ sink, identity: { userId: `user-${i}` }, topics: topicsOf(i, topics) });
    }
    await turn();
  });
  collect();
  const withTopics = process.memoryUsage().heapUsed - collectedAt;
  // Kept until here.
  if (bare.getStats().totalClients !== clients) throw new Error('somebody left');

  const events = [];
  const near = [];
  const visits = [];
  let delivered = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const before = broker.getStats().delivered;
    events.push(
      await cpuOf(async () => {
        for (let i = 0; i < EVENTS; i++) {
          void broker.sendToTopic(`topic:${(i * 7919) % topics}`, 'note', DATA);
          if (i % 10 === 9) await turn();
        }
        await turn();
      }),
    );
    delivered = broker.getStats().delivered - before;
    near.push(
      await cpuOf(async () => {
        for (let i = 0; i < EVENTS; i++) {
          void broker.sendToTopic(`topic:${(i * 7) % NEAR}`, 'note', DATA);
          if (i % 10 === 9) await turn();
        }
        await turn();
      }),
    );
    visits.push(
      await cpuOf(async () => {
        for (let i = 0; i < VISITS; i++) {
          const visitor = leavingSink();
          const topicsOfVisitor = topicsOf(i * 31, topics);
          broker.connect({ sink: visitor, identity: { userId: `v${round}-${i}` }, topics: topicsOfVisitor });
          leaving.push(visitor);
          if (leaving.length > 50) leaving.shift().leave();
        }
        while (leaving.length > 0) leaving.pop().leave();
        await turn();
      }),
    );
  }
  const stats = broker.getStats();
  if (stats.totalClients !== clients || stats.totalTopics !== topics) throw new Error('somebody was left behind');
  return {
    clients,
    topics,
    subscriptions: clients * TOPICS_PER_CLIENT,
    recipients: delivered / EVENTS,
    event: median(events) / EVENTS,
    near: median(near) / EVENTS,
    visit: median(visits) / VISITS,
    connect: connecting / clients,
    perClient: withoutTopics / clients,
    perSubscription: (withTopics - withoutTopics) / (clients * TOPICS_PER_CLIENT),
  };
}

if (globalThis.gc === undefined) console.log('without --expose-gc the bytes mean nothing');
await measure(1000);
const rows = [];
for (const size of sizes) rows.push(await measure(size));
const [first] = rows;
for (const row of rows) {
  const ratio = (name) => `${row[name].toFixed(1)} µs (${(row[name] / first[name]).toFixed(2)} ×)`;
  console.log(
    `${row.clients} clients, ${row.topics} topics, ${row.subscriptions} subscriptions: ` +
      `event to ${row.recipients} ${ratio('event')}, always the same ${NEAR} topics ${ratio('near')}, visit with 10 topics ${ratio('visit')}, ` +
      `${row.perClient.toFixed(0)} B per client with a user, ${row.perSubscription.toFixed(0)} B per subscription`,
  );
}
process.exit(0);
