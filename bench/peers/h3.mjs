/** h3: an `EventStream` per client (`createEventStream` of version 1); the application keeps the sets and loops. */
import http from 'node:http';
import { EventStream, H3 } from 'h3';
import { toNodeHandler } from 'h3/node';
import { serve } from '../servers/harness.mjs';
import { Listeners, topicsOf, userOf } from '../servers/request.mjs';
import { EVENT_NAME } from '../shared/names.mjs';

serve((needs) => {
  const app = new H3();
  /** @type {Set<EventStream>} */
  const clients = new Set();
  const byUser = new Listeners();
  const byTopic = new Listeners();

  app.get('/events', (event) => {
    const url = event.url.search;
    const user = needs.users ? userOf(url) : '';
    const topics = needs.topics ? topicsOf(url) : [];
    const stream = new EventStream(event);
    // Its head goes out with the first bytes of the body; a client that waits for it would wait.
    void stream.pushComment('open');
    clients.add(stream);
    if (needs.users) byUser.add(user, stream);
    for (const topic of topics) byTopic.add(topic, stream);
    stream.onClosed(() => {
      clients.delete(stream);
      if (needs.users) byUser.delete(user, stream);
      for (const topic of topics) byTopic.delete(topic, stream);
    });
    return stream;
  });

  /** @param {Iterable<EventStream>} recipients @param {string} data @param {number} id */
  const send = (recipients, data, id) => {
    const message = { id: String(id), event: EVENT_NAME, data };
    for (const stream of recipients) void stream.push(message);
  };
  return {
    server: http.createServer(toNodeHandler(app)),
    broadcast: (data, id) => send(clients, data, id),
    toUser: (user, data, id) => send(byUser.of(user), data, id),
    toTopic: (topic, data, id) => send(byTopic.of(topic), data, id),
    clientCount: () => clients.size,
  };
});
