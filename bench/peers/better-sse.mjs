/** better-sse: a session per client, `channel.broadcast` for everybody and per topic, `session.push` for a user. */
import { createChannel, createSession } from 'better-sse';
import { serve } from '../servers/harness.mjs';
import { topicsOf, userOf } from '../servers/request.mjs';
import { EVENT_NAME } from '../shared/names.mjs';

serve((needs) => {
  const everybody = createChannel();
  /** @type {Map<string, import('better-sse').Channel>} */
  const topicChannels = new Map();
  /** @type {Map<string, import('better-sse').Session>} */
  const sessions = new Map();

  /** @param {string} topic */
  const channelOf = (topic) => {
    const known = topicChannels.get(topic);
    if (known !== undefined) return known;
    const channel = createChannel();
    topicChannels.set(topic, channel);
    return channel;
  };

  return {
    async handler(req, res) {
      const url = req.url ?? '';
      const session = await createSession(req, res);
      everybody.register(session);
      if (needs.users) {
        sessions.set(userOf(url), session);
        session.once('disconnected', () => sessions.delete(userOf(url)));
      }
      if (needs.topics) for (const topic of topicsOf(url)) channelOf(topic).register(session);
    },
    broadcast: (data, id) => void everybody.broadcast(data, EVENT_NAME, { eventId: String(id) }),
    toUser: (user, data, id) => void sessions.get(user)?.push(data, EVENT_NAME, String(id)),
    toTopic: (topic, data, id) => void topicChannels.get(topic)?.broadcast(data, EVENT_NAME, { eventId: String(id) }),
    clientCount: () => everybody.sessionCount,
  };
});
