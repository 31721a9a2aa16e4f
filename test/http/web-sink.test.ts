/** The sink of web streams keeps the contract of sink.ts, whatever its reader does. */
import { expect, test } from 'vitest';
import { controlFrame } from '../../src/core/frame.js';
import { WebSink } from '../../src/http/web-sink.js';
import type { SinkOwner } from '../../src/index.js';
import { until } from '../support/until.js';

function opened(signal?: AbortSignal) {
  const sink = new WebSink(undefined, signal && { signal });
  const calls: string[] = [];
  let depth = 0;
  const owner: SinkOwner = {
    drained: () => calls.push(depth > 0 ? 'drained inside' : 'drained'),
    closed: (cause) =>
      calls.push(`closed${depth > 0 ? ' inside' : ''}${cause === undefined ? '' : ` ${cause.message}`}`),
  };
  sink.open(owner);
  /** Calls the sink as the broker does, and notices what is called back from inside. */
  const within = <T>(call: () => T): T => {
    depth++;
    try {
      return call();
    } finally {
      depth--;
    }
  };
  return {
    sink,
    calls,
    write: (text: string) => within(() => sink.write(controlFrame({ data: text }))),
    end: (text?: string) => within(() => sink.end(text === undefined ? undefined : controlFrame({ data: text }))),
    destroy: () => within(() => sink.destroy()),
  };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const textOf = (value: Uint8Array | undefined) => new TextDecoder().decode(value);

test('takes what fits, is full once, and tells when there is room again, once', async () => {
  const { sink, calls, write } = opened();
  const reader = sink.body.getReader();
  expect(write('a'.repeat(10_000))).toBe(true);
  expect(write('b'.repeat(10_000))).toBe(false);
  // Of the broker's own, past the queue: refused as well, but nothing is lost and nothing told twice.
  expect(write('c')).toBe(false);
  const progress = sink.progress();
  await turn();
  expect(calls).toEqual([]);
  expect(textOf((await reader.read()).value)).toContain('aaa');
  await until(() => calls.length > 0, 'room');
  expect(sink.progress()).not.toBe(progress);
  expect(textOf((await reader.read()).value)).toContain('bbb');
  expect(textOf((await reader.read()).value)).toBe('data: c\n\n');
  await turn();
  expect(calls).toEqual(['drained']);
});

test('a reader that took something, but not enough to have room, has progressed', async () => {
  const { sink, write } = opened();
  const reader = sink.body.getReader();
  write('a'.repeat(10_000));
  expect(write('b'.repeat(1_000_000))).toBe(false);
  const progress = sink.progress();
  await reader.read();
  expect(sink.progress()).not.toBe(progress);
});

test('a reader that waits gets what is written at once, and holds nothing back', async () => {
  const { sink, write } = opened();
  const reader = sink.body.getReader();
  for (let n = 0; n < 100; n++) {
    const read = reader.read();
    expect(write('x'.repeat(16_000))).toBe(true);
    expect(textOf((await read).value)).toHaveLength(16_008);
  }
});

test('each reader has bytes of its own: one that changes or transfers them changes nothing for others', async () => {
  const frame = controlFrame({ data: 'shared' });
  const one = opened();
  const two = opened();
  one.sink.write(frame);
  two.sink.write(frame);
  const { value } = await one.sink.body.getReader().read();
  structuredClone(value!.buffer, { transfer: [value!.buffer as ArrayBuffer] });
  expect(value!.byteLength).toBe(0);
  expect(textOf((await two.sink.body.getReader().read()).value)).toBe('data: shared\n\n');
  expect(frame.payload.toString()).toBe('data: shared\n\n');
});

test('end: a reader that is behind still gets everything, and only then the stream is closed', async () => {
  const { sink, calls, write, end } = opened();
  const reader = sink.body.getReader();
  for (let n = 0; n < 5; n++) write(`${n} ${'x'.repeat(10_000)}`);
  end('last');
  await turn();
  expect(calls).toEqual([]);
  const texts: string[] = [];
  while (texts.length < 6) {
    // Not told while there is something to read.
    expect(calls).toEqual([]);
    texts.push(textOf((await reader.read()).value));
    await turn();
  }
  expect((await reader.read()).done).toBe(true);
  expect(texts.map((text) => text.slice(6, 7))).toEqual(['0', '1', '2', '3', '4', 'l']);
  await turn();
  expect(calls).toEqual(['closed']);
});

test('end with nothing to read closes soon, but not from inside', async () => {
  const { sink, calls, end } = opened();
  end();
  expect(calls).toEqual([]);
  await turn();
  expect(calls).toEqual(['closed']);
  expect(await sink.body.getReader().read()).toEqual({ value: undefined, done: true });
});

test('whatever is called twice, or too late, does nothing and throws nothing', async () => {
  let abort = new AbortController();
  const orders: ((calls: ReturnType<typeof opened>) => void)[] = [
    ({ end, write }) => [end('1'), end('2'), write('3')],
    ({ end, destroy, write }) => [end('1'), destroy(), destroy(), end('2'), write('3')],
    ({ destroy, end, write }) => [destroy(), write('1'), end('2'), destroy()],
    ({ end, sink }) => [end('1'), sink.body.cancel()],
    ({ destroy, sink }) => [destroy(), sink.body.cancel().catch(() => {})],
    ({ end }) => [end(), abort.abort()],
    ({ destroy }) => [destroy(), abort.abort()],
    ({ write, destroy }) => [write('1'), abort.abort(), destroy(), write('2')],
  ];
  for (const order of orders) {
    abort = new AbortController();
    const all = opened(abort.signal);
    order(all);
    await turn();
    const { sink, calls, write, end, destroy } = all;
    if (!sink.body.locked && calls.length === 0) await sink.body.cancel();
    await turn();
    expect(write('late')).toBe(true);
    end('late');
    destroy();
    await turn();
    expect(calls).toEqual(['closed']);
  }
});

test('a reader that cancels is gone, in the middle and while its end is under way', async () => {
  for (const isEnding of [false, true]) {
    const { sink, calls, write, end } = opened();
    const reader = sink.body.getReader();
    write('x'.repeat(50_000));
    if (isEnding) end('last');
    await reader.cancel('enough');
    expect(calls).toEqual(['closed']);
  }
});

test('destroy: the reader gets an error, not an end', async () => {
  const { sink, calls, write, destroy } = opened();
  const reader = sink.body.getReader();
  write('x');
  destroy();
  await expect(reader.read()).rejects.toThrow('cut by the server');
  expect(calls).toEqual(['closed']);
});

test('a request that aborts ends the body, so that nobody waits for it, and keeps no hold of the signal', async () => {
  const abort = new AbortController();
  const one = opened(abort.signal);
  const reading = one.sink.body.getReader().read();
  abort.abort();
  expect(one.calls).toEqual(['closed']);
  expect(await reading).toEqual({ value: undefined, done: true });

  const signal = new AbortController().signal;
  let listeners = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...args: Parameters<AbortSignal['addEventListener']>) => {
    listeners++;
    addEventListener.apply(signal, args);
  };
  signal.removeEventListener = (...args: Parameters<AbortSignal['removeEventListener']>) => {
    listeners = 0;
    removeEventListener.apply(signal, args);
  };
  for (const leave of [
    (all: ReturnType<typeof opened>) => all.end(),
    (all: ReturnType<typeof opened>) => all.destroy(),
    (all: ReturnType<typeof opened>) => all.sink.body.cancel(),
  ]) {
    const all = opened(signal);
    expect(listeners).toBe(1);
    await leave(all);
    await turn();
    expect(listeners).toBe(0);
  }
});
