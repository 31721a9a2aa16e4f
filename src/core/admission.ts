/** Whether a client may connect: names, topics and limits. Changes nothing. */
import { SseError, shown } from './errors.js';
import type { Identity } from './identity.js';
import type { ResolvedOptions } from './options.js';
import type { PresenceDirectory } from './presence-directory.js';
import type { Registry } from './registry.js';
import { checkTenantId, checkTopic, checkUserId, topicsDisabled, userKey } from './topic.js';

/**
 * When a client that cannot be served now should come back, in ms: somewhere between one and three times the usual wait, so
 * that those who were turned away do not return as one.
 */
export function shedDelay({ retry }: Pick<ResolvedOptions, 'retry'>): number {
  return Math.round((retry || 3_000) * (1 + Math.random() * 2));
}

/** @throws {SseError} `SSE_ERR_TOPICS_DISABLED`, `SSE_ERR_TOO_MANY_TOPICS`, `SSE_ERR_INVALID_TOPIC` */
export function checkTopics(options: ResolvedOptions, topics: readonly string[]): void {
  // A string is a list of its letters to a loop.
  if (!Array.isArray(topics)) {
    throw new SseError('SSE_ERR_INVALID_TOPIC', `topics must be an array of names; got ${shown(topics)}`);
  }
  if (topics.length === 0) return;
  if (!options.enableTopics) throw topicsDisabled();
  const { maxTopicsPerClient } = options;
  if (maxTopicsPerClient > 0 && topics.length > maxTopicsPerClient) {
    throw new SseError(
      'SSE_ERR_TOO_MANY_TOPICS',
      `${topics.length} topics for one client, maxTopicsPerClient allows ${maxTopicsPerClient}`,
    );
  }
  for (const topic of topics) checkTopic(topic);
}

/**
 * `directory`: what knows the connections of other nodes, where they count.
 *
 * @throws {SseError} `SSE_ERR_TOO_MANY_CONNECTIONS`, `SSE_ERR_TOO_MANY_USER_CONNECTIONS`, `SSE_ERR_INVALID_USER`,
 * `SSE_ERR_INVALID_TENANT`, `SSE_ERR_UNAUTHENTICATED`, and those of {@link checkTopics}
 */
export function checkAdmission(
  options: ResolvedOptions,
  registry: Registry,
  { userId, tenantId, expiresAt = 0 }: Identity,
  topics: readonly string[],
  directory: PresenceDirectory | undefined,
): void {
  const { maxConnections, maxConnectionsPerUser } = options;
  if (tenantId !== undefined) checkTenantId(tenantId);
  if (userId !== undefined) checkUserId(userId);
  // Whatever is no number of the future: a stream that never ends would be the worse mistake.
  if (expiresAt !== 0 && !(typeof expiresAt === 'number' && expiresAt > options.clock.now())) {
    throw new SseError('SSE_ERR_UNAUTHENTICATED', `the identity expired at ${shown(expiresAt)}, in ms since 1970`);
  }
  checkTopics(options, topics);
  if (maxConnections > 0 && registry.clients.size >= maxConnections) {
    throw new SseError('SSE_ERR_TOO_MANY_CONNECTIONS', `maxConnections is ${maxConnections}; try again later`);
  }
  if (maxConnectionsPerUser === 0 || userId === undefined) return;
  const here = registry.channel(userKey(userId, tenantId))?.owners ?? 0;
  if (Math.max(here, directory?.connectionsOf(userId, tenantId) ?? 0) >= maxConnectionsPerUser) {
    throw new SseError(
      'SSE_ERR_TOO_MANY_USER_CONNECTIONS',
      `maxConnectionsPerUser is ${maxConnectionsPerUser}; close another stream of this user first`,
    );
  }
}
