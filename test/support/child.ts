/**
 * A program of the tests in a process of its own, so that its memory and CPU time are its own: TypeScript is turned into
 * JavaScript file by file, beside node_modules so that packages are found.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { onTestFinished } from 'vitest';
import { until } from './until.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Child<Message> {
  readonly process: ChildProcess;
  /** What it has sent that was not taken yet. */
  readonly messages: Message[];
  send(message: object): void;
  /** Takes the next message. */
  next(deadlineMs?: number): Promise<Message>;
}

/** Runs `program` (a path from the project's root) with a channel for messages; it ends with the test. */
export async function startChild<Message>(program: string, args: readonly string[] = []): Promise<Child<Message>> {
  return forkChild(await prepared(program), program, args);
}

/** The same, `count` times at once. */
export async function startChildren<Message>(program: string, count: number): Promise<Child<Message>[]> {
  const start = await childStarter<Message>(program);
  return Array.from({ length: count }, start);
}

/** The same, whenever the returned function is called: for programs that are killed and started again. */
export async function childStarter<Message>(program: string): Promise<() => Child<Message>> {
  const folder = await prepared(program);
  return () => forkChild<Message>(folder, program, []);
}

/** A folder with the program and `src` as JavaScript, until the test ends. */
async function prepared(program: string): Promise<string> {
  const cache = path.join(root, 'node_modules', '.cache');
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(path.join(cache, 'sse-broker-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await writeFile(path.join(folder, 'package.json'), '{ "type": "module" }\n');
  const sources = await readdir(path.join(root, 'src'), { recursive: true });
  const files = sources
    .filter((file) => /^(core|http|buses|inbox)\b.*\.ts$|^index\.ts$/.test(file))
    .map((file) => `src/${file}`);
  await Promise.all([...files, program].map((file) => transpile(file, folder)));
  return folder;
}

function forkChild<Message>(folder: string, program: string, args: readonly string[]): Child<Message> {
  const child = fork(path.join(folder, program.replace(/\.ts$/, '.js')), args, {
    execArgv: ['--expose-gc'],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const messages: Message[] = [];
  child.on('message', (message) => messages.push(message as Message));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await until(() => child.exitCode !== null || child.signalCode !== null, 'the child to end');
  });
  return {
    process: child,
    messages,
    send: (message) => child.send(message),
    next: async (deadlineMs) => {
      await until(() => messages.length > 0 || child.exitCode !== null, 'a message of the child', deadlineMs);
      const message = messages.shift();
      if (message === undefined) throw new Error(`the child ended with ${child.exitCode}`);
      return message;
    },
  };
}

async function transpile(file: string, folder: string): Promise<void> {
  const source = await readFile(path.join(root, file), 'utf8');
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true },
  });
  const target = path.join(folder, file.replace(/\.ts$/, '.js'));
  await mkdir(path.dirname(target), { recursive: true });
  await writeFile(target, outputText);
}
