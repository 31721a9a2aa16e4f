/**
 * Names and channel keys: what may be a user, topic, tenant or client name, and the internal string of an
 * audience. The registry and every bus know only channel keys.
 *
 * A key is `kind:tenant:name`. The tenant is percent-encoded, so it holds no colon and two audiences never
 * share a key; the name is last and stands as it is. An empty tenant means "in all tenants".
 */
import { type ErrorCode, SseError, shown } from './errors.js';

/** Whom one event is for. Without `tenant`: in every tenant. */
export type Audience =
  | { readonly kind: 'user'; readonly userId: string; readonly tenantId?: string | undefined }
  | { readonly kind: 'topic'; readonly topic: string; readonly tenantId?: string | undefined }
  | { readonly kind: 'client'; readonly clientId: string }
  | { readonly kind: 'everybody'; readonly tenantId?: string | undefined };

/** Longest name of a user, topic, tenant or client, in UTF-16 units. */
export const MAX_NAME_LENGTH = 256;

/**
 * Why `name` cannot be a name, or undefined where it can. Control characters break log lines, header values and other
 * carriers; a lone surrogate has no UTF-8. A loop: for names as short as they are, half of what an expression costs.
 */
export function nameProblem(name: unknown): string | undefined {
  if (typeof name !== 'string') return 'must be a string';
  const { length } = name;
  if (length === 0) return 'must not be empty';
  if (length > MAX_NAME_LENGTH) return `must have at most ${MAX_NAME_LENGTH} characters`;
  let hasSurrogates = false;
  for (let i = 0; i < length; i++) {
    const unit = name.charCodeAt(i);
    if (unit < 0x20 || unit === 0x7f) return 'must not contain control characters';
    if (unit >= 0xd800 && unit <= 0xdfff) hasSurrogates = true;
  }
  if (hasSurrogates && !name.isWellFormed()) return 'must be well-formed Unicode';
  return undefined;
}

function checkName(code: ErrorCode, what: string, name: unknown): string {
  const problem = nameProblem(name);
  if (problem !== undefined) throw new SseError(code, `${what} ${problem}; got ${shown(name)}`);
  return name as string;
}

/** @throws {SseError} `SSE_ERR_INVALID_USER` */
export const checkUserId = (name: unknown): string => checkName('SSE_ERR_INVALID_USER', 'userId', name);
/** @throws {SseError} `SSE_ERR_INVALID_TOPIC` */
export const checkTopic = (name: unknown): string => checkName('SSE_ERR_INVALID_TOPIC', 'topic', name);
/** @throws {SseError} `SSE_ERR_INVALID_TENANT` */
export const checkTenantId = (name: unknown): string => checkName('SSE_ERR_INVALID_TENANT', 'tenantId', name);
/** @throws {SseError} `SSE_ERR_INVALID_CLIENT` */
export const checkClientId = (name: unknown): string => checkName('SSE_ERR_INVALID_CLIENT', 'clientId', name);

/** The answer to anything about topics where `enableTopics` is false. */
export function topicsDisabled(): SseError {
  return new SseError('SSE_ERR_TOPICS_DISABLED', 'enableTopics is false: this broker has no topics');
}

// Most keys have no tenant; made in one step, and the most common of all not at all.
const EVERYBODY = 'e::';

export const userKey = (userId: string, tenantId?: string): string =>
  tenantId === undefined ? `u::${userId}` : `u:${encodeURIComponent(tenantId)}:${userId}`;
export const topicKey = (topic: string, tenantId?: string): string =>
  tenantId === undefined ? `t::${topic}` : `t:${encodeURIComponent(tenantId)}:${topic}`;
export const everybodyKey = (tenantId?: string): string =>
  tenantId === undefined ? EVERYBODY : `e:${encodeURIComponent(tenantId)}:`;
export const clientKey = (clientId: string): string => `c::${clientId}`;
/** What brokers say to each other: to one node, or to all where `nodeId` is empty. No client is ever on it. */
export const nodeKey = (nodeId: string): string => `n::${nodeId}`;

const CLIENT = 'c'.charCodeAt(0);
const NODE = 'n'.charCodeAt(0);

/** True for keys whose events are worth something only to who listens now: no bus stores them or tells a loss of them. */
export function isLiveOnly(key: string): boolean {
  const kind = key.charCodeAt(0);
  return kind === CLIENT || kind === NODE;
}

/** The audience that a channel key stands for: the inverse of the first four functions above. */
export function audienceOf(key: string): Audience {
  const colon = key.indexOf(':', 2);
  const encoded = key.slice(2, colon);
  const tenant = encoded === '' ? undefined : { tenantId: decodeURIComponent(encoded) };
  const name = key.slice(colon + 1);
  switch (key[0]) {
    case 'u':
      return { kind: 'user', userId: name, ...tenant };
    case 't':
      return { kind: 'topic', topic: name, ...tenant };
    case 'c':
      return { kind: 'client', clientId: name };
    default:
      return { kind: 'everybody', ...tenant };
  }
}
