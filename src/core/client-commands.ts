/**
 * What an application does to one client, or to the clients of one user, wherever they are: on this node at once, else by
 * asking the node that has them. The same results and errors either way.
 */
import { checkTopics } from './admission.js';
import type { Client } from './client.js';
import type { Cluster } from './cluster.js';
import type { CallResult } from './cluster-calls.js';
import type { ClusterCall } from './cluster-message.js';
import { isThenable } from './diagnostics.js';
import { busFailure, SseError, shown } from './errors.js';
import type { Membership } from './membership.js';
import type { ResolvedOptions } from './options.js';
import type { Registry } from './registry.js';
import { checkClientId, checkTenantId, checkTopic, checkUserId, userKey } from './topic.js';

/** What commands need of the broker. */
export interface CommandsHost {
  readonly options: ResolvedOptions;
  readonly registry: Registry;
  readonly membership: Membership;
  /** The other nodes, where there may be some. */
  readonly cluster: Cluster | undefined;
  /** Starts the bus where it has not been; a promise while that takes time. */
  start(): void | Promise<void>;
  /** What a node's inbox is asked by another. */
  askedMailboxes(text: string): number | Promise<number>;
  /** While the bus does not deliver to that client yet: when it will. */
  arrivalOf(clientId: string): Promise<void> | undefined;
  end(client: Client, reason: string | undefined): void;
}

export class ClientCommands {
  readonly #host: CommandsHost;

  constructor(host: CommandsHost) {
    this.#host = host;
  }

  /** Throws or rejects where no node has the client, or not in that tenant; a promise where that takes time to know. */
  find(clientId: string, tenantId: string | undefined): void | Promise<void> {
    const has = this.#call({ call: 'has', clientId: checkClientId(clientId), tenantId });
    if (isThenable(has)) return has.then((value) => known(clientId, value)).then(() => {});
    known(clientId, has);
  }

  subscribe(clientId: string, topic: string): boolean | Promise<boolean> {
    checkTopics(this.#host.options, [topic]);
    return this.#onClient({ call: 'subscribe', clientId: checkClientId(clientId), topic });
  }

  unsubscribe(clientId: string, topic: string): boolean | Promise<boolean> {
    return this.#onClient({ call: 'unsubscribe', clientId: checkClientId(clientId), topic: checkTopic(topic) });
  }

  disconnect(clientId: string, reason: string | undefined): boolean | Promise<boolean> {
    const ended = this.#call({ call: 'disconnect', clientId: checkClientId(clientId), reason: checkReason(reason) });
    return isThenable(ended) ? ended.then((value) => value === true) : ended === true;
  }

  disconnectUser(userId: string, tenantId: string | undefined, reason: string | undefined): number | Promise<number> {
    const request: ClusterCall = {
      call: 'disconnectUser',
      userId: checkUserId(userId),
      tenantId: tenantId === undefined ? undefined : checkTenantId(tenantId),
      reason: checkReason(reason),
    };
    const here = this.#disconnectUser(request.userId, request.tenantId, reason);
    const elsewhere = this.#ask(request);
    return isThenable(elsewhere) ? elsewhere.then((count) => here + Number(count ?? 0)) : here;
  }

  /** Asks the inboxes of the other nodes; resolves to the sum of what they answer. */
  async askMailboxes(text: string): Promise<number> {
    return Number((await this.#ask({ call: 'mailboxes', text })) ?? 0);
  }

  /** On this node only: undefined where the client is not here. */
  run(request: ClusterCall): CallResult | Promise<CallResult> {
    if (request.call === 'mailboxes') return this.#host.askedMailboxes(request.text);
    if (request.call === 'disconnectUser') {
      return this.#disconnectUser(request.userId, request.tenantId, request.reason);
    }
    const client = this.#host.registry.clients.get(request.clientId);
    if (client === undefined) return undefined;
    switch (request.call) {
      case 'has': {
        const { tenantId } = request;
        // Another tenant's: nobody else has it either, but that is all that anybody is told.
        if (tenantId !== undefined && this.#host.membership.tenantOf(client) !== tenantId)
          throw unknownClient(client.id);
        return this.#host.arrivalOf(client.id)?.then(() => true) ?? true;
      }
      case 'disconnect':
        this.#host.end(client, request.reason);
        return true;
      case 'subscribe':
        return this.#subscribe(client, request.topic);
      case 'unsubscribe':
        return this.#host.membership.removeTopic(client, request.topic);
    }
  }

  #onClient(request: Exclude<ClusterCall, { call: 'disconnectUser' | 'mailboxes' }>): boolean | Promise<boolean> {
    const done = this.#call(request);
    return isThenable(done)
      ? done.then((value) => known(request.clientId, value) === true)
      : known(request.clientId, done) === true;
  }

  #call(request: ClusterCall): CallResult | Promise<CallResult> {
    const here = this.run(request);
    return here === undefined ? this.#ask(request) : here;
  }

  #ask(request: ClusterCall): undefined | Promise<CallResult> {
    const { cluster } = this.#host;
    if (cluster === undefined) return undefined;
    const started = this.#host.start();
    const asked = isThenable(started) ? started.then(() => cluster.ask(request)) : cluster.ask(request);
    return asked.catch((cause: unknown) => {
      throw busFailure('the other nodes could not be asked', cause);
    });
  }

  #subscribe(client: Client, topic: string): boolean | Promise<boolean> {
    const { options, membership } = this.#host;
    checkTopics(options, [...membership.topicsOf(client).filter((one) => one !== topic), topic]);
    const joined = membership.addTopic(client, topic);
    if (joined === undefined) return false;
    return joined.whenJoined === undefined ? true : this.#subscribed(client, topic, joined.whenJoined);
  }

  /** A topic that the bus could not join would be a silent one: it is taken away again. */
  async #subscribed(client: Client, topic: string, whenJoined: Promise<unknown>): Promise<boolean> {
    try {
      await whenJoined;
      return true;
    } catch (cause) {
      this.#host.membership.removeTopic(client, topic);
      throw busFailure('the bus could not join the topic', cause);
    }
  }

  #disconnectUser(userId: string, tenantId: string | undefined, reason: string | undefined): number {
    const clients = this.#host.registry.channel(userKey(userId, tenantId))?.members() ?? [];
    for (const client of clients) this.#host.end(client, reason);
    return clients.length;
  }
}

/**
 * Before anything is ended: what is not a string may have no JSON, and would leave the stream open behind a client that is gone.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
function checkReason(reason: unknown): string | undefined {
  if (reason === undefined || typeof reason === 'string') return reason;
  throw new SseError('SSE_ERR_INVALID_OPTION', `reason must be a string or left out; got ${shown(reason)}`);
}

/** @throws {SseError} `SSE_ERR_UNKNOWN_CLIENT` */
function known(clientId: string, value: CallResult): CallResult {
  if (value !== undefined) return value;
  throw unknownClient(clientId);
}

export function unknownClient(clientId: string): SseError {
  return new SseError('SSE_ERR_UNKNOWN_CLIENT', `no client ${shown(clientId)}: it has gone, or never was here`);
}
