/**
 * @boringnode/transmit: everything is a channel. Its clients subscribe with a request of their own; here the server
 * does it for them when they connect, which spares it that request.
 */
import http from 'node:http';
import { Transmit } from '@boringnode/transmit';
import { serve } from '../servers/harness.mjs';
import { topicsOf, userOf } from '../servers/request.mjs';

serve((needs) => {
  const transmit = new Transmit({ pingInterval: false, transport: null });
  const server = http.createServer((request, response) => {
    const url = request.url ?? '';
    const uid = userOf(url);
    transmit.createStream({ uid, context: {}, request, response, injectResponseHeaders: {} });
    void transmit.subscribe({ uid, channel: 'global', context: {} });
    if (needs.users) void transmit.subscribe({ uid, channel: `users/${uid}`, context: {} });
    if (needs.topics) for (const topic of topicsOf(url)) void transmit.subscribe({ uid, channel: topic, context: {} });
  });
  return {
    server,
    broadcast: (data) => transmit.broadcast('global', data),
    toUser: (user, data) => transmit.broadcast(`users/${user}`, data),
    toTopic: (topic, data) => transmit.broadcast(topic, data),
    clientCount: () => transmit.getManager().getAllSubscribers().size,
  };
});
