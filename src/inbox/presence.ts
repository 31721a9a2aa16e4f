/**
 * CONTRACT: who has a stream on any node, as an inbox asks it; for nodes whose bus does not tell them of each other, and for
 * processes that have no streams themselves.
 *
 * Obligations: `attach` says of this node's users from then on, until its undo, which resolves when that was taken back or could
 * not be. A node that dies is forgotten by itself. Neither holds up a stream or a send, and what goes wrong there is reported.
 */
import type { BrokerListener } from '../core/diagnostics.js';
import type { MailboxHost } from '../core/mailbox.js';

/** Whose streams there are. */
export interface PresenceSource {
  readonly nodeId: string;
  getClients(): Iterable<PresentClient>;
  on<Name extends 'clientConnected' | 'clientDisconnected'>(name: Name, listener: BrokerListener<Name>): unknown;
  off<Name extends 'clientConnected' | 'clientDisconnected'>(name: Name, listener: BrokerListener<Name>): unknown;
}

/** A client of a broker, as far as presence looks at it. */
export interface PresentClient {
  readonly id: string;
  readonly userId: string | undefined;
  readonly tenantId: string | undefined;
}

/** Tells nodes whose users are online elsewhere. */
export interface Presence {
  /** One broker at a time. */
  attach(source: PresenceSource, report: (error: unknown) => void): () => Promise<void>;
  /**
   * Whether the user has a stream on any node; in that tenant, or with `tenantId` undefined in any or none. Rejects where nobody can
   * say.
   */
  isOnline(userId: string, tenantId: string | undefined): Promise<boolean>;
}

/** As presence says; where there is none, or it cannot say, as the broker does. */
export async function isOnlineAnywhere(
  presence: Presence | undefined,
  host: Pick<MailboxHost, 'isOnline' | 'report'>,
  userId: string,
  tenantId: string | undefined,
): Promise<boolean> {
  try {
    if (presence !== undefined) return await presence.isOnline(userId, tenantId);
  } catch (error) {
    host.report(error);
  }
  return host.isOnline(userId, tenantId);
}
