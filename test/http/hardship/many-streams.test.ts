/** A thousand real streams at once: each gets exactly its own. */
import type { RequestListener } from 'node:http';
import net from 'node:net';
import { createParser } from 'eventsource-parser';
import { expect, onTestFinished, test } from 'vitest';
import { createHandler, queryAuthenticator, queryTopicResolver } from '../../../src/index.js';
import { makeBroker } from '../../support/broker.js';
import { readResponse } from '../../support/raw.js';
import { serve } from '../../support/server.js';
import { until } from '../../support/until.js';

const CLIENTS = 1_000;

test(`${CLIENTS} concurrent streams each get exactly what is for them, in order, and nothing is left of them`, async () => {
  const broker = makeBroker();
  const handler = createHandler(broker, { authenticator: queryAuthenticator(), topicResolver: queryTopicResolver() });
  const { port } = await serve(handler as RequestListener);
  const clients = Array.from({ length: CLIENTS }, (_, n) => {
    const socket = net.connect(port, '127.0.0.1');
    const received: Buffer[] = [];
    let isEnded = false;
    socket.on('data', (bytes: Buffer) => received.push(bytes));
    socket.on('end', () => {
      isEnded = true;
    });
    const path = `/?user_id=user-${n}&tenant_id=tenant-${n % 3}&topics=all,tens:${n % 10},hundreds:${n % 100}`;
    socket.write(`GET ${path} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n`);
    return { socket, received, isEnded: () => isEnded };
  });
  onTestFinished(() => {
    for (const { socket } of clients) socket.destroy();
  });
  await until(() => broker.getStats().totalClients === CLIENTS, 'all clients');
  expect(broker.getStats()).toMatchObject({ totalUsers: CLIENTS, totalTopics: 111 });

  // What each should get, kept in step with what is sent.
  const expected: string[][] = clients.map(() => []);
  let sent = 0;
  const expect_ = (isFor: (n: number) => boolean) => {
    const data = `${sent++}`;
    for (let n = 0; n < CLIENTS; n++) if (isFor(n)) expected[n]!.push(data);
    return data;
  };
  for (let round = 0; round < CLIENTS; round++) {
    const user = (round * 7) % CLIENTS;
    void broker.sendToUser(
      `user-${user}`,
      'note',
      expect_((n) => n === user),
    );
    void broker.sendToTopic(
      `hundreds:${round % 100}`,
      'note',
      expect_((n) => n % 100 === round % 100),
    );
    if (round % 10 === 0)
      void broker.sendToTopic(
        `tens:${round % 7}`,
        'note',
        expect_((n) => n % 10 === round % 7),
      );
    if (round % 50 === 0) {
      void broker.broadcast(
        'note',
        expect_(() => true),
      );
      void broker.tenant('tenant-1').sendToTopic(
        'all',
        'note',
        expect_((n) => n % 3 === 1),
      );
      void broker.tenant('tenant-2').broadcast(
        'note',
        expect_((n) => n % 3 === 2),
      );
      // Another tenant's user of the same name does not exist: nobody gets it.
      void broker.tenant('tenant-0').sendToUser(
        'user-1',
        'note',
        expect_(() => false),
      );
    }
    if (round % 100 === 99) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(await broker.close()).toEqual({ ended: CLIENTS, cut: 0 });
  await until(() => clients.every(({ isEnded }) => isEnded()), 'the ends');

  for (const [n, { received }] of clients.entries()) {
    const response = readResponse(Buffer.concat(received))!;
    expect(response.isComplete).toBe(true);
    const events: { event: string | undefined; data: string }[] = [];
    const parser = createParser({ onEvent: ({ event, data }) => events.push({ event, data }) });
    parser.feed(response.body.toString());
    expect(events.slice(1, -1).map(({ data }) => data)).toEqual(expected[n]);
    expect(JSON.parse(events[0]!.data).userId).toBe(`user-${n}`);
    expect(events.at(-1)!.event).toBe('closing');
  }
  expect(broker.getStats()).toMatchObject({ totalClients: 0, totalUsers: 0, totalTopics: 0, ending: 0, dropped: 0 });
});
