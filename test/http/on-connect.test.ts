/** What onConnect sends is seen by the client it is called for, also where the bus needs time to join. */
import type { RequestListener } from 'node:http';
import { expect, test } from 'vitest';
import { createHandler, queryAuthenticator } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { LateBus } from '../support/late-bus.js';
import { serve } from '../support/server.js';
import { openStream } from '../support/stream.js';
import { until } from '../support/until.js';

async function setUp(historySize: number) {
  const bus = new LateBus({ historySize });
  const broker = makeBroker({ bus });
  let called = 0;
  const { url } = await serve(
    createHandler(broker, {
      authenticator: queryAuthenticator(),
      onConnect: async (client) => {
        called++;
        await Promise.all([
          broker.sendToUser(client.userId!, 'greeting', 'hello'),
          broker.sendToClient(client.id, 'greeting', 'only you'),
        ]);
      },
    }) as RequestListener,
  );
  return { bus, broker, url, called: () => called };
}

/** Lets a bus of pretended delays work until `done`. */
async function work(bus: LateBus, done: () => boolean): Promise<void> {
  await until(async () => {
    await bus.settle();
    return done();
  });
}

for (const historySize of [0, 100]) {
  for (const resumes of [false, true]) {
    const how = `${resumes ? 'a client that resumes' : 'a new client'}, ${historySize} events of history`;
    test(`over a bus that takes its time, with ${how}: nothing is missed`, async () => {
      const { bus, broker, url } = await setUp(historySize);
      await Promise.all([broker.start(), bus.settle()]);
      const headers = resumes ? { 'last-event-id': (await Promise.all([bus.head(), bus.settle()]))[0].id } : {};
      const stream = await openStream(`${url}/?user_id=alice`, { headers: headers as Record<string, string> });
      await work(bus, () => stream.events.filter(({ event }) => event === 'greeting').length === 2);
      expect(stream.events.map(({ event, data }) => [event, event === 'connected' ? '' : data])).toEqual([
        ['connected', ''],
        ['greeting', 'hello'],
        ['greeting', 'only you'],
      ]);
    });
  }
}

test('it is not called for a client that left before its stream began, and nothing waits for that one', async () => {
  const { bus, broker, url, called } = await setUp(0);
  const stream = await openStream(`${url}/?user_id=alice`);
  await until(() => broker.getStats().totalClients === 1);
  const { id } = [...broker.getClients()][0]!;
  const streaming = broker.whenStreaming(id);
  expect(streaming).toBeInstanceOf(Promise);
  stream.close();
  await until(() => broker.getStats().totalClients === 0);
  await streaming;
  expect(broker.whenStreaming(id)).toBeUndefined();
  await bus.settle();
  expect(called()).toBe(0);
});
