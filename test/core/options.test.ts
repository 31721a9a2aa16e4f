import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { type BrokerOptions, resolveOptions } from '../../src/core/options.js';
import { Broker, createHandler, DEFAULT_OPTIONS, isSseError, MemoryBus } from '../../src/index.js';

/** Rows of the tables below a heading of docs/reference/options.md: the cells as they stand there. */
async function tables(heading: string): Promise<string[][][]> {
  const text = await readFile(new URL('../../docs/reference/options.md', import.meta.url), 'utf8');
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`no section ${heading}`);
  return [...section.matchAll(/(?:^\|.*\|$\n?)+/gm)].map(([table]) =>
    table
      .trim()
      .split('\n')
      .slice(2)
      .map((row) =>
        row
          .split(/(?<!\\)\|/)
          .slice(1, -1)
          .map((cell) => cell.trim()),
      ),
  );
}

const nameIn = (cell: string): string => /^`(.+)`$/.exec(cell)?.[1] ?? cell;

/** `256`, `true`, `'disconnect'` in a cell, as a value. */
const valueIn = (cell: string): unknown => JSON.parse(nameIn(cell).replaceAll("'", '"'));

test('the table in docs/reference/options.md is DEFAULT_OPTIONS: names, values and order', async () => {
  const [table] = await tables('Broker');
  const documented = table!.map(([name, value]) => [nameIn(name!), valueIn(value!)]);
  expect(documented).toEqual(Object.entries(DEFAULT_OPTIONS));
});

test('every option of the broker is documented, and every documented one exists', async () => {
  const documented = (await tables('Broker')).flat().map(([name]) => nameIn(name!));
  expect(documented.toSorted()).toEqual(knownOptions(() => new Broker({ nonsense: 1 } as never)).toSorted());
});

test('every option of the handlers is documented, and every documented one exists', async () => {
  const documented = (await tables('Handlers')).flat().map(([name]) => nameIn(name!));
  const construct = () => createHandler(new Broker(), { nonsense: 1 } as never);
  expect(documented).toEqual(knownOptions(construct));
});

/** The names that the message for an unknown option lists. */
function knownOptions(construct: () => unknown): string[] {
  try {
    construct();
  } catch (error) {
    return (error as Error).message.split('known are ')[1]!.split(', ');
  }
  throw new Error('an unknown option was accepted');
}

test('without options, and with undefined ones, the defaults are in force', () => {
  expect(resolveOptions()).toMatchObject(DEFAULT_OPTIONS);
  expect(resolveOptions({ retry: undefined, bus: undefined, serialize: undefined })).toMatchObject(DEFAULT_OPTIONS);
  expect(resolveOptions({ retry: 0 })).toMatchObject({ ...DEFAULT_OPTIONS, retry: 0 });
});

test('options in force cannot be changed, neither ours nor through the object that was given', () => {
  const given: BrokerOptions = { retry: 1 };
  const broker = new Broker(given);
  given.retry = 2;
  expect(broker.options.retry).toBe(1);
  expect(Object.isFrozen(broker.options)).toBe(true);
  expect(Object.isFrozen(DEFAULT_OPTIONS)).toBe(true);
});

const notACount = [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, '1', null, true, [], {}, 1n, Symbol('s')];
const notADuration = [...notACount, 2 ** 31];
const notAFlag = [0, 1, 'true', null, {}];
const notAFunction = [null, 'JSON.stringify', {}, 1];
const notAnObject = [null, {}, 'x', 1, () => {}];

const NONSENSE: Record<keyof BrokerOptions, readonly unknown[]> = {
  bus: [...notAnObject, { start: () => {} }, MemoryBus],
  clientBufferSize: notACount,
  clientBufferBytes: notACount,
  overflow: ['', 'drop', 'Disconnect', 1, null, ['disconnect']],
  flush: ['', 'now', 1, null],
  maxFlushDelay: notADuration,
  heartbeatInterval: notADuration,
  heartbeatMode: ['', 'comments', null, true],
  clientTimeout: notADuration,
  maxConnectionAge: notADuration,
  enableTopics: notAFlag,
  maxConnections: notACount,
  maxConnectionsPerUser: notACount,
  connectionLimitScope: ['', 'nodes', 1, null, true],
  maxTopicsPerClient: notACount,
  maxEventBytes: notACount,
  retry: notADuration,
  connectedEvent: notAFlag,
  historySize: notACount,
  historyBytes: notACount,
  historyTtl: notADuration,
  maxReplayEvents: notACount,
  cluster: notAFlag,
  nodeName: ['', 'a\nb', 'x'.repeat(257), 1, null, {}],
  nodeTimeout: [...notADuration, 0, 99],
  nodeAnswerTimeout: [...notADuration, 0],
  presenceGrace: notADuration,
  maxPresence: notACount,
  serialize: notAFunction,
  createId: notAFunction,
  clock: [...notAnObject, Date, { now: () => 0, monotonic: () => 0 }],
  logger: [...notAnObject, { warn: () => {} }],
};

