/** How the request of a stream ends when its client leaves: as ever for whoever listens or asks, without a stack that nobody reads. */
import { IncomingMessage } from 'node:http';
import { finished } from 'node:stream/promises';
import { expect, onTestFinished, test } from 'vitest';
import { createHandler, queryAuthenticator } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { connectRaw } from '../support/raw.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';

/** A stream whose client leaves; gives what `watch` has seen of its request by the end. */
async function leave(
  watch: (req: IncomingMessage, seen: string[]) => void,
  cut: 'end' | 'reset' | ((req: IncomingMessage) => void),
): Promise<string[]> {
  const broker = makeBroker();
  const handler = createHandler(broker, { authenticator: queryAuthenticator() });
  const seen: string[] = [];
  let isClosed = false;
  let request: IncomingMessage | undefined;
  const server = await serve((req, res) => {
    request = req;
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
  else if (cut === 'reset') connection.socket.resetAndDestroy();
  else cut(request!);
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

test('who asks afterwards is told that it was cut', async () => {
  const seen = await leave((req, seen) => {
    req.on('close', () => {
      const { code, message, stack } = req.errored as NodeJS.ErrnoException;
      seen.push(`${code}, ${message}, ${stack?.startsWith('Error: aborted')}`);
      finished(req).catch((error: unknown) => seen.push(`the same: ${error === req.errored}`));
    });
    req.on('aborted', () => req.on('error', ({ message }) => seen.push(`heard late: ${message}`)));
  }, 'end');
  expect(seen).toContain('ECONNRESET, aborted, true');
  expect(seen).toContain('heard late: aborted');
  await until(() => seen.includes('the same: true'), 'finished to tell it');
});

test("an error of the application's own is given as it is", async () => {
  const own = Object.assign(new Error('the other side left'), { code: 'ECONNRESET' });
  let given: Error | null = null;
  const watch = (req: IncomingMessage) =>
    req.on('aborted', () => {
      given = req.errored;
    });
  await leave(watch, (req) => req.destroy(own));
  expect(given).toBe(own);
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
