import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { ERROR_CODES, isSseError, SseError, shown } from '../../src/core/errors.js';

interface Documented {
  readonly status: number | undefined;
  readonly retryable: boolean;
  readonly text: string;
}

/** The sections of docs/reference/errors.md, by code. */
async function documented(): Promise<Map<string, Documented>> {
  const text = await readFile(new URL('../../docs/reference/errors.md', import.meta.url), 'utf8');
  const sections = text.split(/^### /m).slice(1);
  return new Map(
    sections.map((section) => {
      const code = section.slice(0, section.indexOf('\n')).trim();
      const status = /^- Status: (\d{3}|none)$/m.exec(section)?.[1];
      const retryable = /^- Retryable: (yes|no)$/m.exec(section)?.[1];
      if (status === undefined || retryable === undefined)
        throw new Error(`${code} lacks its status or retryable line`);
      return [
        code,
        { status: status === 'none' ? undefined : Number(status), retryable: retryable === 'yes', text: section },
      ];
    }),
  );
}

test('docs/reference/errors.md has a section for every code and for no other, in the order of the table', async () => {
  expect([...(await documented()).keys()]).toEqual(Object.keys(ERROR_CODES));
});

test('docs/reference/errors.md gives each code the status and the retryable answer that the code gives', async () => {
  for (const [code, { status, retryable, text }] of await documented()) {
    const error = new SseError(code as keyof typeof ERROR_CODES, 'x');
    expect({ code, status: error.status, retryable: error.retryable }).toEqual({ code, status, retryable });
    expect(text, `${code} says when it comes and what to do`).toMatch(/^- When: .+\n(.+\n)*- What to do: .+/m);
  }
});

test('an error carries code, status, retryable, cause and name', () => {
  const cause = new Error('underneath');
  const error = new SseError('SSE_ERR_BUS_UNAVAILABLE', 'the bus is down', { cause });
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({
    name: 'SseError',
    code: 'SSE_ERR_BUS_UNAVAILABLE',
    message: 'the bus is down',
    status: 503,
    retryable: true,
    cause,
  });
  expect('cause' in new SseError('SSE_ERR_INTERNAL', 'x')).toBe(false);
});

test('status and retryable can be another than those of the code', () => {
  const error = new SseError('SSE_ERR_UNAUTHENTICATED', 'x', { status: 407, retryable: true });
  expect(error).toMatchObject({ status: 407, retryable: true });
});

test('an error is recognised by its brand, also one of another copy of this package', () => {
  const foreign = Object.assign(new Error('x'), { [Symbol.for('sse-broker.error')]: true });
  expect(isSseError(new SseError('SSE_ERR_INTERNAL', 'x'))).toBe(true);
  expect(isSseError(foreign)).toBe(true);
  for (const other of [new Error('x'), { code: 'SSE_ERR_INTERNAL' }, null, undefined, 'x', 7, () => {}]) {
    expect(isSseError(other)).toBe(false);
  }
});

test('the brand does not show where an error is logged or copied', () => {
  const error = new SseError('SSE_ERR_INTERNAL', 'x');
  expect(Object.getOwnPropertySymbols({ ...error })).toEqual([]);
});

test('a value in a message is short, on one line, and of any type', () => {
  const shownAs: [unknown, string][] = [
    ['a"b\n', '"a\\"b\\n"'],
    ['x'.repeat(100), `"${'x'.repeat(60)}…"`],
    [12n, '12n'],
    [[1, 2], 'an array'],
    [{ token: 'secret' }, 'an object'],
    [Object.create(null), 'an object'],
    [() => {}, 'a function'],
    [Symbol('s'), 'Symbol(s)'],
    [null, 'null'],
    [undefined, 'undefined'],
    [Number.NaN, 'NaN'],
  ];
  for (const [value, text] of shownAs) expect(shown(value)).toBe(text);
});

test('a code that is none, as JavaScript may have it, makes an error all the same', () => {
  const error = new SseError('SSE_ERR_NOPE' as never, 'nope');
  expect(error).toMatchObject({ code: 'SSE_ERR_NOPE', message: 'nope', status: undefined, retryable: false });
});

test('what throws when it is looked at is no SseError, and harms nobody', () => {
  const hostile = new Proxy(
    {},
    {
      get() {
        throw new Error('do not look at me');
      },
    },
  );
  expect(isSseError(hostile)).toBe(false);
});