function refusalOf(options: unknown): { message: string } {
  try {
    new Broker(options as BrokerOptions);
  } catch (error) {
    expect(isSseError(error)).toBe(true);
    expect(error).toMatchObject({ code: 'SSE_ERR_INVALID_OPTION' });
    return error as Error;
  }
  throw new Error('accepted');
}

test('nonsense is known for every option', () => {
  expect(Object.keys(NONSENSE).toSorted()).toEqual(knownOptions(() => new Broker({ nonsense: 1 } as never)).toSorted());
});

test.each(Object.entries(NONSENSE))(
  'nonsense as %s throws and names the option, the value and what is allowed',
  (option, values) => {
    for (const value of values) {
      const { message } = refusalOf({ [option]: value, ...(option === 'maxFlushDelay' ? { flush: 'adaptive' } : {}) });
      expect(message).toMatch(new RegExp(`^${option} must be .+; got .+`));
      expect(message).not.toContain('\n');
    }
  },
);

test('an unknown option throws and names those there are', () => {
  const { message } = refusalOf({ heartbeat: 1_000 });
  expect(message).toContain('"heartbeat"');
  expect(message).toContain('heartbeatInterval');
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    expect(refusalOf(JSON.parse(`{"${name}": 1}`)).message).toContain('unknown option');
  }
});

test('something else than an object throws', () => {
  for (const options of [null, 'x', 7, true]) expect(refusalOf(options).message).toMatch(/^options must be an object/);
});

test.each([
  ['a timeout below two heartbeats', { clientTimeout: 50_000 }, 'clientTimeout', '60000'],
  ['rare heartbeats with the default timeout', { heartbeatInterval: 200_000 }, 'clientTimeout', '400000'],
  ['a delay without adaptive flushes', { maxFlushDelay: 10 }, 'maxFlushDelay', 'adaptive'],
  ['adaptive flushes that never wait', { flush: 'adaptive', maxFlushDelay: 0 }, 'maxFlushDelay', '1 or more'],
  ['history with a bus of its own', { bus: new MemoryBus(), historySize: 5 }, 'historySize', 'option of the bus'],
  ['bytes of history with a bus', { bus: new MemoryBus(), historyBytes: 5 }, 'historyBytes', 'option of the bus'],
  ['age of history with a bus', { bus: new MemoryBus(), historyTtl: 5 }, 'historyTtl', 'option of the bus'],
  ['an age of history, but no history', { historyTtl: 60_000 }, 'historyTtl', 'historySize'],
  ['bytes of history, but no history', { historyBytes: 60_000 }, 'historyBytes', 'historySize'],
])('a contradiction throws: %s', (_, options, option, hint) => {
  const { message } = refusalOf(options);
  expect(message).toContain(option);
  expect(message).toContain(hint);
});

test.each([
  { clientTimeout: 0, heartbeatInterval: 2 ** 31 - 1 },
  { heartbeatInterval: 0, clientTimeout: 1 },
  { clientTimeout: 60_000, heartbeatInterval: 30_000 },
  { flush: 'adaptive', maxFlushDelay: 1 },
  { nodeTimeout: 100, nodeAnswerTimeout: 1, nodeName: 'x'.repeat(256) },
  { historySize: 0, historyTtl: 5, historyBytes: 0 },
  { clientBufferSize: 0, clientBufferBytes: 0, maxEventBytes: 0, maxReplayEvents: 0, maxTopicsPerClient: 0 },
  { bus: new MemoryBus({ historySize: 5 }) },
] as BrokerOptions[])('limits and what goes together are accepted: %j', (options) => {
  expect(new Broker(options).options).toMatchObject(options);
});

test('a clock, a bus and a logger may be objects of classes, with methods that use this', async () => {
  class Steady {
    readonly #start = 5_000;
    calls = 0;
    now() {
      this.calls++;
      return this.#start;
    }
    monotonic() {
      return this.#start;
    }
    every() {
      return () => this.#start;
    }
  }
  const clock = new Steady();
  const broker = new Broker({ clock, bus: new MemoryBus({ clock }) });
  const published: number[] = [];
  broker.on('eventPublished', ({ timestamp }) => published.push(timestamp));
  const written: string[] = [];
  broker.connect({
    sink: {
      open: () => {},
      write: ({ payload }) => {
        written.push(payload.toString());
        return true;
      },
      end: () => {},
      destroy: () => {},
      progress: () => 0,
    },
  });
  await broker.broadcast('n', 'x');
  await new Promise((resolve) => setImmediate(resolve));
  expect(published).toEqual([5_000]);
  expect(written.at(-1)).toContain('data: x');
  await broker.close({ timeoutMs: 0 });
});
