/**
 * What most applications write by hand: `node:http`, a Set of responses, one encoded Buffer per event, `res.write` for
 * each client. No bound on a slow reader. The unit that all ratios refer to.
 */
import { EVENT_NAME } from '../shared/names.mjs';
import { serve } from './harness.mjs';
import { EVENT_STREAM_HEADERS, Listeners, topicsOf, userOf } from './request.mjs';

serve((needs) => {
  /** @type {Set<import('node:http').ServerResponse>} */
  const clients = new Set();
  const byUser = new Listeners();
  const byTopic = new Listeners();

  /** @param {string} data @param {number} id */
  const encode = (data, id) => Buffer.from(`id: ${id}\nevent: ${EVENT_NAME}\ndata: ${data}\n\n`);

  return {
    handler(req, res) {
      const user = needs.users ? userOf(req.url ?? '') : '';
      const topics = needs.topics ? topicsOf(req.url ?? '') : [];
      clients.add(res);
      if (needs.users) byUser.add(user, res);
      for (const topic of topics) byTopic.add(topic, res);
      res.on('close', () => {
        clients.delete(res);
        if (needs.users) byUser.delete(user, res);
        for (const topic of topics) byTopic.delete(topic, res);
      });
      res.writeHead(200, EVENT_STREAM_HEADERS);
      res.flushHeaders();
    },
    broadcast(data, id) {
      const frame = encode(data, id);
      for (const res of clients) res.write(frame);
    },
    toUser(user, data, id) {
      const frame = encode(data, id);
      for (const res of byUser.of(user)) res.write(frame);
    },
    toTopic(topic, data, id) {
      const frame = encode(data, id);
      for (const res of byTopic.of(topic)) res.write(frame);
    },
    clientCount: () => clients.size,
  };
});
