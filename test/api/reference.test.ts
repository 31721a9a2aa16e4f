/** docs/reference/rest.md is what the document says: `npx vitest run test/api/reference -u` writes it anew. */
import path from 'node:path';
import { expect, test } from 'vitest';
import { createFetchApi } from '../../src/api/index.js';
import { makeBroker } from '../support/broker.js';
import { root } from '../support/package.js';
import type { OpenApi } from './document-check.js';
import { inboxOf } from './inboxes.js';
import { renderReference } from './reference.js';

test('the reference is that of the document', async () => {
  const broker = makeBroker();
  const api = createFetchApi(broker, { inbox: inboxOf(broker) });
  const document = (await (await api(new Request('http://localhost/openapi.json'))).json()) as OpenApi;
  await expect(renderReference(document)).toMatchFileSnapshot(path.join(root, 'docs/reference/rest.md'));
});
