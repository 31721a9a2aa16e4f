import { expect, onTestFinished, test } from 'vitest';
import { Broker, createHandler, queryAuthenticator, queryTopicResolver } from '../../src/index.js';
import { serve } from '../support/server.js';
import { openStream } from '../support/stream.js';

test('a user gets what is for them, for their topics and for everybody, in the order of publishing', async () => {
  const broker = new Broker();
  onTestFinished(async () => {
    await broker.close();
  });
  const handler = createHandler(broker, {
    authenticator: queryAuthenticator(),
    topicResolver: queryTopicResolver(),
  });
  const { url } = await serve(handler);
  const alice = await openStream(`${url}/?user_id=alice&topics=job:1`);
  const bob = await openStream(`${url}/?user_id=bob`);
  await alice.next('connected');
  await bob.next('connected');

  await broker.sendToUser('alice', 'note', { n: 1 });
  await broker.sendToTopic('job:1', 'note', { n: 2 });
  await broker.sendToUser('bob', 'note', { n: 3 });
  await broker.broadcast('note', { n: 4 });

  expect(await alice.all('note', 3)).toEqual([{ n: 1 }, { n: 2 }, { n: 4 }]);
  expect(await bob.all('note', 2)).toEqual([{ n: 3 }, { n: 4 }]);
});
