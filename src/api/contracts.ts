/** What the API asks of a broker and of an inbox: the parts that it calls, whatever their events. */
import type { Broker } from '../core/broker.js';
import type { EventMap, PublishOptions } from '../core/event.js';
import type { TenantBroker } from '../core/tenant.js';
import type { HandlerBroker } from '../http/arrival.js';
import type { InboxApi, InboxSendOptions } from '../inbox/inbox-types.js';

/** The send methods of any `Events`: names and data come from outside, and are checked there. */
interface AnySender<Options> {
  sendToUser(userId: string, event: never, data: never, options?: Options): Promise<string>;
  broadcast(event: never, data: never, options?: Options): Promise<string>;
}

/** A broker of whatever events. */
export type ApiBroker = HandlerBroker &
  AnySender<PublishOptions> & {
    sendToTopic(topic: string, event: never, data: never, options?: PublishOptions): Promise<string>;
    tenant(tenantId: string): Pick<TenantBroker<EventMap>, 'getTopicConnectionCount' | 'presence'>;
  } & Pick<
    Broker<EventMap>,
    | 'disconnect'
    | 'getClients'
    | 'getClusterStats'
    | 'getStats'
    | 'getTopicConnectionCount'
    | 'nodeId'
    | 'presence'
    | 'start'
  >;

/** An inbox of whatever events. */
export type ApiInbox = AnySender<InboxSendOptions> & {
  sendToGroup(group: string, event: never, data: never, options?: InboxSendOptions): Promise<string>;
} & Pick<InboxApi<EventMap>, 'pending' | 'markRead' | 'unreadCount' | 'subscribe' | 'unsubscribe' | 'subscriptions'>;
