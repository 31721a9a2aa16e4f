/** The same request twice is one deed: over HTTP, and the memory behind it by itself. */
import { describe, expect, test } from 'vitest';
import { IdempotencyCache } from '../../src/api/idempotency.js';
import { type ApiOptions, tokenAuthorizer } from '../../src/api/index.js';
import { Broker } from '../../src/index.js';
import { ManualClock } from '../support/manual-clock.js';
import { SharedHub } from '../support/shared-bus.js';
import { inboxOf } from './inboxes.js';
import { mountApi, TOKENS } from './mounted.js';

const authorize = tokenAuthorizer([
  { token: TOKENS.publish, scopes: ['publish'] },
  { token: TOKENS.admin, scopes: ['publish'], tenantId: 'acme' },
]);
const key = (value: string) => ({ 'idempotency-key': value });
const note = { user_id: 'alice', event_type: 'note', data: 1 };

const mount = async (options: Partial<ApiOptions> = {}, brokerOptions = {}) => {
  const mounted = await mountApi({ authorize, ...options }, brokerOptions);
  let published = 0;
  mounted.broker.on('eventPublished', () => published++);
  return { ...mounted, published: () => published };
};

describe('Idempotency-Key', () => {
  test('a request that is sent again is answered as the first time, and sends nothing', async () => {
    const { post, published } = await mount();
    const first = await post('/send', note, 'publish', key('k1'));
    expect(first.headers['idempotency-replayed']).toBeUndefined();
    const again = await post('/send', note, 'publish', key('k1'));
    expect([again.status, again.json, again.headers['idempotency-replayed']]).toEqual([202, first.json, 'true']);
    expect((await post('/send', note, 'publish', key('k2'))).json).not.toEqual(first.json);
    expect((await post('/send', note, 'publish')).json).not.toEqual(first.json);
    expect(published()).toBe(3);
  });

  test('the same key with another body, or for another route, is 409 and sends nothing', async () => {
    const { post, published } = await mount();
    await post('/send', note, 'publish', key('k'));
    const { user_id: _, ...broadcast } = note;
    for (const [path, body] of [
      ['/send', { ...note, data: 2 }],
      ['/send', { ...note, ttl: 1 }],
      ['/broadcast', broadcast],
    ] as const) {
      const refused = await post(path, body, 'publish', key('k'));
      expect([refused.status, refused.json.error.code]).toEqual([409, 'SSE_ERR_IDEMPOTENCY_CONFLICT']);
    }
    // Another order of the fields is the same body.
    expect((await post('/send', { data: 1, event_type: 'note', user_id: 'alice' }, 'publish', key('k'))).status).toBe(
      202,
    );
    expect(published()).toBe(1);
  });

  test('duplicates that come at the same time wait for the first, and get its answer', async () => {
    const port = new SharedHub().port();
    const { post, published, broker } = await mount({}, { bus: port });
    await broker.start();
    const answers = await Promise.all(Array.from({ length: 20 }, () => post('/send', note, 'publish', key('k'))));
    expect(new Set(answers.map(({ json }) => json.event_id)).size).toBe(1);
    expect(
      answers.map(({ headers }) => headers['idempotency-replayed']).filter((replayed) => replayed !== 'true'),
    ).toHaveLength(1);
    expect(published()).toBe(1);
  });

  test('a request that failed may be tried again with its key', async () => {
    const port = new SharedHub().port();
    const { post, broker } = await mount({}, { bus: port });
    await broker.start();
    port.isCut = true;
    expect((await post('/send', note, 'publish', key('k'))).status).toBe(503);
    port.isCut = false;
    const second = await post('/send', note, 'publish', key('k'));
    expect([second.status, second.headers['idempotency-replayed']]).toEqual([202, undefined]);
  });

  test('a request that was refused does not use its key up', async () => {
    const { post } = await mount();
    expect((await post('/send', { ...note, ttl: -1 }, 'publish', key('k'))).status).toBe(400);
    expect((await post('/send', note, 'publish', key('k'))).status).toBe(202);
  });

  test('tenants do not share keys', async () => {
    const { post, published } = await mount();
    const first = await post('/send', note, 'publish', key('k'));
    const second = await post('/send', note, 'admin', key('k'));
    expect(second.json).not.toEqual(first.json);
    expect(published()).toBe(2);
  });

  test.each([
    ['tokens do not share keys, also where the store remembers them', {}, 2],
    ['callers of one name do', { name: 'billing' }, 1],
  ])('%s', async (_what, named, messages) => {
    const tokens = tokenAuthorizer([
      { token: TOKENS.publish, scopes: ['publish'], ...named },
      { token: TOKENS.read, scopes: ['publish'], ...named },
    ]);
    const { post } = await mountApi((broker) => ({ inbox: inboxOf(broker), authorize: tokens, idempotencyTtl: 0 }));
    const first = await post('/send', note, 'publish', key('k'));
    const second = await post('/send', note, 'read', key('k'));
    expect([first.status, second.status]).toEqual([202, 202]);
    expect(new Set([first.json.event_id, second.json.event_id]).size).toBe(messages);
  });

  test('keys are forgotten in time, and the oldest of too many', async () => {
    const clock = new ManualClock();
    const { post } = await mount({ idempotencyTtl: 1_000, maxIdempotencyKeys: 2 }, { clock });
    const isReplay = async (value: string) =>
      (await post('/send', note, 'publish', key(value))).headers['idempotency-replayed'] === 'true';
    expect([await isReplay('a'), await isReplay('b'), await isReplay('a')]).toEqual([false, false, true]);
    expect([await isReplay('c'), await isReplay('b'), await isReplay('a')]).toEqual([false, true, false]);
    clock.advance(1_001);
    expect([await isReplay('a'), await isReplay('a')]).toEqual([false, true]);
  });

  test('idempotencyTtl 0 and maxIdempotencyKeys 0 keep nothing', async () => {
    for (const options of [{ idempotencyTtl: 0 }, { maxIdempotencyKeys: 0 }]) {
      const { post, published } = await mount(options);
      await post('/send', note, 'publish', key('k'));
      expect((await post('/send', note, 'publish', key('k'))).headers['idempotency-replayed']).toBeUndefined();
      expect(published()).toBe(2);
    }
  });

  test('a key that cannot be one is 400, naming the header', async () => {
    const { post } = await mount();
    for (const value of ['', 'two words', 'x'.repeat(256), 'ünï']) {
      const refused = await post('/send', note, 'publish', key(Buffer.from(value).toString('latin1')));
      expect([refused.status, refused.json.error.field], value).toEqual([400, 'Idempotency-Key']);
    }
    expect((await post('/send', note, 'publish', key('x'.repeat(255)))).status).toBe(202);
  });
});

