/**
 * sse-broker as its README recommends, with a user and topics for every client. Variants change one option each.
 */
import { EVENT_NAME } from '../shared/names.mjs';
import { serve } from './harness.mjs';

/** @type {Record<string, object>} */
const VARIANTS = {
  '': {},
  adaptive: { flush: 'adaptive' },
  history: { historySize: 1000 },
};

serve(async (_needs, variant) => {
  const { Broker, createHandler, queryAuthenticator, queryTopicResolver } = await import('../../dist/index.js');
  const options = VARIANTS[variant];
  if (options === undefined) throw new Error(`no variant ${variant} of ours`);
  const broker = new Broker(options);
  const handler = createHandler(broker, {
    authenticator: queryAuthenticator(),
    topicResolver: queryTopicResolver(),
    authorizeTopic: () => true,
  });
  return {
    handler,
    broadcast: (data) => void broker.broadcast(EVENT_NAME, data),
    toUser: (user, data) => void broker.sendToUser(user, EVENT_NAME, data),
    toTopic: (topic, data) => void broker.sendToTopic(topic, EVENT_NAME, data),
    clientCount: () => broker.getStats().totalClients,
    stats: () => ({ ...broker.getStats() }),
  };
});
