/** @fastify/sse: a reply per client, kept alive; it has no broadcast, so the application keeps the sets and loops. */
import fastifySse from '@fastify/sse';
import Fastify from 'fastify';
import { serve } from '../servers/harness.mjs';
import { Listeners, topicsOf, userOf } from '../servers/request.mjs';
import { EVENT_NAME } from '../shared/names.mjs';

serve(async (needs) => {
  const fastify = Fastify();
  /** @type {Set<any>} */
  const clients = new Set();
  const byUser = new Listeners();
  const byTopic = new Listeners();

  await fastify.register(fastifySse);
  fastify.get('/events', { sse: 'only' }, async (request, reply) => {
    const user = needs.users ? userOf(request.url) : '';
    const topics = needs.topics ? topicsOf(request.url) : [];
    const { sse } = reply;
    sse.keepAlive();
    sse.sendHeaders();
    // `sendHeaders` leaves them with Node until the first event; a client that waits for its head would wait.
    reply.raw.flushHeaders();
    clients.add(sse);
    if (needs.users) byUser.add(user, sse);
    for (const topic of topics) byTopic.add(topic, sse);
    sse.onClose(() => {
      clients.delete(sse);
      if (needs.users) byUser.delete(user, sse);
      for (const topic of topics) byTopic.delete(topic, sse);
    });
  });
  await fastify.ready();

  /** @param {Iterable<any>} recipients @param {string} data @param {number} id */
  const send = (recipients, data, id) => {
    const message = { id: String(id), event: EVENT_NAME, data };
    for (const sse of recipients) sse.send(message).catch(() => {});
  };
  return {
    server: fastify.server,
    broadcast: (data, id) => send(clients, data, id),
    toUser: (user, data, id) => send(byUser.of(user), data, id),
    toTopic: (topic, data, id) => send(byTopic.of(topic), data, id),
    clientCount: () => clients.size,
  };
});
