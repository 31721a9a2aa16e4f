/**
 * Data of the `connected` event. Every stream begins with it, so it is written out by hand: half of what JSON.stringify
 * costs (bench/README.md). The texts in it are names that were checked (topic.ts).
 */
import type { Identity } from './identity.js';

/** Times of the `connected` event, in ms. */
export interface ConnectedTimes {
  /** ms since 1970, by the broker's clock. */
  readonly serverTime: number;
  readonly heartbeatInterval: number;
  /** 0 where the stream says none. */
  readonly retry: number;
}

/** As JSON. */
export function connectedData(
  { id, identity }: { readonly id: string; readonly identity: Identity },
  topics: readonly string[],
  { serverTime, heartbeatInterval, retry }: ConnectedTimes,
): string {
  const { userId, tenantId } = identity;
  let list = '';
  for (const topic of topics) list += list === '' ? quoted(topic) : `,${quoted(topic)}`;
  return `{"clientId":${quoted(id)},"userId":${orNull(userId)},"tenantId":${orNull(tenantId)},"topics":[${list}],"serverTime":${serverTime},"heartbeatInterval":${heartbeatInterval},"retry":${retry}}`;
}

const orNull = (name: string | undefined): string => (name === undefined ? 'null' : quoted(name));

/** A name has no control characters and no lone surrogates, so only these two have to be escaped (RFC 8259, section 7). */
const quoted = (name: string): string =>
  name.includes('"') || name.includes('\\') ? JSON.stringify(name) : `"${name}"`;
