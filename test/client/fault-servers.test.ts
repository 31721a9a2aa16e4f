/** The servers that misbehave do so in the way they say: what a test of the client proves hangs on that. */
import { expect, test } from 'vitest';
import {
  acceptAndClose,
  type Behaviour,
  byPath,
  cutMidCharacter,
  endlessLine,
  eventText,
  flapping,
  hangBeforeHead,
  headThenEnd,
  inTurn,
  muteAfterHead,
  redirect,
  slowLoris,
  startFaultServer,
  status,
  wrongContentType,
} from '../support/fault-server.js';
import { connectRaw, type RawConnection } from '../support/raw.js';
import { until } from '../support/until.js';

/** A server, and one request to it. */
async function ask(behaviour: Behaviour, path = '/events') {
  const server = await startFaultServer(behaviour);
  const connection = await connectRaw(server.port);
  connection.get(path, 'X-Token: abc\r\n');
  await until(() => server.requests.length === 1, 'the request');
  return { server, connection };
}

const bodyOf = (connection: RawConnection) => connection.responses()[0]?.body.toString() ?? '';

test('every request is written down, with its time and headers, and connections are counted', async () => {
  const { server, connection } = await ask(hangBeforeHead);
  expect(server.requests[0]).toMatchObject({ method: 'GET', url: '/events', headers: { 'x-token': 'abc' } });
  expect([server.connections, server.openSockets, server.openResponses]).toEqual([1, 1, 1]);
  connection.destroy();
  await until(() => server.openSockets === 0 && server.openResponses === 0, 'nothing to be left');
  expect(server.connections).toBe(1);
});

test('accept and close: not a byte', async () => {
  const { connection } = await ask(acceptAndClose);
  await connection.ended();
  expect(connection.bytes).toHaveLength(0);
});

test('hang before the head: not a byte, and the connection stays', async () => {
  const { server, connection } = await ask(hangBeforeHead);
  // Another request has been answered by then.
  server.become(status(204));
  const other = await connectRaw(server.port);
  other.get();
  await other.completed(1);
  expect(connection.bytes).toHaveLength(0);
  expect(connection.isEnded).toBe(false);
});

test('head, then the end', async () => {
  const { connection } = await ask(headThenEnd(eventText('1', { id: 'a', event: 'note' })));
  const [response] = await connection.completed(1);
  expect(response).toMatchObject({ status: 200, headers: { 'content-type': 'text/event-stream' } });
  expect(response?.body.toString()).toBe('id: a\nevent: note\ndata: 1\n\n');
});

test('mute after the head: the connection stays', async () => {
  const { server, connection } = await ask(muteAfterHead(eventText('1')));
  await connection.has('data: 1');
  expect([server.openResponses, connection.isEnded]).toEqual([1, false]);
});

test('cut in the middle of a character: half of it arrives', async () => {
  const { connection } = await ask(cutMidCharacter(eventText('whole')));
  await connection.ended();
  const [response] = connection.responses();
  expect(response?.isComplete).toBe(false);
  expect(bodyOf(connection)).toContain('data: whole\n\ndata: cut here: ');
  expect(response?.body.subarray(-2)).toEqual(Buffer.from('🙂').subarray(0, 2));
});

test('a byte at a time: each in a packet of its own', async () => {
  const text = eventText('slow');
  const { connection } = await ask(slowLoris(text, 1, 'end'));
  const [response] = await connection.completed(1);
  expect(response?.body.toString()).toBe(text);
  expect(response?.chunks).toBe(text.length);
});

test('an endless line stops at its limit, and at nothing else', async () => {
  const { connection } = await ask(endlessLine({ chunkBytes: 10_000, maxBytes: 100_000 }));
  await until(() => connection.responses()[0]?.body.length === 100_006, 'all of it');
  expect(bodyOf(connection)).not.toContain('\n');
});

test('up and down, each time', async () => {
  const server = await startFaultServer(flapping(20, eventText('up')));
  for (let round = 0; round < 2; round++) {
    const connection = await connectRaw(server.port);
    connection.get();
    await connection.has('data: up');
    await connection.ended();
  }
});

test('statuses, redirects and pages in turn and by path', async () => {
  const server = await startFaultServer(
    byPath({
      '/events': inTurn(status(429, { 'Retry-After': '3' }, 'later'), redirect('/elsewhere', 302)),
      '/page': wrongContentType(),
    }),
  );
  const connection = await connectRaw(server.port);
  for (const path of ['/events?x=1', '/events', '/events', '/page', '/nowhere']) connection.get(path);
  const responses = await connection.completed(5);
  expect(responses.map((response) => response.status)).toEqual([429, 302, 302, 200, 404]);
  expect(responses[0]).toMatchObject({ headers: { 'retry-after': '3' }, body: Buffer.from('later') });
  expect(responses[1]?.headers.location).toBe('/elsewhere');
  expect(responses[3]?.headers['content-type']).toBe('text/html');
});

test('cutting all goes on listening, and closing leaves nothing', async () => {
  const { server, connection } = await ask(muteAfterHead());
  server.cutAll();
  await connection.ended();
  const other = await connectRaw(server.port);
  other.get();
  await other.has('200 OK');
  await server.close();
  await other.ended();
  expect(server.openSockets).toBe(0);
});
