/** Mistakes of a program that would otherwise be silent: they are said at construction, or in the `error` event. */
import { expect, test } from 'vitest';
import { createFetchHandler, queryAuthenticator, queryTopicResolver } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';

test('an expiresAt in seconds is told, instead of 401 for ever', async () => {
  const broker = makeBroker();
  const told: string[] = [];
  broker.on('error', (error) => told.push((error.cause as Error).message));
  const exp = Math.floor(Date.now() / 1_000) + 3_600;
  const handle = createFetchHandler(broker, { authenticator: () => ({ userId: 'alice', expiresAt: exp }) });
  expect((await handle(new Request('http://localhost/'))).status).toBe(500);
  expect(told).toEqual([`expiresAt of an identity must be ms since 1970; got ${exp}, which looks like seconds`]);
});

test.each([
  [
    () => queryAuthenticator({ userParam: 'user' } as object),
    /unknown option "userParam" of queryAuthenticator; known are/,
  ],
  [
    () => queryAuthenticator('user' as unknown as object),
    /options of queryAuthenticator must be an object; got "user"/,
  ],
  [() => queryAuthenticator({ userParameter: '' }), /userParameter must be a query parameter's name; got ""/],
  [
    () => queryTopicResolver({ param: 'topic' } as object),
    /unknown option "param" of queryTopicResolver; known are parameter/,
  ],
])('%s throws', (make, message) => {
  expect(make).toThrow(
    expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION', message: expect.stringMatching(message) }),
  );
});
