/** The routes for operators: figures, who is connected, and ending a stream; health; the document. */

import type { ClientInfo } from '../core/diagnostics.js';
import { isSseError, SseError } from '../core/errors.js';
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
      summary: 'Counts the clients that have a group.',
      params: pathParameters.group,
      replies: { 200: { description: 'The count, which may be 0.', body: schemas.Group } },
      run: ({ caller: { tenantId }, params: { group } }) => {
        const clients = (tenantId === undefined ? broker : broker.tenant(tenantId)).getTopicConnectionCount(group);
        return { status: 200, body: { group, clients } };
      },
    }),
    jsonRoute({
      ...common,
      path: '/connections',
      operationId: 'listConnections',
      summary: 'Lists open streams: of the node that answers, or of one user on all nodes.',
      description:
        'Pages are cut from what is open at each call, so streams that come or go meanwhile move the others.',
      query: queryParameters.connections,
      replies: { 200: { description: 'A page of them.', body: schemas.Connections } },
      run: ({ caller, query: { user_id, offset = 0, limit = PAGE } }) => {
        const { page, isLast } = pageOf(connections(broker, caller, user_id), offset, limit);
        return { status: 200, body: { connections: page, next: isLast ? null : offset + page.length } };
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
  const isClosing = isClosed(broker);
  if (!isClosing) void broker.start();
  const { state } = broker.getStats().bus;
  const isReady = !isClosing && state === 'up';
  return {
    status: isReady ? 200 : 503,
    body: { status: isReady ? 'ready' : 'unready', bus: state, is_closing: isClosing },
  };
}

function isClosed(broker: ApiBroker): boolean {
  try {
    broker.admit({});
  } catch (error) {
    // Being full is not being unready: those who are here are served.
    return isSseError(error) && error.code === 'SSE_ERR_BROKER_CLOSED';
  }
  return false;
}

/** What a caller may see, one by one: there may be many. */
function* connections(broker: ApiBroker, { tenantId }: Caller, userId: string | undefined): Generator<object> {
  if (userId === undefined) {
    for (const client of broker.getClients()) {
      if (tenantId === undefined || client.tenantId === tenantId) yield shownClient(client, broker.nodeId);
    }
    return;
  }
  const { presence } = tenantId === undefined ? broker : broker.tenant(tenantId);
  for (const connection of presence.connections(userId)) {
    const client = connection.nodeId === broker.nodeId ? broker.getClient(connection.clientId) : undefined;
    yield client !== undefined
      ? shownClient(client, broker.nodeId)
      : {
          client_id: connection.clientId,
          node_id: connection.nodeId,
          user_id: connection.userId,
          tenant_id: connection.tenantId ?? null,
          session_id: connection.sessionId ?? null,
          connected_at: connection.connectedAt,
          topics: null,
          queued_bytes: null,
        };
  }
}

function shownClient(
  { id, userId, tenantId, sessionId, connectedAt, topics, queuedBytes }: ClientInfo,
  nodeId: string,
) {
  return {
    client_id: id,
    node_id: nodeId,
    user_id: userId ?? null,
    tenant_id: tenantId ?? null,
    // Whatever the authenticator gave.
    session_id: typeof sessionId === 'string' ? sessionId : null,
    connected_at: connectedAt,
    topics,
    queued_bytes: queuedBytes,
  };
}

function pageOf(all: Iterable<object>, offset: number, limit: number): { page: object[]; isLast: boolean } {
  const page: object[] = [];
  let at = 0;
  for (const one of all) {
    if (at++ < offset) continue;
    if (page.length === limit) return { page, isLast: false };
    page.push(one);
  }
  return { page, isLast: true };
}
