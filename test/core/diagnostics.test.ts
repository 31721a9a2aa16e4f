import { expect, test } from 'vitest';
import { Diagnostics, isThenable } from '../../src/core/diagnostics.js';
import { SseError } from '../../src/core/errors.js';
import type { Logger } from '../../src/core/options.js';
import { makeBroker } from '../support/broker.js';
import { collectWarnings } from '../support/warnings.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const silent: Logger = { warn: () => {}, error: () => {} };

function listening(logger: Logger = silent) {
  const diagnostics = new Diagnostics(logger);
  const reported: [SseError, string][] = [];
  diagnostics.on('error', (error, origin) => reported.push([error as SseError, origin as string]));
  const emit = () => diagnostics.emit('requestRefused', { code: 'SSE_ERR_INTERNAL', status: 500 });
  return { diagnostics, reported, emit };
}

const failures: [string, (cause: unknown) => unknown][] = [
  [
    'throws',
    (cause) => {
      throw cause;
    },
  ],
  ['rejects', (cause) => Promise.reject(cause)],
  [
    'gives a thenable that throws',
    (cause) => ({
      // biome-ignore lint/suspicious/noThenProperty: what is tested
      then() {
        throw cause;
      },
    }),
  ],
];

test.each(failures)('a listener that %s fails alone: the others are called, and its error is told', async (_, fail) => {
  const { diagnostics, reported, emit } = listening();
  const cause = new Error('mine');
  const called: number[] = [];
  diagnostics.on('requestRefused', () => called.push(1));
  diagnostics.on('requestRefused', () => fail(cause));
  diagnostics.on('requestRefused', () => called.push(2));
  expect(emit).not.toThrow();
  expect(called).toEqual([1, 2]);
  await turn();
  expect(reported.length).toBe(1);
  expect(reported[0]![0]).toMatchObject({ code: 'SSE_ERR_LISTENER_FAILED', cause });
  expect(reported[0]![1]).toBe('listener');
  expect(diagnostics.errors).toBe(1);
});

test.each(failures)('an error listener that %s is counted, and not called for its own error', async (_, fail) => {
  const { diagnostics, reported } = listening();
  let calls = 0;
  diagnostics.on('error', () => {
    calls++;
    return fail(new Error('mine'));
  });
  diagnostics.on('error', () => calls++);
  diagnostics.report(new Error('first'), 'bus');
  await turn();
  expect(calls).toBe(2);
  expect(reported.length).toBe(1);
  expect(diagnostics.errors).toBe(2);
});

test('a logger that throws harms nobody', () => {
  const { diagnostics, reported } = listening({
    warn: () => {
      throw new Error('disk full');
    },
    error: () => {
      throw new Error('disk full');
    },
  });
  expect(() => diagnostics.report(new Error('x'), 'bus')).not.toThrow();
  expect(() => diagnostics.warn('careful', {})).not.toThrow();
  expect(reported.length).toBe(1);
});

test('a logger gets the code and the origin, and nothing that could hold a token', () => {
  const lines: unknown[] = [];
  const diagnostics = new Diagnostics({ warn: () => {}, error: (...line) => lines.push(line) });
  diagnostics.report(new Error('Bearer secret'), 'authenticator', 'SSE_ERR_UNAUTHENTICATED');
  expect(lines.length).toBe(1);
  expect(JSON.stringify(lines)).toContain('SSE_ERR_UNAUTHENTICATED');
  expect(JSON.stringify(lines)).not.toContain('secret');
});

test('with nobody listening and no logger the process is warned, once, without the message', async () => {
  const warnings = collectWarnings();
  const diagnostics = new Diagnostics(undefined);
  diagnostics.report(new Error('Bearer secret'), 'authenticator', 'SSE_ERR_UNAUTHENTICATED');
  diagnostics.report(new Error('again'), 'bus');
  await turn();
  expect(warnings.length).toBe(1);
  expect(warnings[0]).toContain('SSE_ERR_UNAUTHENTICATED, authenticator');
  expect(warnings[0]).not.toContain('secret');
  expect(diagnostics.errors).toBe(2);
});

