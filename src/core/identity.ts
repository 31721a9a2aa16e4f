/** Who a client is, as the application's authenticator says. */
export interface Identity {
  /** The user; without it the client is anonymous and gets topics and broadcasts only. */
  readonly userId?: string | undefined;
  /** The tenant; a client of one hears what is sent inside it and what is sent to all, never another tenant's. */
  readonly tenantId?: string | undefined;
  /** The login session or device, for the application's own use. */
  readonly sessionId?: string | undefined;
  /** ms since 1970 after which the stream ends; nothing published later reaches it. 0 or absent: never. */
  readonly expiresAt?: number | undefined;
  /** Whatever else the application knows, for `authorizeTopic` and listeners. Never sent to a client. */
  readonly claims?: Readonly<Record<string, unknown>> | undefined;
}

/** An identity without a user. */
export const ANONYMOUS: Identity = Object.freeze({});
