/**
 * The end of a request whose client left in the middle of its response.
 *
 * Node destroys it with an error, and has the stack of that written out, although nobody gets the error unless somebody
 * listens. For a response that may take long that is how it always ends, and a twelfth of what a visit costs
 * (bench/README.md, "A stack that nobody reads"). Without the error nothing else changes: `aborted` and `close` come as ever.
 */
import { IncomingMessage } from 'node:http';

/** Node's own way to destroy a request, which is what nobody has put another in place of. */
const { destroy } = IncomingMessage.prototype;

function destroyQuietly(this: IncomingMessage, error?: Error): IncomingMessage {
  const isUnheard =
    (error as NodeJS.ErrnoException | undefined)?.code === 'ECONNRESET' && this.listenerCount('error') === 0;
  return destroy.call(this, isUnheard ? undefined : error) as IncomingMessage;
}

/** Spares `req` the error that its client has left, where it is Node's own and nobody listens for errors by then. */
export function endQuietly(req: IncomingMessage): void {
  if (req.destroy === destroy) req.destroy = destroyQuietly as typeof destroy;
}
