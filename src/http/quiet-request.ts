/**
 * The end of a request whose client left in the middle of its response.
 *
 * Node destroys it with an error, and has the stack of that written out, although nobody gets the error unless somebody
 * listens. For a response that may take long that is how it always ends, and a twelfth of what a visit costs
 * (bench/README.md, "A stack that nobody reads"). Whoever asks later (`req.errored`, `finished(req)`) is told the same, with a
 * stack that was written once.
 */
import { IncomingMessage } from 'node:http';

/** Node's own way to destroy a request, which is what nobody has put another in place of. */
const { destroy } = IncomingMessage.prototype;

/** As Node makes it, but for where its stack begins. */
const ABORTED: NodeJS.ErrnoException = Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
// Written out now, and kept.
void ABORTED.stack;

function isAborted(error: NodeJS.ErrnoException | undefined): boolean {
  return error?.code === ABORTED.code && error?.message === ABORTED.message;
}

function destroyQuietly(this: IncomingMessage, error?: Error): IncomingMessage {
  const isUnheard = isAborted(error) && this.listenerCount('error') === 0;
  // One of its own for each request: applications put things on errors.
  return destroy.call(this, isUnheard ? Object.create(ABORTED) : error) as IncomingMessage;
}

/** Spares `req` the stack of the error that its client has left, where it is Node's own and nobody listens for errors by then. */
export function endQuietly(req: IncomingMessage): void {
  if (req.destroy === destroy) req.destroy = destroyQuietly as typeof destroy;
}
