/** What somebody may not have any more is not replayed to them, on a stream and on a poll alike, and is no gap. */
import { expect, test } from 'vitest';
import { createHandler, createPollHandler, type HandlerOptions, type Identity } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { openStream } from '../support/stream.js';

interface Answer {
  readonly status: number;
  /** Data of the events `n`, in order. */
  readonly seen: readonly number[];
  readonly hasGap: boolean;
}

/** What comes of a resume after `cursor`, up to an event `end` that everybody gets. */
type Resume = (url: string, cursor: string) => Promise<Answer>;

const resumeStream: Resume = async (url, cursor) => {
  const stream = await openStream(`${url}/stream`, { headers: { 'last-event-id': cursor } });
  if (stream.status !== 200) return { status: stream.status, seen: [], hasGap: false };
  await stream.next('end');
  const data = stream.events.filter(({ event }) => event === 'n').map((event) => Number(event.data));
  return { status: 200, seen: data, hasGap: stream.events.some(({ event }) => event === 'gap') };
};

const resumePoll: Resume = async (url, cursor) => {
  const seen: number[] = [];
  let hasGap = false;
  for (let lastEventId = cursor; ; ) {
    const response = await fetch(`${url}/poll?lastEventId=${lastEventId}`);
    if (response.status !== 200) return { status: response.status, seen, hasGap };
    const answer = (await response.json()) as {
      events: { type: string; data: number }[];
      lastEventId: string;
      gap?: object;
    };
    hasGap ||= answer.gap !== undefined;
    seen.push(...answer.events.filter(({ type }) => type === 'n').map(({ data }) => data));
    if (answer.events.some(({ type }) => type === 'end')) return { status: 200, seen, hasGap };
    ({ lastEventId } = answer);
  }
};

async function start() {
  const broker = makeBroker({ historySize: 2_000 });
  const rights = { identity: { userId: 'ann' } as Identity, topics: ['a', 'b'], allowed: ['a', 'b'] };
  const options: HandlerOptions = {
    authenticator: () => rights.identity,
    topicResolver: () => rights.topics,
    authorizeTopic: (_identity, topic) => rights.allowed.includes(topic),
  };
  const [stream, poll] = [createHandler(broker, options), createPollHandler(broker, options)];
  const { url } = await serve((req, res) => void (req.url!.startsWith('/poll') ? poll : stream)(req, res));
  const cursor = await broker.broadcast('mark', 0);
  /** 1, 3, 5, … to topic `a`, the others to `b`. */
  const publish = async (count: number): Promise<void> => {
    for (let n = 1; n <= count; n++) await broker.sendToTopic(n % 2 === 1 ? 'a' : 'b', 'n', n);
    await broker.broadcast('end', 0);
  };
  return { broker, rights, url, cursor, publish };
}

const every = (step: number, from: number, to: number) =>
  Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => from + i * step);

for (const [kind, resume] of [
  ['stream', resumeStream],
  ['poll', resumePoll],
] as const) {
  test(`${kind}: all of it comes while the rights are as they were`, async () => {
    const { url, cursor, publish } = await start();
    await publish(6);
    expect(await resume(url, cursor)).toEqual({ status: 200, seen: [1, 2, 3, 4, 5, 6], hasGap: false });
  });

  test(`${kind}: a topic that the resolver does not give any more is left out`, async () => {
    const { rights, url, cursor, publish } = await start();
    await publish(6);
    rights.topics = ['b'];
    expect(await resume(url, cursor)).toEqual({ status: 200, seen: [2, 4, 6], hasGap: false });
  });

  test(`${kind}: a topic that is not allowed any more refuses the resume`, async () => {
    const { rights, url, cursor, publish } = await start();
    await publish(6);
    rights.allowed = ['b'];
    expect(await resume(url, cursor)).toMatchObject({ status: 403, seen: [] });
  });

  test(`${kind}: an identity that has expired gets nothing`, async () => {
    const { rights, url, cursor, publish } = await start();
    await publish(6);
    rights.identity = { userId: 'ann', expiresAt: Date.now() - 1 };
    expect(await resume(url, cursor)).toMatchObject({ status: 401, seen: [] });
  });

  test(`${kind}: another user's events are not those of who comes back`, async () => {
    const { broker, rights, url, cursor, publish } = await start();
    await broker.sendToUser('ann', 'n', 100);
    await broker.sendToUser('bob', 'n', 200);
    await publish(2);
    rights.identity = { userId: 'bob' };
    expect(await resume(url, cursor)).toEqual({ status: 200, seen: [200, 1, 2], hasGap: false });
  });
}

test('poll: rights that end between two answers of one replay end in it', async () => {
  const { rights, url, cursor, publish } = await start();
  await publish(3_000);
  const first = (await (await fetch(`${url}/poll?lastEventId=${cursor}`)).json()) as {
    events: { data: number }[];
    lastEventId: string;
  };
  const last = first.events.at(-1)!.data;
  expect(last).toBeLessThan(3_000);
  rights.topics = ['b'];
  const rest = await resumePoll(url, first.lastEventId);
  expect(rest).toEqual({ status: 200, seen: every(2, last + (last % 2 === 0 ? 2 : 1), 3_000), hasGap: false });
});
