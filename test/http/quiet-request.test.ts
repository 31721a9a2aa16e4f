/** How the request of a stream ends when its client leaves: as ever for whoever listens, without an error that nobody hears. */
import { IncomingMessage } from 'node:http';
import { expect, onTestFinished, test } from 'vitest';
import { createHandler, queryAuthenticator } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { connectRaw } from '../support/raw.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';

/** A stream whose client leaves; gives what `watch` has seen of its request by the end. */
async function leave(watch: (req: IncomingMessage, seen: string[]) => void, cut: 'end' | 'reset'): Promise<string[]> {
  const broker = makeBroker();
  const handler = createHandler(broker, { authenticator: queryAuthenticator() });
  const seen: string[] = [];
  let isClosed = false;
  const server = await serve((req, res) => {
    watch(req, seen);
    res.on('close', () => seen.push(`response, ${res.writableFinished ? 'finished' : 'cut'}`));
    req.on('close', () => {
      seen.push(`close, ${req.destroyed ? 'destroyed' : 'open'}`);
      isClosed = true;
    });
    void handler(req, res);
  });
  const connection = await connectRaw(server.port);
  connection.get('/?user_id=anna');
  await connection.has('connected');
  if (cut === 'end') connection.socket.end();
  else connection.socket.resetAndDestroy();
  await until(() => isClosed && broker.getStats().totalClients === 0, 'the request to close');
  return seen;
}

/** Messages of errors whose stack is written out, by whomever. */
function stacksWritten(): string[] {
  const messages: string[] = [];
  const { prepareStackTrace } = Error;
  Error.prepareStackTrace = (error) => {
    messages.push(error.message);
    return `${error}`;
  };
  onTestFinished(() => {
    if (prepareStackTrace === undefined) delete (Error as { prepareStackTrace?: unknown }).prepareStackTrace;
    else Error.prepareStackTrace = prepareStackTrace;
  });
  return messages;
}

test.each(['end', 'reset'] as const)('no stack is written out where nobody listens for errors (%s)', async (cut) => {
  const stacks = stacksWritten();
  const seen = await leave((req, seen) => req.on('aborted', () => seen.push('aborted')), cut);
  expect(seen).toEqual(['aborted', 'response, cut', 'close, destroyed']);
  expect(stacks).not.toContain('aborted');
});

test('who listens for errors gets it', async () => {
  const seen = await leave((req, seen) => {
    req.on('error', ({ message, code }: NodeJS.ErrnoException) => seen.push(`${message}, ${code}`));
  }, 'end');
  expect(seen).toEqual(['response, cut', 'aborted, ECONNRESET', 'close, destroyed']);
});

test('a request that somebody has put a `destroy` of their own on keeps it', async () => {
  const seen = await leave((req, seen) => {
    req.destroy = function destroy(this: IncomingMessage, error?: Error) {
      seen.push(`theirs, ${error?.message}`);
      return IncomingMessage.prototype.destroy.call(this, error) as IncomingMessage;
    };
  }, 'end');
  expect(seen[0]).toBe('theirs, aborted');
});
