/** The routes for operators: figures, connections, ending one; liveness and readiness. */
import { describe, expect, test } from 'vitest';
import { tokenAuthorizer } from '../../src/api/index.js';
import type { BrokerOptions } from '../../src/index.js';
import { SharedHub } from '../support/shared-bus.js';
import type { StreamClient } from '../support/stream.js';
import { until } from '../support/until.js';
import { type MountedApi, mountApi, TOKENS, userOf } from './mounted.js';

const authorize = tokenAuthorizer([
  { token: TOKENS.read, scopes: ['read'] },
  { token: TOKENS.admin, scopes: ['admin'] },
  { token: TOKENS.publish, scopes: ['publish'] },
]);

/** The parts of a connection that the tests look at. */
type Listed = Readonly<Record<'client_id' | 'node_id' | 'user_id' | 'tenant_id', string | null> & { topics: unknown }>;
const usersOf = ({ connections }: { connections: Listed[] }) => connections.map(({ user_id }) => user_id);

const mount = (options: BrokerOptions = {}) => mountApi({ authorize, authorizeTopic: () => true }, options);

describe('figures', () => {
  test('/info has the figures of the broker', async () => {
    const { get, open, post, broker } = await mount({ nodeName: 'a' });
    const alice = await open('/stream/news/sport', 'user alice');
    await alice.next('connected');
    await post('/broadcast', { event_type: 'note', data: 1 }, 'publish');
    await alice.next('note');
    expect((await get('/info', 'read')).json).toEqual({
      node_id: broker.nodeId,
      clients: 1,
      users: 1,
      topics: 1,
      nodes: [{ id: broker.nodeId, name: 'a', is_self: true, clients: 1, users: 1, topics: 1 }],
      bus: { name: 'memory', state: 'up' },
      published: 1,
      delivered: 1,
      dropped: 0,
      queued_bytes: 0,
    });
  });

  test('/group counts who has it, which may be nobody', async () => {
    const { get, open, broker } = await mount();
    for (const user of ['alice', 'bob']) await (await open('/stream/a%20b/ü', `user ${user}`)).next('connected');
    const node_id = broker.nodeId;
    expect((await get(`/group/${encodeURIComponent('a b:ü')}`, 'read')).json).toEqual({
      group: 'a b:ü',
      clients: 2,
      node_id,
    });
    expect((await get('/group/none', 'read')).json).toEqual({ group: 'none', clients: 0, node_id });
  });
});

describe('/connections', () => {
  test('lists who is connected, page by page in the order of client ids', async () => {
    const ids = ['c4', 'c1', 'c3', 'c2'];
    const { get, open, broker } = await mount({ createId: () => ids.shift()! });
    const streams = new Map<string, StreamClient>();
    for (const user of ['dora', 'alice', 'carol', 'bob']) {
      streams.set(user, await open('/stream/news/1', `user ${user}`));
      await streams.get(user)!.next('connected');
    }
    const first = (await get('/connections?limit=2', 'read')).json;
    expect(first.connections).toMatchObject([
      {
        client_id: 'c1',
        user_id: 'alice',
        tenant_id: null,
        session_id: null,
        node_id: broker.nodeId,
        topics: ['news:1'],
        queued_bytes: 0,
      },
      { client_id: 'c2', user_id: 'bob' },
    ]);
    expect(first.next).toBe('c2');
    // Who leaves before the next page moves nobody into or out of it.
    streams.get('alice')!.close();
    streams.get('bob')!.close();
    await until(() => broker.getStats().totalClients === 2);
    const second = (await get('/connections?limit=1&after=c2', 'read')).json;
    expect([usersOf(second), second.next]).toEqual([['carol'], 'c3']);
    // Exactly full, and the last.
    expect((await get('/connections?limit=1&after=c3', 'read')).json).toMatchObject({
      connections: [{ user_id: 'dora' }],
      next: null,
    });
    expect((await get('/connections?after=c4', 'read')).json).toEqual({ connections: [], next: null });
    expect((await get('/connections?after=%00', 'read')).json.error.field).toBe('after');
  });

  test('of all nodes, whichever answers a page; a tenant sees its own', async () => {
    const hub = new SharedHub();
    const tenant = tokenAuthorizer([
      { token: TOKENS.read, scopes: ['read'] },
      { token: TOKENS.admin, scopes: ['read'], tenantId: 'acme' },
    ]);
    const node = () => mountApi({ authorize: tenant, authenticator: (req) => userOf(req) ?? {} }, { bus: hub.port() });
    const nodes = [await node(), await node(), await node()];
    for (const [at, { open }] of nodes.entries()) {
      for (const as of [`user u${at}`, 'user same', 'user same of acme', undefined]) {
        await (await open('/stream', as)).next('connected');
      }
    }
    const pages = async (as: string) => {
      const listed: Listed[] = [];
      let after: string | null = '';
      for (let at = 0; after !== null; at++) {
        const query: string = after === '' ? '' : `&after=${after}`;
        const { json } = await nodes[at % 3]!.get(`/connections?limit=2${query}`, as);
        expect(json.connections.length).toBeLessThanOrEqual(2);
        listed.push(...json.connections);
        after = json.next;
      }
      return listed;
    };
    const isKnown = ({ broker }: MountedApi) => broker.presence.count() === 5 && broker.presence.isOnline('u0');
    await until(
      () => nodes.every(isKnown) && nodes.every(({ broker }) => broker.presence.connections('same').length === 6),
    );
    const listed = await pages('read');
    const withUser = listed.filter(({ user_id }) => user_id !== null);
    expect(withUser).toHaveLength(9);
    expect(new Set(listed.map(({ client_id }) => client_id)).size).toBe(listed.length);
    expect(new Set(withUser.map(({ node_id }) => node_id))).toEqual(new Set(nodes.map(({ broker }) => broker.nodeId)));
    // Of other nodes only who has a user is known.
    const [first] = nodes;
    const { connections } = (await first!.get('/connections', 'read')).json as { connections: Listed[] };
    expect(connections).toHaveLength(10);
    for (const { node_id, user_id, topics } of connections) {
      const isHere = node_id === first!.broker.nodeId;
      expect([topics === null, isHere || user_id !== null]).toEqual([!isHere, true]);
    }
    expect((await pages('admin')).map(({ user_id, tenant_id }) => [user_id, tenant_id])).toEqual(
      Array.from({ length: 3 }, () => ['same', 'acme']),
    );
  });

  test('of one user: on all nodes, and ending one works from any', async () => {
    const hub = new SharedHub();
    const [here, there] = [await mount({ bus: hub.port() }), await mount({ bus: hub.port() })];
    const away = await there.open('/stream/news/1', 'user alice');
    const near = await here.open('/stream', 'user alice');
    await (await here.open('/stream', 'user bob')).next('connected');
    await away.next('connected');
    await near.next('connected');
    const listed = async () => (await here.get('/connections?user_id=alice', 'read')).json.connections;
    await until(async () => (await listed()).length === 2, 'both nodes to know of each other');
    const connections: { node_id: string; client_id: string; topics: unknown }[] = await listed();
    const remote = connections.find(({ node_id }) => node_id === there.broker.nodeId)!;
    expect(remote).toMatchObject({ user_id: 'alice', topics: null, queued_bytes: null });
    expect(connections.find(({ node_id }) => node_id === here.broker.nodeId)).toMatchObject({
      topics: [],
      queued_bytes: 0,
    });

    const ended = await here.post(`/disconnect/${remote.client_id}`, { reason: 'by an operator' }, 'admin');
    expect([ended.status, ended.json]).toEqual([200, { disconnected: true }]);
    expect(await away.next('closing')).toMatchObject({ message: 'by an operator' });
    await away.ended();
    expect(near.isEnded()).toBe(false);
  });
});

