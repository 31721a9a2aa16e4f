/** The module can be loaded anywhere: it looks at nothing but the language before it is used. */
import vm from 'node:vm';
import { expect, test } from 'vitest';
import { bundle } from '../support/bundle.js';

test('loading it, and making a client, touches no global', async () => {
  const script = await bundle(
    "import { SSEClient } from 'sse-broker/client'; globalThis.made = new SSEClient({ url: '/stream' });",
  );
  const touched: string[] = [];
  const names = [
    'fetch',
    'setTimeout',
    'document',
    'navigator',
    'window',
    'location',
    'BroadcastChannel',
    'TextDecoder',
  ];
  const context = vm.createContext({});
  for (const name of [
    ...names,
    'localStorage',
    'sessionStorage',
    'AbortController',
    'performance',
    'process',
    'console',
  ]) {
    Object.defineProperty(context, name, {
      get: () => {
        touched.push(name);
        return undefined;
      },
    });
  }
  vm.runInContext(script, context);
  expect(touched).toEqual([]);
  expect((context as { made?: { getStatus(): object } }).made?.getStatus()).toMatchObject({ status: 'disconnected' });
});
