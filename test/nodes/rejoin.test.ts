/** A topic that its last reader left and that another wants while Redis has not confirmed the first one's end yet. */
import { expect, test } from 'vitest';
import { outgoing } from '../../src/testing/bus-recorder.js';
import { redisLibraries } from '../buses/redis-clients.js';
import { makeCluster, startProxy, startRedis } from '../buses/redis-nodes.js';

const KEY = 't::a';
const turn = () => new Promise((resolve) => setImmediate(resolve));

test.each(redisLibraries)('a topic that is left and wanted again at once is heard, over $name', async (library) => {
  const server = await startRedis();
  const proxy = await startProxy(server.port);
  const node = makeCluster();
  // Nothing but the subscription itself may bring the event: a check would find it too.
  const options = { library, linger: 0, checkInterval: 60_000 };
  const [near, far] = [await node(server.port, []), await node(proxy.port, [KEY], options)];
  for (const turns of [0, 1, 2, 3]) {
    proxy.delayBack(30);
    far.bus.leave(KEY);
    for (let i = 0; i < turns; i++) await turn();
    await far.bus.join(KEY);
    proxy.delayBack(0);
    await near.bus.publish(outgoing(KEY, `after ${turns}`));
    await far.eventually(() => far.dataOf(KEY).includes(`after ${turns}`), `the event after ${turns} turns`);
  }
  expect(far.losses).toEqual([]);
});
