/** What is built, in processes of its own: `jose` is ESM only and optional, and both builds must live with that. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const tsup = path.join(root, 'node_modules/tsup/dist/cli-default.js');

let folder: string;

beforeAll(async () => {
  // Outside of the project, or Node would find the project's own jose.
  folder = await realpath(await mkdtemp(path.join(tmpdir(), 'sse-broker-auth-')));
  const entry = ['src/auth/index.ts', '--no-dts', '--external', 'jose', '-d', path.join(folder, 'dist')];
  await run(process.execPath, [tsup, ...entry], { cwd: root });
  await writeFile(path.join(folder, 'package.json'), '{ "type": "module" }');
}, 60_000);

afterAll(() => rm(folder, { recursive: true, force: true }));

const body = `
const authenticate = jwtAuthenticator({ secret: 'a secret of more than thirty-two bytes, for tests' });
(async () => {
  let token = 'a.b.c';
  try {
    const { SignJWT } = await import('jose');
    const key = new TextEncoder().encode('a secret of more than thirty-two bytes, for tests');
    token = await new SignJWT({ sub: 'alice' }).setProtectedHeader({ alg: 'HS256' }).sign(key);
  } catch {}
  const answer = () => authenticate({ url: '/', headers: { authorization: 'Bearer ' + token } });
  const { userId, code, message, status } = await answer().catch((error) => error);
  console.log(JSON.stringify({ userId, code, message, status }));
})();
`;
const programs: Record<string, string> = {
  'esm.mjs': `import { jwtAuthenticator } from './dist/index.js';${body}`,
  'commonjs.cjs': `const { jwtAuthenticator } = require('./dist/index.cjs');${body}`,
};

async function answerOf(program: string): Promise<unknown> {
  await writeFile(path.join(folder, program), programs[program]!);
  // Without require() of ES modules, as in older bundlers and Jest.
  const { stdout } = await run(process.execPath, ['--no-experimental-require-module', program], { cwd: folder });
  return JSON.parse(stdout);
}

for (const program of Object.keys(programs)) {
  test(`${program}: without jose the first token says what to install; with it, it is taken`, async () => {
    await rm(path.join(folder, 'node_modules'), { recursive: true, force: true });
    expect(await answerOf(program)).toEqual({
      code: 'SSE_ERR_PACKAGE_MISSING',
      status: 500,
      message: 'jwtAuthenticator needs the package jose 6: npm install jose',
    });

    await mkdir(path.join(folder, 'node_modules'));
    await symlink(path.join(root, 'node_modules/jose'), path.join(folder, 'node_modules/jose'));
    expect(await answerOf(program)).toEqual({ userId: 'alice' });
  });
}
