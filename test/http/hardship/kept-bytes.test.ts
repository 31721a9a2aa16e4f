/** What history and queues keep is what their limits count: small events do not pin the memory of others. */
import v8 from 'node:v8';
import vm from 'node:vm';
import { expect, test } from 'vitest';
import { makeBroker } from '../../support/broker.js';
import { PipeSink } from '../../support/pipe-sink.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

v8.setFlagsFromString('--expose-gc');
const gc = vm.runInNewContext('gc') as () => void;

async function buffers(): Promise<number> {
  gc();
  await turn();
  gc();
  return process.memoryUsage().arrayBuffers;
}

test('a quiet topic beside a busy one: history takes about what historyBytes counts', async () => {
  const broker = makeBroker({ historySize: 1_000 });
  for (let n = 0; n < 3; n++) broker.connect({ sink: new PipeSink(), topics: ['quiet', 'busy'] });
  const before = await buffers();
  for (let n = 0; n < 1_000; n++) {
    void broker.sendToTopic('quiet', 'note', 'x'.repeat(150));
    await turn();
    // What comes between two of them is forgotten soon, and must not be kept alive by them.
    for (let i = 0; i < 40; i++) void broker.sendToTopic('busy', 'note', 'y'.repeat(150));
    await turn();
  }
  // The sinks of this test keep what was written to them.
  for (const { id } of [...broker.getClients()]) await broker.disconnect(id);
  await turn();
  const { historyBytes, historyEvents } = broker.getStats().bus.details!;
  expect(historyEvents).toBe(2_000);
  expect((await buffers()) - before).toBeLessThan(historyBytes! * 1.5);
});
