/** Hono: `streamSSE` per client on @hono/node-server; the application keeps the sets and loops. */
import { createAdaptorServer } from '@hono/node-server';
import { Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import { serve } from '../servers/harness.mjs';
import { Listeners, topicsOf, userOf } from '../servers/request.mjs';
import { EVENT_NAME } from '../shared/names.mjs';

serve((needs) => {
  const app = new Hono();
  /** @type {Set<import('hono/streaming').SSEStreamingApi>} */
  const clients = new Set();
  const byUser = new Listeners();
  const byTopic = new Listeners();

  app.get('/events', (c) =>
    streamSSE(c, async (stream) => {
      const user = needs.users ? userOf(c.req.url) : '';
      const topics = needs.topics ? topicsOf(c.req.url) : [];
      clients.add(stream);
      if (needs.users) byUser.add(user, stream);
      for (const topic of topics) byTopic.add(topic, stream);
      // The stream ends when this function does.
      await new Promise((resolve) => stream.onAbort(() => resolve(undefined)));
      clients.delete(stream);
      if (needs.users) byUser.delete(user, stream);
      for (const topic of topics) byTopic.delete(topic, stream);
    }),
  );

  /** @param {Iterable<any>} recipients @param {string} data @param {number} id */
  const send = (recipients, data, id) => {
    const message = { id: String(id), event: EVENT_NAME, data };
    for (const stream of recipients) void stream.writeSSE(message);
  };
  return {
    server: /** @type {import('node:http').Server} */ (createAdaptorServer({ fetch: app.fetch })),
    broadcast: (data, id) => send(clients, data, id),
    toUser: (user, data, id) => send(byUser.of(user), data, id),
    toTopic: (topic, data, id) => send(byTopic.of(topic), data, id),
    clientCount: () => clients.size,
  };
});
