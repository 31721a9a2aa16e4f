/** What a failure inside becomes for the caller of the API, and for the operator. */
import { expect, test } from 'vitest';
import { errorAnswer } from '../../src/api/errors.js';
import { storeError } from '../../src/inbox/sql-connection.js';
import { SseError } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';

test.each([
  ['a database', () => storeError(new Error('connect ECONNREFUSED 10.1.2.3:5432')), 503],
  [
    'a bus',
    () => new SseError('SSE_ERR_BUS_UNAVAILABLE', 'connect ECONNREFUSED 10.1.2.3:6379', { cause: new Error('down') }),
    503,
  ],
  [
    'a database that has tables of a newer version',
    () => new SseError('SSE_ERR_STORE_UNUSABLE', 'the tables secret_inbox are of version 9'),
    503,
  ],
  ['a file', () => new SseError('SSE_ERR_HISTORY_UNUSABLE', 'cannot use /srv/secret/history.db'), 503],
  ['something else', () => new Error('secret'), 500],
] as const)('where %s fails, the caller is told no address and no more than its code', (_, make, status) => {
  const broker = makeBroker();
  const told: unknown[] = [];
  broker.on('error', (error) => told.push(error));
  const answer = errorAnswer(broker, make());
  expect(answer.status).toBe(status);
  expect(answer.body).not.toMatch(/ECONNREFUSED|10\.1|secret/);
  // A bus says itself that it is down.
  if (!/SSE_ERR_(BUS|HISTORY)/.test(answer.body)) expect(told).toHaveLength(1);
});
