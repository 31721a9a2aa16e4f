/** The routes of the inbox, over the real one. */
import { describe, expect, test } from 'vitest';
import { type ApiOptions, tokenAuthorizer } from '../../src/api/index.js';
import { MemoryStore } from '../../src/inbox/index.js';
import type { Broker } from '../../src/index.js';
import { SharedHub } from '../support/shared-bus.js';
import { inboxOf } from './inboxes.js';
import { mountApi, TOKENS } from './mounted.js';

const authorize = tokenAuthorizer([
  { token: TOKENS.publish, scopes: ['publish'] },
  { token: TOKENS.admin, scopes: ['publish'], tenantId: 'acme' },
]);
const options = (broker: Broker): ApiOptions => ({ inbox: inboxOf(broker), authorize, authorizeTopic: () => true });

const note = (n: unknown, more: object = {}) => ({ user_id: 'alice', event_type: 'note', data: n, ...more });

describe('with an inbox', () => {
  test('what was sent to somebody who is away waits, in order, page by page', async () => {
    const { post, get } = await mountApi(options);
    const ids: string[] = [];
    for (let n = 1; n <= 5; n++) {
      ids.push((await post('/send', note(n, { priority: n % 3 }), 'publish')).json.event_id);
    }
    const first = await get('/messages/pending?limit=2', 'user alice');
    expect(first.json.messages.map(({ data }: { data: number }) => data)).toEqual([1, 2]);
    expect(first.json.messages[0]).toMatchObject({
      event_id: ids[0],
      event_type: 'note',
      priority: 1,
      group: null,
      is_broadcast: false,
      expire_at: null,
    });
    expect(first.json.next).toBe(ids[1]);
    const rest = await get(`/messages/pending?limit=3&after=${first.json.next}`, 'user alice');
    expect(rest.json.messages.map(({ data }: { data: number }) => data)).toEqual([3, 4, 5]);
    // A full page may be the last: the next one is empty, and says so.
    const end = await get(`/messages/pending?limit=3&after=${rest.json.next}`, 'user alice');
    expect(end.json).toEqual({ messages: [], next: null });
  });

  test('read are some, all up to one, or all; and nobody reads for somebody else', async () => {
    const { post, get } = await mountApi(options);
    const ids: string[] = [];
    for (let n = 1; n <= 5; n++) ids.push((await post('/send', note(n), 'publish')).json.event_id);
    const unread = async (as = 'user alice') => (await get('/messages/unread', as)).json.unread;
    expect(await unread()).toBe(5);
    expect((await post('/messages/read', { event_ids: [ids[0]] }, 'user mallory')).json).toEqual({ marked: 0 });
    expect((await post('/messages/read', { event_ids: [ids[1], ids[1]] }, 'user alice')).json).toEqual({ marked: 1 });
    expect((await post('/messages/read', { up_to: ids[2] }, 'user alice')).json).toEqual({ marked: 2 });
    expect(await unread()).toBe(2);
    expect((await post('/messages/read', { all: true }, 'user alice')).json).toEqual({ marked: 2 });
    expect(await unread()).toBe(0);
    expect((await post('/messages/read', { all: true }, 'user alice')).json).toEqual({ marked: 0 });
  });

  test('a message that is not this user’s is not there', async () => {
    const { post, get } = await mountApi(options);
    const { event_id } = (await post('/send', note(1), 'publish')).json;
    for (const id of [event_id, 'never-was', '%F0%9F%98%80', '~~~']) {
      const refused = await get(`/messages/pending?after=${id}`, 'user mallory');
      expect([refused.status, refused.json.error.code], id).toEqual([404, 'SSE_ERR_UNKNOWN_MESSAGE']);
    }
    expect((await post('/messages/read', { up_to: event_id }, 'user mallory')).status).toBe(404);
  });

  test('exactly one of event_ids, up_to and all', async () => {
    const { post } = await mountApi(options);
    for (const body of [{}, { event_ids: [] }, { all: false }, { all: true, up_to: 'x' }, { event_ids: 'x' }, []]) {
      expect((await post('/messages/read', body, 'user alice')).status, JSON.stringify(body)).toBe(400);
    }
  });

  test('subscriptions make group messages wait, by type where types are named', async () => {
    const { post, get, open } = await mountApi(options);
    expect((await post('/subscribe', { group: 'news', event_types: ['goal'] }, 'user alice')).json).toEqual({
      created: true,
    });
    expect((await post('/subscribe', { group: 'news', event_types: ['goal', 'card'] }, 'user alice')).json).toEqual({
      created: false,
    });
    await post('/subscribe', { group: 'all' }, 'user alice');
    const { subscriptions } = (await get('/subscriptions', 'user alice')).json;
    expect(
      subscriptions.toSorted((a: { group: string }, b: { group: string }) => a.group.localeCompare(b.group)),
    ).toEqual([
      { group: 'all', event_types: null },
      { group: 'news', event_types: ['goal', 'card'] },
    ]);
    for (const event_type of ['goal', 'weather']) {
      expect((await post('/send/group', { group: 'news', event_type, data: event_type }, 'publish')).status).toBe(202);
    }
    const { messages } = (await get('/messages/pending', 'user alice')).json;
    expect(messages).toMatchObject([{ event_type: 'goal', group: 'news', data: 'goal' }]);
    const stream = await open('/stream', 'user alice');
    expect(await stream.next('goal')).toBe('goal');
    expect((await post('/unsubscribe', { group: 'news' }, 'user alice')).json).toEqual({ removed: true });
    expect((await post('/unsubscribe', { group: 'news' }, 'user alice')).json).toEqual({ removed: false });
    expect((await get('/messages/unread', 'user alice')).json).toEqual({ unread: 0 });
  });

  test('persist: false is for who is connected, and nothing else', async () => {
    const { post, get } = await mountApi(options);
    const live = await post('/send', note(1, { persist: false }), 'publish', { 'idempotency-key': 'k' });
    expect(live.status).toBe(202);
    await post('/broadcast', { event_type: 'note', data: 2, persist: true }, 'publish');
    const { messages } = (await get('/messages/pending', 'user alice')).json;
    expect(messages).toMatchObject([{ data: 2, is_broadcast: true }]);
  });

  test('ttl is in seconds, and shows as the time when it expires', async () => {
    const { post, get } = await mountApi(options);
    await post('/send', note(1, { ttl: 60 }), 'publish');
    const [{ created_at, expire_at }] = (await get('/messages/pending', 'user alice')).json.messages;
    expect(expire_at - created_at).toBe(60_000);
  });

  test('the tenant of the user, and of the grant, is kept to', async () => {
    const { post, get } = await mountApi(options);
    // The token named admin is granted `publish` for the tenant acme.
    await post('/send', note('for acme'), 'admin');
    const waiting = async (as: string) =>
      (await get('/messages/pending', as)).json.messages.map(({ data }: { data: unknown }) => data);
    expect(await waiting('user alice of acme')).toEqual(['for acme']);
    expect(await waiting('user alice of other')).toEqual([]);
    expect(await waiting('user alice')).toEqual([]);
  });

  test('the same Idempotency-Key is one message, also on another node and after a restart', async () => {
    const store = new MemoryStore();
    const hub = new SharedHub();
    const node = () =>
      mountApi((broker) => ({ inbox: inboxOf(broker, store), authorize }), { bus: hub.port(), presenceGrace: 0 });
    const first = await node();
    const second = await node();
    const key = { 'idempotency-key': '0190c1f0-7b7a-7c53-b1f5-aaaaaaaaaaaa' };
    const { event_id } = (await first.post('/send', note(1), 'publish', key)).json;
    const again = await second.post('/send', note(1), 'publish', key);
    expect([again.status, again.json]).toEqual([202, { event_id }]);
    const { user_id: _, ...everybody } = note(1);
    for (const [path, body] of [
      ['/send', note(2)],
      ['/send', note(1, { ttl: 60 })],
      ['/send', note(1, { priority: 1 })],
      ['/send', { ...note(1), user_id: 'bob' }],
      ['/broadcast', everybody],
      ['/send/group', { ...everybody, group: 'alice' }],
    ] as const) {
      // Each comes to a node that was started after it.
      const refused = await (await node()).post(path, body, 'publish', key);
      expect([refused.status, refused.json.error?.code], JSON.stringify(body)).toEqual([
        409,
        'SSE_ERR_IDEMPOTENCY_CONFLICT',
      ]);
    }
    const lasting = { 'idempotency-key': 'with a ttl'.replaceAll(' ', '-') };
    const { json } = await first.post('/send', note('x', { ttl: 60 }), 'publish', lasting);
    expect((await second.post('/send', note('x', { ttl: 60 }), 'publish', lasting)).json).toEqual(json);
    expect((await second.post('/send', note('x', { ttl: 61 }), 'publish', lasting)).status).toBe(409);
    // Another key is another request.
    await second.post('/broadcast', { event_type: 'note', data: 2 }, 'publish', { 'idempotency-key': 'b' });
    expect((await first.get('/messages/unread', 'user alice')).json).toEqual({ unread: 3 });
  });

  test('one subscription more than a user may have is 409', async () => {
    const { post } = await mountApi((broker) => ({
      inbox: inboxOf(broker, new MemoryStore(), { maxSubscriptionsPerUser: 1 }),
      authorizeTopic: () => true,
    }));
    expect((await post('/subscribe', { group: 'a' }, 'user alice')).status).toBe(200);
    const refused = await post('/subscribe', { group: 'b' }, 'user alice');
    expect([refused.status, refused.json.error.code]).toEqual([409, 'SSE_ERR_TOO_MANY_TOPICS']);
    expect((await post('/subscribe', { group: 'a', event_types: ['note'] }, 'user alice')).status).toBe(200);
  });

  test('an inbox that is closed is 503', async () => {
    const { post, get } = await mountApi((broker) => {
      const inbox = inboxOf(broker);
      void inbox.close();
      return { ...options(broker), inbox };
    });
    expect((await get('/messages/unread', 'user alice')).status).toBe(503);
    expect((await post('/send', note(1), 'publish')).status).toBe(503);
  });
});
