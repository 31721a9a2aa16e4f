/** The packed file in an empty folder, as a user gets it: what is inside, and that ESM, CommonJS and TypeScript can use it. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { builtinModules } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { installPacked, readManifest, root, run, specifiers, temporaryFolder } from '../support/package.js';

const ESM = /^dist\/[\w-]+\.js$/;
const COMMONJS = /^dist\/[\w-]+\.cjs$/;

let folder: string;
let remove: () => Promise<void>;
/** Path to text, of every file of the package. */
const files = new Map<string, string>();

beforeAll(async () => {
  ({ folder, remove } = await temporaryFolder());
  const { devDependencies } = await readManifest();
  // Types, and what entries of ours import: who imports those has them.
  const beside = ['@types/node', '@types/react', 'react', 'vue', 'zod'];
  await installPacked(
    folder,
    beside.map((name) => `${name}@${devDependencies[name]}`),
  );
  const installed = path.join(folder, 'node_modules/sse-broker');
  for (const entry of await readdir(installed, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (entry.isFile()) files.set(path.relative(installed, file), await readFile(file, 'utf8'));
  }
}, 120_000);

afterAll(() => remove?.());

const texts = (names: RegExp) => [...files].filter(([name]) => names.test(name)).map(([, text]) => text);

describe('what is inside', () => {
  test('the build and the papers, nothing else', () => {
    const papers = ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json'];
    expect([...files.keys()].filter((name) => !name.startsWith('dist/')).sort()).toEqual(papers);
    const strange = [...files.keys()].filter(
      (name) => !papers.includes(name) && !/^dist\/[\w-]+\.(c?js(\.map)?|d\.c?ts)$/.test(name),
    );
    expect(strange).toEqual([]);
  });

  test('nothing tells where it was built', () => {
    for (const [name, text] of files) {
      for (const place of [root, os.homedir()]) expect(text.includes(`${place}/`), `${place} in ${name}`).toBe(false);
    }
    for (const map of texts(/\.map$/)) {
      const { sources, sourcesContent = [] } = JSON.parse(map) as { sources: string[]; sourcesContent?: string[] };
      for (const source of sources) expect(source).toMatch(/^\.\.\/(src|node_modules\/uuid)\//);
      expect(sourcesContent).toHaveLength(sources.length);
    }
  });

  test('nothing is imported that the package does not declare', async () => {
    const { dependencies, peerDependencies = {} } = await readManifest();
    const declared = [...Object.keys(dependencies), ...Object.keys(peerDependencies)];
    const imported = [...texts(ESM), ...texts(COMMONJS)].flatMap((text) =>
      [...text.matchAll(/(?:\bfrom |\bimport |\bimport\(|\brequire\()\s*['"]([^'".][^'"]*)['"]/g)].map(
        (match) => match[1]!,
      ),
    );
    expect(imported).toContain('eventemitter3');
    const builtins = builtinModules.map((name) => `node:${name}`);
    expect(imported.filter((name) => !declared.includes(name) && !builtins.includes(name))).toEqual([]);
  });

  test('the CommonJS build carries uuid, which is published as ESM only; the ESM build imports it', () => {
    expect(texts(COMMONJS).join('\n')).not.toMatch(/require\(['"]uuid/);
    expect(texts(/\.cjs\.map$/).join('\n')).toContain('node_modules/uuid/');
    expect(texts(ESM).join('\n')).toMatch(/from ['"]uuid['"]/);
    expect(texts(/\.js\.map$/).join('\n')).not.toContain('node_modules/');
  });

  test.each([
    ['ESM', ESM],
    ['CommonJS', COMMONJS],
  ])('%s has one copy of each class', (_format, names) => {
    const classes = texts(names).flatMap((text) =>
      [...text.matchAll(/^(?:var (\w+) = )?class (?:(\w+) )?/gm)].map((match) => match[1] ?? match[2]),
    );
    expect(classes).toContain('SseError');
    expect(classes).toContain('Broker');
    expect(classes.filter((name, index) => classes.indexOf(name) !== index)).toEqual([]);
  });
});

describe('what it does', () => {
  test('the smoke suite passes as ESM and as CommonJS', async () => {
    const subpaths = await specifiers();
    await copySmoke();
    for (const file of ['esm.mjs', 'commonjs.cjs']) {
      const { stdout } = await run(process.execPath, [file, ...subpaths], folder);
      expect(stdout.match(/^ok /gm)?.length, stdout).toBeGreaterThan(5);
    }
  });

  test('both formats export the same names, and a subpath throws the root’s SseError', async () => {
    await writeFile(
      path.join(folder, 'names.cjs'),
      `const assert = require('node:assert/strict');
      const names = (exports) => Object.keys(exports).filter((name) => name !== 'default' && name !== 'module.exports').sort();
      (async () => {
        for (const specifier of process.argv.slice(2)) {
          assert.deepEqual(names(require(specifier)), names(await import(specifier)), specifier);
        }
        for (const load of [require, (specifier) => import(specifier)]) {
          const { SseError } = await load('sse-broker');
          const { jwtAuthenticator } = await load('sse-broker/auth');
          assert.throws(() => jwtAuthenticator({}), (error) => error instanceof SseError);
        }
        console.log('same');
      })();`,
    );
    const { stdout } = await run(process.execPath, ['names.cjs', ...(await specifiers())], folder);
    expect(stdout).toBe('same\n');
  });

  test('without jose a token is refused with what to install, in both formats', async () => {
    await writeFile(
      path.join(folder, 'peer.cjs'),
      `const assert = require('node:assert/strict');
      (async () => {
        for (const load of [require, (specifier) => import(specifier)]) {
          const { jwtAuthenticator } = await load('sse-broker/auth');
          const authenticate = jwtAuthenticator({ secret: 'x'.repeat(32), issuer: 'i', audience: 'a' });
          await assert.rejects(
            async () => authenticate({ url: '/', method: 'GET', headers: { authorization: 'Bearer a.b.c' } }),
            { code: 'SSE_ERR_PACKAGE_MISSING', message: /npm install jose/ },
          );
        }
      })();`,
    );
    await run(process.execPath, ['peer.cjs'], folder);
  });
});

describe('TypeScript', () => {
  const cases = [
    // Vue's own declarations need the DOM.
    ['node16, for Node alone', { module: 'node16', lib: ['es2022'] }, ['consumer.mts', 'consumer.cts'], /\/vue$/],
    ['a bundler, with the DOM', { module: 'esnext', moduleResolution: 'bundler' }, ['consumer.ts'], /^$/],
  ] as const;

  test.each(cases)(
    '%s: the types hold, strict and with our declarations checked',
    async (_name, options, sources, leftOut) => {
      await Promise.all(sources.map(async (file) => writeFile(path.join(folder, file), await consumer(leftOut))));
      const config = `tsconfig.${options.module}.json`;
      const compilerOptions = {
        ...options,
        target: 'es2022',
        types: ['node'],
        strict: true,
        exactOptionalPropertyTypes: true,
        noUncheckedIndexedAccess: true,
        skipLibCheck: false,
        noEmit: true,
      };
      await writeFile(path.join(folder, config), JSON.stringify({ compilerOptions, files: sources }));
      await run(process.execPath, [path.join(root, 'node_modules/typescript/bin/tsc'), '-p', config], folder);
    },
    120_000,
  );
});

/** A program of a user that touches every entry that is not left out; the lines after `@ts-expect-error` must not compile. */
async function consumer(leftOut: RegExp): Promise<string> {
  const subpaths = (await specifiers()).filter((specifier) => specifier !== 'sse-broker' && !leftOut.test(specifier));
  return `
import http from 'node:http';
import { Broker, createFetchHandler, createHandler, type Identity, isSseError, queryTopicResolver } from 'sse-broker';
${subpaths.map((specifier, index) => `import * as entry${index} from '${specifier}';`).join('\n')}

interface Events { 'job.progress': { jobId: string; progress: number } }
const broker = new Broker<Events>({ clientBufferSize: 10, overflow: 'drop-oldest' });
const id: Promise<string> = broker.sendToUser('alice', 'job.progress', { jobId: '1', progress: 50 });
// @ts-expect-error: progress is missing
void broker.sendToUser('alice', 'job.progress', { jobId: '1' });
// @ts-expect-error: no such policy
new Broker({ overflow: 'explode' });
broker.on('clientDisconnected', (client, reason) => console.log(client.userId, reason === 'overflow'));
const handler = createHandler(broker, {
  authenticator: async (req): Promise<Identity | null> => (req.headers.authorization ? { userId: 'alice' } : null),
  topicResolver: queryTopicResolver(),
});
http.createServer((req, res) => void handler(req, res));
const response: Promise<Response> = createFetchHandler(broker)(new Request('http://localhost/'));
id.catch((error: unknown) => { if (isSseError(error)) console.log(error.code satisfies string); });
const untyped: Broker = new Broker();
void untyped.broadcast('anything', { at: 'all' });
export const all = [response, ${subpaths.map((_specifier, index) => `entry${index}`).join(', ')}];
`;
}

async function copySmoke(): Promise<void> {
  const from = path.join(root, 'test/package/smoke');
  for (const file of await readdir(from))
    await writeFile(path.join(folder, file), await readFile(path.join(from, file)));
}
