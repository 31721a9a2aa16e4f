import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { Broker, createHandler, createPollHandler, type HandlerOptions } from '../../src/index.js';
import { byPath, eventText, hangBeforeHead, muteAfterHead, startFaultServer } from '../support/fault-server.js';
import { assertBuilt, root, run } from '../support/package.js';
import { commandOf, prepareRuntimes } from '../support/runtimes.js';
import { until } from '../support/until.js';
import { startWorker } from './worker-host.js';

interface ScenarioServer {
  readonly url: string;
  readonly broker: Broker;
  /** Requests for the stream, by what they came with. */
  readonly streams: { readonly encodings: unknown; readonly lastEventId: unknown }[];
  readonly openSockets: number;
  readonly openResponses: number;
}

/** What scenarios.mjs talks to. */
async function start(): Promise<ScenarioServer> {
  const broker = new Broker({ historySize: 100, retry: 10 });
  onTestFinished(() => void broker.close());
  const options: HandlerOptions = {
    compression: 'gzip',
    authenticator: ({ headers }) => (headers.authorization === 'Bearer good' ? { userId: 'alice' } : null),
  };
  const stream = createHandler(broker, options);
  const poll = createPollHandler(broker, options);
  const streams: ScenarioServer['streams'] = [];
  let asked: () => void;
  const hanging = new Promise<void>((resolve) => {
    asked = resolve;
  });
  let n = 0;
  const next = () => broker.sendToUser('alice', 'note', { n: n++ });
  const server = await startFaultServer(
    byPath({
      '/events': ({ req, res }) => {
        streams.push({ encodings: req.headers['accept-encoding'], lastEventId: req.headers['last-event-id'] });
        void stream(req, res);
      },
      '/poll': ({ req, res }) => void poll(req, res),
      '/broken/stream': ({ res }) => void res.socket?.destroy(),
      '/mute': muteAfterHead(eventText(JSON.stringify({ heartbeatInterval: 1_000 }), { event: 'connected' })),
      '/hanging': (exchange) => {
        hangBeforeHead(exchange);
        asked();
      },
      '/asked': ({ res }) => void hanging.then(() => res.end()),
      '/next': ({ res }) => void next().then(() => res.end()),
      '/cut': ({ res }) => {
        res.end();
        res.once('close', async () => {
          server.cutAll();
          await until(() => broker.getStats().totalClients === 0, 'the cut stream to be gone');
          await next();
          await next();
        });
      },
    }),
  );
  return {
    url: server.url,
    broker,
    streams,
    get openSockets() {
      return server.openSockets;
    },
    get openResponses() {
      return server.openResponses;
    },
  };
}

type Play = (scenario: string, url: string) => Promise<unknown>;

/** In a process of its own, which has to end by itself: `disconnect()` leaves nothing that holds it. */
async function inProcess(name: 'deno' | 'bun'): Promise<Play> {
  await assertBuilt();
  const { file, args } = await commandOf(name);
  return async (scenario, url) => {
    const program = [...args, 'test/runtimes/children/client.mjs', scenario, url];
    const { stdout, stderr } = await run(file, program, root, { timeoutMs: 15_000 });
    expect(stderr).toBe('');
    return JSON.parse(stdout);
  };
}

async function inWorker(compatibilityDate?: string): Promise<Play> {
  await assertBuilt();
  const worker = await startWorker(compatibilityDate);
  return async (scenario, url) => {
    const response = await fetch(`${worker}/?${new URLSearchParams({ scenario, url })}`, {
      signal: AbortSignal.timeout(15_000),
    });
    return response.json();
  };
}

const PLAYERS: Readonly<Record<string, () => Promise<Play>>> = {
  deno: () => inProcess('deno'),
  bun: () => inProcess('bun'),
  workerd: () => inWorker(),
};

beforeAll(() => prepareRuntimes('deno', 'bun', 'workerd'), 300_000);

describe.each(Object.keys(PLAYERS))('%s', (name) => {
  /** Plays the scenario; what it has opened must be gone with it. */
  async function play(scenario: string) {
    const player = await PLAYERS[name]!();
    const server = await start();
    const saw = await player(scenario, server.url);
    await until(() => server.openResponses === 0, 'every response to be over');
    expect(server.broker.getStats().totalClients).toBe(0);
    return { saw, server };
  }

  test('gets typed events one by one as they are sent, compressed, with a header of its own', async () => {
    const { saw, server } = await play('typed');
    expect(saw).toEqual({
      unhandled: [],
      seen: [
        ['connected', 'alice'],
        ['note', { n: 0 }, true],
        ['note', { n: 1 }, true],
        ['note', { n: 2 }, true],
      ],
      asked: [1],
      status: 'disconnected',
    });
    // So it was compressed: the server does what is asked for.
    expect(server.streams).toEqual([{ encodings: expect.stringContaining('gzip'), lastEventId: undefined }]);
  });

  test('resumes over a cut connection: nothing lost, none twice', async () => {
    const { saw, server } = await play('resumed');
    expect(saw).toEqual({ unhandled: [], notes: [0, 1, 2, 3], reconnectCount: 1, duplicates: 0, gaps: 0 });
    expect(server.streams).toHaveLength(2);
    expect(server.streams[1]!.lastEventId).toBeTypeOf('string');
  });

  test('reads a refusal, asks for another token once, and gives up', async () => {
    const { saw } = await play('refused');
    expect(saw).toEqual({
      unhandled: [],
      code: 'SSE_CLIENT_STATUS',
      status: 401,
      body: 'SSE_ERR_UNAUTHENTICATED',
      asked: [false, true],
      end: 'failed',
    });
  });

  test('polls where no stream gets through', async () => {
    const { saw } = await play('polled');
    expect(saw).toEqual({ unhandled: [], transport: 'polling', data: { n: 0 } });
  });

  test('iterates, and is left by a break', async () => {
    const { saw } = await play('iterated');
    expect(saw).toEqual({ unhandled: [], numbers: [0, 1, 2] });
  });

  test('notices a stream that has gone silent', async () => {
    const { saw } = await play('silent');
    expect(saw).toEqual({ unhandled: [], codes: ['SSE_CLIENT_SILENT'] });
  });

  test('can be ended before the head, in a stream and between attempts', async () => {
    const { saw } = await play('left');
    expect(saw).toEqual({ unhandled: [], ends: ['disconnected', 'disconnected', 'disconnected'] });
  });
});

test('workerd: a worker of an older date, which refuses settings of a request that it does not know', async () => {
  const play = await inWorker('2024-01-01');
  const { url } = await start();
  expect(await play('typed', url)).toMatchObject({ status: 'disconnected', asked: [1] });
});
