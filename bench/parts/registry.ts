/** What does a connection cost in the maps, and does that depend on who else is there? */
import { Bench } from 'tinybench';
import { Broker, type Sink } from '../../src/index.js';

const sink: Sink = {
  open() {},
  write: () => true,
  end() {},
  destroy() {},
  progress: () => 0,
};
let owner: { closed(): void } | undefined;
const leaving: Sink = {
  ...sink,
  open(client) {
    owner = client;
  },
};

function brokerWith(clients: number, topicsPerClient: number): Broker {
  const broker = new Broker({ connectedEvent: false });
  for (let i = 0; i < clients; i++) {
    const topics = Array.from({ length: topicsPerClient }, (_, k) => `topic:${(i * 7 + k * 131) % 1_000}`);
    broker.connect({ sink, identity: { userId: `user-${i}` }, topics });
  }
  return broker;
}

const topics = Array.from({ length: 10 }, (_, k) => `topic:${k * 50}`);
const suite = new Bench({ name: 'registry: connect and leave, with 10 topics', time: 300 });
for (const clients of [0, 1_000, 20_000]) {
  const broker = brokerWith(clients, 10);
  // Another user each time. One who comes and goes all the time is dearer: a Map keeps what was deleted in the chain of
  // its bucket until it grows (README.md, findings).
  let visits = 0;
  suite.add(`beside ${clients} clients`, () => {
    broker.connect({ sink: leaving, identity: { userId: `visitor-${visits++}` }, topics });
    owner!.closed();
  });
}
export const bench = suite;
