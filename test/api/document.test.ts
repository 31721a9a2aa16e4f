/** The document: valid, complete, and true of what the API takes. What the API answers is held against it by all other tests. */
import { Validator } from '@seriousme/openapi-schema-validator';
import { describe, expect, test } from 'vitest';
import { type ApiOptions, createFetchApi } from '../../src/api/index.js';
import type { Broker } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import type { OpenApi } from './document-check.js';
import { inboxOf } from './inboxes.js';

async function documentOf(options: (broker: Broker) => ApiOptions = () => ({}), mount = ''): Promise<OpenApi> {
  const broker = makeBroker();
  const api = createFetchApi(broker, { ...(options(broker) as object), path: mount });
  return (await api(new Request(`http://localhost${mount}/openapi.json`))).json() as Promise<OpenApi>;
}

const withInbox = (broker: Broker): ApiOptions => ({ inbox: inboxOf(broker) });

/** The routes that the issue names. */
const ROUTES = [
  'get /stream',
  'get /stream/{group}/{id}',
  'get /stream/{id}',
  'get /poll',
  'post /send',
  'post /send/group',
  'post /broadcast',
  'get /messages/pending',
  'post /messages/read',
  'get /messages/unread',
  'post /subscribe',
  'post /unsubscribe',
  'get /subscriptions',
  'get /info',
  'get /group/{group}',
  'get /connections',
  'post /disconnect/{id}',
  'get /healthz',
  'get /readyz',
  'get /openapi.json',
];
const OF_THE_INBOX = /messages|subscri/;

const routesOf = ({ paths }: OpenApi): string[] =>
  Object.entries(paths).flatMap(([path, operations]) => Object.keys(operations).map((method) => `${method} ${path}`));

describe.each([
  ['with an inbox', withInbox],
  ['without', () => ({})],
] as const)('the document of an API %s', (name, options) => {
  test('is OpenAPI 3.1', async () => {
    const document = await documentOf(options);
    const validator = new Validator();
    const { valid, errors } = await validator.validate(document as never);
    expect(errors, JSON.stringify(errors, null, 1)).toBeUndefined();
    expect([valid, validator.version]).toEqual([true, '3.1']);
  });

  test('has every route that there is', async () => {
    const expected = ROUTES.filter((route) => name === 'with an inbox' || !OF_THE_INBOX.test(route));
    expect(routesOf(await documentOf(options)).toSorted()).toEqual(expected.toSorted());
  });

  test('refers to nothing that is not there, and has nothing that nobody refers to', async () => {
    const document = await documentOf(options);
    const text = JSON.stringify(document);
    const referred = new Set([...text.matchAll(/"#\/components\/schemas\/(\w+)"/g)].map((match) => match[1]));
    expect([...referred].toSorted()).toEqual(Object.keys(document.components.schemas).toSorted());
    expect(text).not.toMatch(/\$defs|\$id|json-schema\.org/);
  });

  test('says of every route who may, and what errors there are', async () => {
    const { paths } = await documentOf(options);
    for (const [path, operations] of Object.entries(paths)) {
      for (const [method, { operationId, security, responses, parameters }] of Object.entries(operations)) {
        const isOpen = ['getHealth', 'getReadiness', 'getDocument'].includes(operationId);
        expect(security.length === 0, operationId).toBe(isOpen);
        expect(Object.keys(responses), operationId).toEqual(
          expect.arrayContaining(isOpen ? ['500'] : ['401', '403', '429', '500', '503']),
        );
        if (method === 'post')
          expect(Object.keys(responses), operationId).toEqual(expect.arrayContaining(['400', '413', '415']));
        const inPath = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
        expect(parameters.filter((one) => one.in === 'path').map((one) => [one.name, one.required])).toEqual(
          inPath.map((one) => [one, true]),
        );
      }
    }
  });
});

test('the document is beside the routes, wherever that is', async () => {
  const { servers } = (await documentOf(undefined, '/deep/down')) as OpenApi & { servers: { url: string }[] };
  expect(new URL(`${servers[0]!.url}/send`, 'https://example.test/deep/down/openapi.json').pathname).toBe(
    '/deep/down/send',
  );
});
