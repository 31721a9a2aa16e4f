/** A client that lies in reactive state is a proxy there, which cannot read private fields: the binding takes the client itself. */
import { expect, onTestFinished, test } from 'vitest';
import { createSSRApp, effectScope, reactive, ref } from 'vue';
import { SSEClient } from '../../src/client/index.js';
import { createHandler } from '../../src/index.js';
import { createSSE, useSSE, useSSEClient, useSSEData, useSSEGap, useSSEStatus } from '../../src/vue/index.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';

async function connectedClient() {
  const broker = makeBroker();
  const { url } = await serve(createHandler(broker));
  const client = new SSEClient({ url });
  onTestFinished(() => client.destroy());
  client.connect();
  await until(() => client.getStatus().connected, 'the connection');
  return { broker, client };
}

test('the plugin provides it', async () => {
  const { broker, client } = await connectedClient();
  const state = reactive({ client });
  expect(state.client).not.toBe(client);
  const app = createSSRApp({ render: () => null }).use(createSSE({ client: state.client }));
  const data = app.runWithContext(() => {
    expect(useSSEClient()).toBe(client);
    return useSSEData('note', 0);
  });
  await broker.broadcast('note', 1);
  await until(() => data.value === 1, 'the event');
});

test('composables that are given it use it, and their scope ends that', async () => {
  const { broker, client } = await connectedClient();
  const held = ref(client);
  const scope = effectScope();
  const handled: unknown[] = [];
  const [data, status] = scope.run(() => {
    useSSE('note', (n) => handled.push(n), held.value);
    useSSEGap(() => {}, held.value);
    return [useSSEData('note', 0, undefined, held.value), useSSEStatus(held.value)] as const;
  })!;
  expect(status.value.status).toBe('connected');
  await broker.broadcast('note', 1);
  await until(() => data.value === 1 && handled.length === 1, 'the event');
  scope.stop();
  const later: unknown[] = [];
  client.subscribe('note', (n) => later.push(n));
  await broker.broadcast('note', 2);
  await until(() => later.length === 1, 'the second event');
  expect(handled).toEqual([1]);
});