describe('IdempotencyCache', () => {
  test('whoever waits for one that fails fails with it', async () => {
    const cache = new IdempotencyCache<number>({ ttl: 1_000, maxKeys: 10 }, new Broker().options.clock);
    let fail!: (error: Error) => void;
    const action = () =>
      new Promise<number>((_resolve, reject) => {
        fail = reject;
      });
    const first = cache.run('k', 'same', action);
    const second = cache.run('k', 'same', action);
    await expect(cache.run('k', 'other', action)).rejects.toMatchObject({ code: 'SSE_ERR_IDEMPOTENCY_CONFLICT' });
    fail(new Error('in vain'));
    await expect(first).rejects.toThrow('in vain');
    await expect(second).rejects.toThrow('in vain');
    expect(await cache.run('k', 'other', async () => 7)).toEqual({ value: 7, isReplay: false });
  });

  test('it never holds more than it may, and lets go of what has expired when something new comes', async () => {
    const clock = new ManualClock();
    const cache = new IdempotencyCache<number>({ ttl: 1_000, maxKeys: 100 }, clock);
    for (let n = 0; n < 1_000; n++) await cache.run(String(n), 'f', async () => n);
    expect(cache.size).toBe(100);
    clock.advance(2_000);
    await cache.run('new', 'f', async () => 1);
    expect(cache.size).toBe(1);
  });
});
