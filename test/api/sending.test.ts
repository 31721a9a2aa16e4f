import { expect, test } from 'vitest';
import { tokenAuthorizer } from '../../src/api/index.js';
import { ManualClock } from '../support/manual-clock.js';
import { until } from '../support/until.js';
import { mountApi, TOKENS } from './mounted.js';

const authorize = tokenAuthorizer([{ token: TOKENS.publish, scopes: ['publish'] }]);

test('a user, a group and everybody get what is sent to them, and nobody else', async () => {
  const { post, open } = await mountApi({ authorize, authorizeTopic: () => true });
  const alice = await open('/stream', 'user alice');
  const bob = await open('/stream/news/sport', 'user bob');
  await alice.next('connected');
  await bob.next('connected');

  const first = await post('/send', { user_id: 'alice', event_type: 'note', data: { n: 1 } }, 'publish');
  expect(first.status).toBe(202);
  await post('/send/group', { group: 'news:sport', event_type: 'note', data: { n: 2 } }, 'publish');
  await post('/broadcast', { event_type: 'note', data: { n: 3 } }, 'publish');

  expect(await alice.all('note', 2)).toEqual([{ n: 1 }, { n: 3 }]);
  expect(await bob.all('note', 2)).toEqual([{ n: 2 }, { n: 3 }]);
  expect(alice.events.find(({ event }) => event === 'note')?.id).toBe(first.json.event_id);
});

test('data is any JSON value, and a string is sent as it is', async () => {
  const { post, open } = await mountApi({ authorize });
  const alice = await open('/stream', 'user alice');
  await alice.next('connected');
  const values = ['plain', '"quoted"', 7, true, null, [1, [2]], { ünï: '😀', 'a"b': 'line\nline' }];
  for (const data of values) {
    expect((await post('/send', { user_id: 'alice', event_type: 'v', data }, 'publish')).status).toBe(202);
  }
  await alice.all('v', values.length);
  expect(alice.events.filter(({ event }) => event === 'v').map(({ data }) => data)).toEqual(
    values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))),
  );
});

test('ttl is in seconds', async () => {
  const clock = new ManualClock();
  const { post, open } = await mountApi({ authorize }, { clock, historySize: 10 });
  const before = await open('/stream', 'user alice');
  await before.next('connected');
  const lastEventId = before.events[0]!.id;
  await post('/send', { user_id: 'alice', event_type: 'note', data: 'short', ttl: 2 }, 'publish');
  await post('/send', { user_id: 'alice', event_type: 'note', data: 'for ever', ttl: 0 }, 'publish');
  const replayed = async () => {
    const again = await open(`/stream?lastEventId=${lastEventId}`, 'user alice');
    await until(() => again.text().includes('for ever'));
    return again.events.filter(({ event }) => event === 'note').map(({ data }) => data);
  };
  clock.advance(1_900);
  expect(await replayed()).toEqual(['short', 'for ever']);
  clock.advance(200);
  expect(await replayed()).toEqual(['for ever']);
});

test('priority is that of a slow client: 2 is urgent', async () => {
  const { post, broker } = await mountApi({ authorize });
  const sent: unknown[] = [];
  const send = broker.sendToUser.bind(broker);
  broker.sendToUser = (userId, event, data, options) => {
    sent.push(options);
    return send(userId, event, data, options);
  };
  for (const priority of [0, 1, 2]) {
    await post('/send', { user_id: 'alice', event_type: 'note', data: 1, priority }, 'publish');
  }
  expect(sent).toEqual([{ priority: 'normal' }, { priority: 'high' }, { priority: 'urgent' }]);
});

test('without an inbox there is nothing that could persist, and the API says so', async () => {
  const { post, check } = await mountApi({ authorize });
  const refused = await post('/send', { user_id: 'alice', event_type: 'note', data: 1, persist: true }, 'publish');
  expect([refused.status, refused.json.error]).toEqual([
    400,
    { code: 'SSE_ERR_INVALID_REQUEST', message: 'persist is not known here', field: 'persist' },
  ]);
  expect(Object.keys(check.document.paths)).not.toContain('/messages/pending');
  const { get } = await mountApi();
  for (const path of ['/messages/pending', '/messages/unread', '/subscriptions']) {
    expect((await get(path, 'user alice')).status).toBe(404);
  }
});
