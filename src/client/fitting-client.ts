/** What a binding takes for a client of its own event map. */
import type { SSEClient } from './client.js';

/** A client whose events are `Events`. Where nothing is known of them, any client: this much all of them have in common. */
export type FittingClient<Events extends object> = string extends keyof Events
  ? Pick<SSEClient, 'connect' | 'destroy' | 'disconnect' | 'getStats' | 'getStatus' | 'reconnect'>
  : SSEClient<Events>;
