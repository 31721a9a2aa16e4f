/** sse-channel: one channel; `send` to all, or to the responses given. */
import SseChannel from 'sse-channel';
import { serve } from '../servers/harness.mjs';
import { userOf } from '../servers/request.mjs';
import { EVENT_NAME } from '../shared/names.mjs';

serve((needs) => {
  const channel = new SseChannel();
  /** @type {Map<string, import('node:http').ServerResponse>} */
  const byUser = new Map();
  return {
    handler(req, res) {
      const user = userOf(req.url ?? '');
      channel.addClient(req, res);
      if (!needs.users) return;
      byUser.set(user, res);
      res.on('close', () => byUser.delete(user));
    },
    // Its own example: with an id the event enters the history, as its users would want.
    broadcast: (data, id) => channel.send({ id: id + 1, event: EVENT_NAME, data }),
    toUser(user, data) {
      const res = byUser.get(user);
      if (res !== undefined) channel.send({ event: EVENT_NAME, data }, [res]);
    },
    clientCount: () => channel.getConnectionCount(),
  };
});
