/**
 * The code of the documents works: blocks marked `run` are programs that must end with 0, blocks marked `check` are
 * TypeScript that must compile. CONTRIBUTING.md has the rules for writers. A program keeps the line numbers of its page,
 * so a stack trace or a compiler's message names the line to mend.
 */
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CodeBlock, codeBlocks, documents, linesOf } from '../support/markdown.js';
import { assertBuilt, root, run, temporaryFolder } from '../support/package.js';
import { freePort } from '../support/port.js';

/** One or more blocks of one page that make one file. */
interface Program {
  readonly file: string;
  readonly line: number;
  readonly language: string;
  readonly blocks: CodeBlock[];
}

/** What can run, and the ending of its file. */
const ENDINGS: Readonly<Record<string, string>> = { js: 'mjs', cjs: 'cjs', ts: 'mjs', sh: 'sh' };
const NODE = [process.execPath, '--enable-source-maps'];
const TYPESCRIPT: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  // Nest's controllers.
  experimentalDecorators: true,
  emitDecoratorMetadata: true,
};

const blocks = documents().flatMap((file) => codeBlocks(file, linesOf(file)));
const runnable = programsOf('run');
// What runs must compile too; what only has to compile may be part of what runs.
const checked = [...programsOf('check'), ...runnable].filter(({ language }) => language === 'ts');

let folder: string;
let remove: () => Promise<void>;

beforeAll(async () => {
  ({ folder, remove } = await temporaryFolder());
  await assertBuilt();
  await linkPackages(path.join(folder, 'node_modules'));
  await writeFile(path.join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');
});

afterAll(() => remove?.());

test('blocks are marked with words that mean something', () => {
  const strange = blocks.filter(
    ({ language, words }) =>
      words.some((word) => !/^(run|check)(=[\w-]+)?$/.test(word)) ||
      (words.some((word) => word.startsWith('run')) && !(language in ENDINGS)) ||
      (words.some((word) => word.startsWith('check')) && language !== 'ts'),
  );
  expect(
    strange.map(({ file, line, language, words }) => `${file}:${line - 1} ${[language, ...words].join(' ')}`),
  ).toEqual([]);
});

test.each(runnable.map((program) => [`${program.file}:${program.line}`, program] as const))(
  '%s runs',
  async (_where, program) => {
    const script = path.join(folder, `${program.file}.${program.line}.${ENDINGS[program.language]}`);
    await mkdir(path.dirname(script), { recursive: true });
    await writeFile(script, program.language === 'ts' ? compiled(program) : textOf(program));
    const [command, ...args] = program.language === 'sh' ? ['bash', '-euo', 'pipefail'] : NODE;
    await run(command!, [...args, script], folder, { timeoutMs: 30_000, env: { PORT: String(await freePort()) } });
  },
  40_000,
);

test('the TypeScript of the documents compiles', async () => {
  const sources = new Map<string, Program>();
  for (const program of checked) {
    const file = `${sources.size}.mts`;
    sources.set(file, program);
    await writeFile(path.join(folder, file), `${textOf(program)}\nexport {};\n`);
  }
  const options: ts.CompilerOptions = {
    ...TYPESCRIPT,
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: ['node'],
    typeRoots: [path.join(root, 'node_modules/@types')],
  };
  const compiler = ts.createProgram({ rootNames: [...sources.keys()].map((file) => path.join(folder, file)), options });
  const problems = ts.getPreEmitDiagnostics(compiler).map(({ file, start, messageText }) => {
    const message = ts.flattenDiagnosticMessageText(messageText, '\n');
    const page = file && sources.get(path.basename(file.fileName));
    if (!file || !page) return `${file?.fileName ?? ''} ${message}`;
    return `${page.file}:${file.getLineAndCharacterOfPosition(start ?? 0).line + 1} ${message}`;
  });
  expect(problems).toEqual([]);
}, 60_000);

/** The blocks marked `mark`, one program each; those marked `mark=name` are one program per page and name. */
function programsOf(mark: string): Program[] {
  const programs = new Map<string, Program>();
  for (const block of blocks) {
    const word = block.words.find((word) => word === mark || word.startsWith(`${mark}=`));
    if (word === undefined) continue;
    const { file, line, language } = block;
    const key = word === mark ? `${file} ${line}` : `${file} ${language} ${word}`;
    const program = programs.get(key);
    if (program) program.blocks.push(block);
    else programs.set(key, { file, line, language, blocks: [block] });
  }
  return [...programs.values()];
}

/** The program's text; each line of code stands at the line where its page has it. */
function textOf({ blocks }: Program): string {
  let text = '';
  for (const { line, code } of blocks) text += '\n'.repeat(line - text.split('\n').length) + code;
  return `${text}\n`;
}

/** TypeScript as JavaScript, with a source map that names the page. */
function compiled(program: Program): string {
  const compilerOptions = { ...TYPESCRIPT, module: ts.ModuleKind.ESNext, inlineSourceMap: true };
  return ts.transpileModule(textOf(program), { compilerOptions, fileName: `${program.file}.ts` }).outputText;
}

/** A `node_modules` with this package by its name and everything that this project has installed. */
async function linkPackages(target: string): Promise<void> {
  await mkdir(target);
  await symlink(root, path.join(target, 'sse-broker'));
  const installed = path.join(root, 'node_modules');
  for (const name of await readdir(installed)) {
    if (!name.startsWith('.')) await symlink(path.join(installed, name), path.join(target, name));
  }
}
