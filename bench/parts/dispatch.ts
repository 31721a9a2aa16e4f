/** What does an event cost on its way to pretended sockets, and does that depend on other clients, topics or users? */
import { Bench } from 'tinybench';
import { Broker, type Sink } from '../../src/index.js';

const sink: Sink = {
  open() {},
  write(encoded) {
    void (encoded.chunkText ?? encoded.chunk);
    return true;
  },
  end() {},
  destroy() {},
  progress: () => 0,
};
const data = JSON.stringify({ text: 'x'.repeat(180) });
const turn = () => new Promise((resolve) => setImmediate(resolve));

function brokerWith(others: number): Broker {
  const broker = new Broker({ connectedEvent: false });
  for (let i = 0; i < others; i++) {
    broker.connect({ sink, identity: { userId: `user-${i}` }, topics: [`topic:${i % 1_000}`] });
  }
  for (let i = 0; i < 100; i++) broker.connect({ sink, identity: { userId: 'me' }, topics: ['mine'] });
  return broker;
}

const suite = new Bench({ name: 'dispatch: 1 000 events in one turn, per 1 000', time: 500 });
for (const others of [0, 10_000]) {
  const broker = brokerWith(others);
  suite.add(`to a topic of 100 clients, beside ${others}`, async () => {
    for (let i = 0; i < 1_000; i++) void broker.sendToTopic('mine', 'e', data);
    await turn();
  });
  suite.add(`to nobody, beside ${others}`, async () => {
    for (let i = 0; i < 1_000; i++) void broker.sendToTopic('nobody', 'e', data);
    await turn();
  });
}
const many = brokerWith(10_000);
suite.add('to 1 000 different users', async () => {
  for (let i = 0; i < 1_000; i++) void many.sendToUser(`user-${i * 7}`, 'e', data);
  await turn();
});
export const bench = suite;
