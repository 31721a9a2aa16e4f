/** The routes for operators: figures, who is connected, and ending a stream; health; the document. */
import { SseError } from '../core/errors.js';
import type { UserConnection } from '../core/presence.js';
import { closingOf } from '../http/arrival.js';
import type { ApiBroker } from './contracts.js';
import { forbidden } from './errors.js';
import { type Caller, jsonRoute, type Outcome, type Route } from './route.js';
import { pathParameters, queryParameters, type Schemas } from './schemas.js';

/** Connections of a page where nothing else is asked for. */
const PAGE = 100;

export function adminRoutes(schemas: Schemas, broker: ApiBroker): Route[] {
  const common = { tag: 'administration', access: 'read', method: 'GET' } as const;
  return [
    jsonRoute({
      ...common,
      path: '/info',
      operationId: 'getInfo',
      summary: 'Gives figures of the nodes, the bus and what was sent.',
      description: 'They are of all tenants, so a grant for one tenant gets 403.',
      replies: { 200: { description: 'The figures.', body: schemas.Info } },
      run: ({ caller }) => {
        if (caller.tenantId !== undefined) throw forbidden('these figures are of all tenants; this caller is of one');
        return info(broker);
      },
    }),
    jsonRoute({
      ...common,
      path: '/group/:group',
      operationId: 'getGroup',
      summary: 'Counts the clients that have a group, on the node that answers.',
      params: pathParameters.group,
      replies: { 200: { description: 'The count, which may be 0.', body: schemas.Group } },
      run: ({ caller: { tenantId }, params: { group } }) => {
        const clients = (tenantId === undefined ? broker : broker.tenant(tenantId)).getTopicConnectionCount(group);
        return { status: 200, body: { group, clients, node_id: broker.nodeId } };
      },
    }),
    jsonRoute({
      ...common,
      path: '/connections',
      operationId: 'listConnections',
      summary: 'Lists open streams on all nodes. Of other nodes those without a user are not known.',
      description:
        'Pages go by client id, so any node can answer the next one, and streams that come or go meanwhile move no others.',
      query: queryParameters.connections,
      replies: { 200: { description: 'A page of them.', body: schemas.Connections } },
      run: ({ caller, query: { user_id, after = '', limit = PAGE } }) => {
        const { page, isLast } = pageOf(connections(broker, caller, user_id), after, limit);
        return {
          status: 200,
          body: {
            connections: page.map((one) => shownConnection(broker, one)),
            next: isLast ? null : page.at(-1)!.clientId,
          },
        };
      },
    }),
    jsonRoute({
      method: 'POST',
      tag: 'administration',
      access: 'admin',
      path: '/disconnect/:id',
      operationId: 'disconnect',
      summary: 'Ends a stream, on whichever node. A browser comes back unless the Authenticator refuses it.',
      params: pathParameters.clientId,
      body: schemas.Disconnect,
      isBodyOptional: true,
      replies: { 200: { description: 'It is over.', body: schemas.Disconnected } },
      errors: { 404: 'No node has such a client.' },
      run: async ({ params: { id }, body: { reason } }) => {
        if (await broker.disconnect(id, reason)) return { status: 200, body: { disconnected: true } };
        throw new SseError('SSE_ERR_UNKNOWN_CLIENT', 'no node has such a client: it has gone, or never was here');
      },
    }),
  ];
}

/** Routes that anybody may ask; `document` gives the OpenAPI document. */
export function operationRoutes(schemas: Schemas, broker: ApiBroker, document: () => object): Route[] {
  const common = { method: 'GET', tag: 'operation', access: 'everybody' } as const;
  return [
    jsonRoute({
      ...common,
      path: '/healthz',
      operationId: 'getHealth',
      summary: 'Liveness: the process serves requests.',
      replies: { 200: { description: 'It does.', body: schemas.Health } },
      run: () => ({ status: 200, body: { status: 'ok' } }),
    }),
    jsonRoute({
      ...common,
      path: '/readyz',
      operationId: 'getReadiness',
      summary: 'Readiness: new streams are welcome, and what is sent goes out.',
      replies: {
        200: { description: 'Ready.', body: schemas.Readiness },
        503: { description: 'The bus is down, or the broker is closing.', body: schemas.Readiness },
      },
      run: () => readiness(broker),
    }),
    jsonRoute({
      ...common,
      path: '/openapi.json',
      operationId: 'getDocument',
      summary: 'This document.',
      replies: { 200: { description: 'OpenAPI 3.1.', body: schemas.Document } },
      run: () => ({ status: 200, body: document() }),
    }),
  ];
}

