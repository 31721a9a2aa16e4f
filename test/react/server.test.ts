/** The React binding on a server: it renders what is known, and opens nothing. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createElement, StrictMode } from 'react';
import { renderToString } from 'react-dom/server';
import { expect, onTestFinished, test } from 'vitest';
import { SSEClient } from '../../src/client/index.js';
import { createHandler } from '../../src/index.js';
import {
  ConnectionStatus,
  SSEProvider,
  useSSE,
  useSSEClient,
  useSSEData,
  useSSEGap,
  useSSEStatus,
} from '../../src/react/index.js';
import { makeBroker } from '../support/broker.js';
import { assertBuilt, root } from '../support/package.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';
import { readGlobals } from '../support/web-globals.js';

function Prices() {
  useSSE('price', () => {});
  useSSEGap(() => {});
  const { cents } = useSSEData('price', { cents: 100 });
  return createElement('p', null, `${cents} ${useSSEStatus().status}`);
}

const page = (props: { url: string } | { client: SSEClient }) =>
  createElement(
    StrictMode,
    null,
    createElement(SSEProvider, props, createElement(Prices), createElement(ConnectionStatus)),
  );

test('the initial data and `disconnected` are rendered, and no global is read', () => {
  let markup = '';
  const read = readGlobals(() => {
    markup = renderToString(page({ url: '/events' }));
  });
  expect(markup).toBe('<p>100 disconnected</p><span role="status" data-status="disconnected">disconnected</span>');
  expect(read).toEqual([]);
});

test('with a client that is connected the markup is the same, and no handler stays with it', async () => {
  const broker = makeBroker();
  const { url } = await serve(createHandler(broker));
  const client = new SSEClient({ url });
  onTestFinished(() => client.destroy());
  client.connect();
  await until(() => client.getStatus().connected, 'the connection');
  const plain = renderToString(page({ url: '/events' }));
  for (let n = 0; n < 100; n++) expect(renderToString(page({ client }))).toBe(plain);
  // A handler that stayed would have taken it.
  await broker.broadcast('price', { cents: 1 });
  await until(() => client.clearQueue() === 1, 'the event to wait for a handler');
});

test('what is rendered before a client exists is what a client says that never connected', () => {
  let info: unknown;
  const Status = () => {
    info = useSSEStatus();
    return null;
  };
  renderToString(createElement(SSEProvider, { client: new SSEClient({ url: '/events' }) }, createElement(Status)));
  expect(info).toEqual(new SSEClient().getStatus());
});

test('what a provider is given wrong is said where it is rendered', () => {
  expect(() =>
    renderToString(createElement(SSEProvider, { url: '/events', config: { reconnectInterval: -1 } })),
  ).toThrow(expect.objectContaining({ code: 'SSE_CLIENT_OPTION' }));
  const Lost = () => createElement('p', null, useSSEClient().lastEventId);
  expect(() => renderToString(createElement(Lost))).toThrow(expect.objectContaining({ code: 'SSE_CLIENT_OPTION' }));
});

test('server components may import the built file: it is marked as one for the client', async () => {
  await assertBuilt();
  for (const file of ['react.js', 'react.cjs']) {
    expect(await readFile(path.join(root, 'dist', file), 'utf8')).toMatch(/^'use client';/);
  }
}, 30_000);