test('an SseError is told as it is, anything else as the cause of one', () => {
  const { diagnostics, reported } = listening();
  const own = new SseError('SSE_ERR_INVALID_DATA', 'x');
  diagnostics.report(own, 'publish', 'SSE_ERR_BUS_UNAVAILABLE');
  diagnostics.report('a string', 'bus', 'SSE_ERR_BUS_UNAVAILABLE');
  diagnostics.report(undefined, 'handler');
  expect(reported[0]![0]).toBe(own);
  expect(reported[1]![0]).toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE', cause: 'a string' });
  expect(reported[2]![0]).toMatchObject({ code: 'SSE_ERR_INTERNAL' });
});

test('once is once, also where it throws or listens to the event that it causes', () => {
  const { diagnostics, emit } = listening();
  let calls = 0;
  diagnostics.once('requestRefused', () => {
    calls++;
    emit();
    throw new Error('x');
  });
  emit();
  emit();
  expect(calls).toBe(1);
  expect(diagnostics.listenerCount('requestRefused')).toBe(0);
});

test('off undoes on and once, of that event only, and of an unknown listener nothing', () => {
  const { diagnostics, emit } = listening();
  let calls = 0;
  const listener = () => calls++;
  diagnostics.on('requestRefused', listener);
  diagnostics.once('requestRefused', listener);
  diagnostics.on('eventPublished', listener);
  diagnostics.off('requestRefused', () => {});
  expect(diagnostics.listenerCount('requestRefused')).toBe(2);
  diagnostics.off('requestRefused', listener);
  emit();
  expect(calls).toBe(0);
  expect(diagnostics.listenerCount('requestRefused')).toBe(0);
  expect(diagnostics.listenerCount('eventPublished')).toBe(1);
  diagnostics.on('requestRefused', listener);
  emit();
  expect(calls).toBe(1);
});

test('a listener may take itself and others away while it is called', () => {
  const { diagnostics, emit } = listening();
  const called: string[] = [];
  const second = () => called.push('second');
  const first = () => {
    called.push('first');
    diagnostics.off('requestRefused', first);
    diagnostics.off('requestRefused', second);
  };
  diagnostics.on('requestRefused', first);
  diagnostics.on('requestRefused', second);
  diagnostics.on('requestRefused', () => called.push('third'));
  emit();
  expect(called).toContain('third');
  called.length = 0;
  emit();
  expect(called).toEqual(['third']);
});

test('a listener that is not a function is refused where it is given', () => {
  const { diagnostics } = listening();
  for (const listener of [undefined, null, {}, 'f']) {
    expect(() => diagnostics.on('error', listener as never)).toThrow(
      expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION' }),
    );
    expect(() => diagnostics.once('error', listener as never)).toThrow();
    expect(() => diagnostics.off('error', listener as never)).not.toThrow();
  }
});

test('a thenable is anything with a then', () => {
  // biome-ignore lint/suspicious/noThenProperty: what is tested
  const thenables = [Promise.resolve(), { then: () => {} }];
  expect(thenables.map(isThenable)).toEqual([true, true]);
  expect([undefined, null, 7, 'x', {}, () => {}].map(isThenable)).toEqual([false, false, false, false, false, false]);
});

test('a listener of error whose own sends are rejected does not keep the process from everything else', async () => {
  const broker = makeBroker();
  await broker.close();
  let calls = 0;
  // A listener may send, and here each of its sends is one more error.
  broker.on('error', () => {
    if (++calls === 1_000_000) throw new Error('nothing else ever got a turn');
    broker.broadcast('log', 'an error');
  });
  broker.broadcast('note', 1);
  await turn();
  expect(calls).toBe(10_000);
  // The next turn begins anew.
  await turn();
  broker.broadcast('note', 2);
  await turn();
  expect(calls).toBe(20_000);
});