function info(broker: ApiBroker): Outcome {
  const cluster = broker.getClusterStats();
  const { bus, published, delivered, dropped, queuedBytes } = broker.getStats();
  return {
    status: 200,
    body: {
      node_id: broker.nodeId,
      clients: cluster.totalClients,
      users: cluster.totalUsers,
      topics: cluster.totalTopics,
      nodes: cluster.nodes.map(({ id, name, isSelf, clients, users, topics }) => ({
        id,
        name: name ?? null,
        is_self: isSelf,
        clients,
        users,
        topics,
      })),
      bus: { name: bus.name, state: bus.state },
      published,
      delivered,
      dropped,
      queued_bytes: queuedBytes,
    },
  };
}

/** Asked by a balancer that sends nobody before it is told so: the bus is started by it. */
function readiness(broker: ApiBroker): Outcome {
  // Being full is not being unready: those who are here are served.
  const isClosing = closingOf(broker) !== undefined;
  if (!isClosing) void broker.start();
  const { state } = broker.getStats().bus;
  const isReady = !isClosing && state === 'up';
  return {
    status: isReady ? 200 : 503,
    body: { status: isReady ? 'ready' : 'unready', bus: state, is_closing: isClosing },
  };
}

/** A stream as it is looked through: only those of a page are told in full. */
type Connection = Pick<UserConnection, 'clientId' | 'nodeId'> & Partial<UserConnection>;

/** What a caller may see, one by one, in no order: there may be many. */
function* connections(
  broker: ApiBroker,
  { tenantId }: Caller,
  userId: string | undefined,
): Generator<Connection, void, void> {
  const asked = () => (tenantId === undefined ? broker : broker.tenant(tenantId)).presence;
  if (userId !== undefined) {
    yield* asked().connections(userId);
    return;
  }
  const { nodeId } = broker;
  for (const { id, tenantId: own } of broker.getClients()) {
    if (tenantId === undefined || own === tenantId) yield { clientId: id, nodeId };
  }
  // Where there is no other node, presence is not kept for this alone.
  if (broker.getClusterStats().nodes.length === 1) return;
  for (const connection of asked().allConnections()) if (connection.nodeId !== nodeId) yield connection;
}

function shownConnection(broker: ApiBroker, { clientId, nodeId, ...row }: Connection): object {
  const client = nodeId === broker.nodeId ? broker.getClient(clientId) : undefined;
  const { userId, tenantId, sessionId, connectedAt = 0 } = client ?? row;
  return {
    client_id: clientId,
    node_id: nodeId,
    user_id: userId ?? null,
    tenant_id: tenantId ?? null,
    // Whatever the authenticator gave.
    session_id: typeof sessionId === 'string' ? sessionId : null,
    connected_at: connectedAt,
    topics: client?.topics ?? null,
    queued_bytes: client?.queuedBytes ?? null,
  };
}

/** The first `limit` by client id of those after `after`: an order that all nodes share. Holds no more than it gives. */
function pageOf(all: Iterable<Connection>, after: string, limit: number): { page: Connection[]; isLast: boolean } {
  const page: Connection[] = [];
  let isLast = true;
  for (const one of all) {
    const { clientId } = one;
    if (clientId <= after) continue;
    if (page.length === limit) {
      isLast = false;
      if (clientId >= page[limit - 1]!.clientId) continue;
      page.pop();
    }
    let [low, high] = [0, page.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (page[middle]!.clientId < clientId) low = middle + 1;
      else high = middle;
    }
    page.splice(low, 0, one);
  }
  return { page, isLast };
}