describe('/disconnect', () => {
  test('an empty body will do, and a client that is not there is 404', async () => {
    const { ask, open, broker } = await mount();
    const alice = await open('/stream', 'user alice');
    await alice.next('connected');
    const [{ id } = { id: '' }] = [...broker.getClients()];
    const headers = { authorization: `Bearer ${TOKENS.admin}`, 'content-type': 'application/json' };
    expect((await ask('POST', `/disconnect/${id}`, { headers })).status).toBe(200);
    await alice.ended();
    const again = await ask('POST', `/disconnect/${id}`, { headers });
    expect([again.status, again.json.error.code]).toEqual([404, 'SSE_ERR_UNKNOWN_CLIENT']);
  });

  test('a page of another origin cannot end streams with the cookies of its visitor: a form has no JSON', async () => {
    const { ask } = await mount();
    for (const type of [
      undefined,
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
    ]) {
      const headers = { authorization: `Bearer ${TOKENS.admin}`, ...(type !== undefined && { 'content-type': type }) };
      expect((await ask('POST', '/disconnect/x', { headers })).status, type).toBe(415);
    }
  });
});

describe('health', () => {
  test('/readyz starts the bus, as the first stream would: a balancer asks before it sends one', async () => {
    const { broker, get } = await mount({ bus: new SharedHub().port() });
    expect(broker.getStats().isRunning).toBe(false);
    expect((await get('/readyz')).json).toEqual({ status: 'ready', bus: 'up', is_closing: false });
    expect(broker.getStats().isRunning).toBe(true);
  });

  test('/readyz is 503 while the bus is down, /healthz is 200 all the time', async () => {
    const port = new SharedHub().port();
    const { get, post } = await mount({ bus: port });
    await get('/readyz');
    port.isCut = true;
    const down = await get('/readyz');
    expect([down.status, down.json]).toEqual([503, { status: 'unready', bus: 'down', is_closing: false }]);
    expect((await get('/healthz')).status).toBe(200);
    const refused = await post('/broadcast', { event_type: 'note', data: 1 }, 'publish');
    expect([refused.status, refused.json.error.code]).toEqual([503, 'SSE_ERR_BUS_UNAVAILABLE']);
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    port.isCut = false;
    expect((await get('/readyz')).status).toBe(200);
  });

  test('/readyz is 503 as soon as the broker closes, and while a stream still hears its end', async () => {
    const { get, open, broker } = await mount();
    const alice = await open('/stream', 'user alice');
    await alice.next('connected');
    const closed = broker.close();
    expect((await get('/readyz')).json).toMatchObject({ status: 'unready', is_closing: true });
    await closed;
    expect((await get('/readyz')).status).toBe(503);
    expect((await get('/healthz')).json).toEqual({ status: 'ok' });
    expect((await get('/openapi.json')).status).toBe(200);
  });

  test('a broker that is full is ready: those who are here are served', async () => {
    const { get, open } = await mount({ maxConnections: 1 });
    await (await open('/stream', 'user alice')).next('connected');
    expect((await open('/stream', 'user bob')).status).toBe(503);
    expect((await get('/readyz')).status).toBe(200);
    // Polling is asked for with JSON, so it is refused with a status.
    expect((await get('/poll', 'user bob')).json.error.code).toBe('SSE_ERR_TOO_MANY_CONNECTIONS');
  });
});
