/**
 * The import lines of `src/` keep the layout: imports point down only, the core stays small, and a type may cross where a
 * value may not. A folder or file that breaks a rule here is in the wrong place; a new folder gets its line in `FOLDERS`.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import { readManifest, root } from './support/package.js';

interface Rule {
  /** Folders of ours, or files of theirs, that may be imported; the own folder is always allowed. */
  readonly ours: readonly string[];
  /** The same, for `import type` only. */
  readonly types?: readonly string[];
  /** Packages and Node's own modules. */
  readonly packages?: readonly string[];
}

/** Stands for the name in `import(name)`. */
const COMPUTED = 'a name that is put together at run time';

const FOLDERS: Readonly<Record<string, Rule>> = {
  '': { ours: ['core', 'http'] },
  core: { ours: [], packages: ['uuid', 'eventemitter3', 'node:zlib'] },
  http: { ours: ['core'], packages: ['node:http', 'node:http2', 'node:net', 'node:stream', 'node:zlib'] },
  auth: { ours: ['core', 'http'], packages: ['jose', 'node:crypto', 'node:http'] },
  // Frameworks are typed by the part that is used, and never imported.
  adapters: { ours: ['core', 'http'], packages: ['node:http', 'node:http2'] },
  // What implements a contract knows the contract and the errors; the user makes the third-party client.
  buses: {
    ours: [
      'core/errors',
      'core/bus',
      'core/event',
      'core/topic',
      'core/clock',
      'core/event-cache',
      'core/option-names',
      'core/sequence-index',
    ],
    types: ['core'],
    // The SQLite clients, one of which an application has.
    packages: [COMPUTED, 'node:crypto', 'node:fs', 'node:os', 'node:path'],
  },
  sources: { ours: ['core/errors'], types: ['core'] },
  // Loaded when a store over a pool starts.
  inbox: {
    // How the application's own client of Redis is called; not the bus.
    ours: ['core', 'buses/redis-caller', 'buses/redis-client', 'buses/redis-healer', 'buses/redis-options'],
    packages: ['kysely', 'uuid', 'node:crypto'],
  },
  api: { ours: ['core', 'http'], types: ['inbox'], packages: ['zod', 'node:crypto', 'node:http'] },
  hub: { ours: ['core', 'http', 'auth', 'buses', 'sources', 'inbox', 'api'] },
  // Assertions that every test runner shows well.
  testing: { ours: ['core', 'http', 'inbox'], packages: ['node:assert/strict'] },
  client: { ours: [] },
  react: { ours: ['client'], packages: ['react'] },
  vue: { ours: ['client'], packages: ['vue'] },
};

/** The files of the core that everything stands on, and the contracts: exactly what they import, as values and as types. */
const FOUNDATIONS: Readonly<Record<string, { values: readonly string[]; types: readonly string[] }>> = {
  'core/errors': { values: [], types: [] },
  'core/clock': { values: [], types: [] },
  'core/identity': { values: [], types: [] },
  'core/topic': { values: ['core/errors'], types: [] },
  'core/event': { values: ['core/errors'], types: [] },
  'core/frame': { values: [], types: ['core/event'] },
  'core/queue': { values: ['core/frame', 'core/tagged-id', 'core/topic'], types: [] },
  'core/tagged-id': { values: [], types: [] },
  'core/bus': { values: [], types: ['core/event'] },
  'core/sink': { values: [], types: ['core/frame'] },
};

interface Import {
  readonly from: string;
  readonly line: number;
  /** A file of ours as `core/errors`, or a package or Node module by its name. */
  readonly to: string;
  readonly isOurs: boolean;
  readonly isTypeOnly: boolean;
  /** `import()`: it runs later, so it makes no cycle at load time. */
  readonly isDynamic: boolean;
}

const files = filesBelow(['src']).map((file) => path.relative('src', file));
const sources = new Map(
  files.map((file) => [file, parsed(file, readFileSync(path.join(root, 'src', file), 'utf8'))] as const),
);
const imports = [...sources.values()].flatMap(importsOf);

test('imports point down only', () => {
  const isAllowed = ({ from, to, isOurs, isTypeOnly }: Import) => {
    const folder = folderOf(from);
    const rule = FOLDERS[folder];
    if (!rule) throw new Error(`src/${folder} has no rule in FOLDERS of test/architecture.test.ts`);
    if (!isOurs) return (rule.packages ?? []).includes(to);
    if (folder !== '' && folderOf(to) === folder) return true;
    return [...rule.ours, ...(isTypeOnly ? (rule.types ?? []) : [])].some(
      (allowed) => to === allowed || to.startsWith(`${allowed}/`),
    );
  };
  expect(imports.length).toBeGreaterThan(50);
  expect(imports.filter((line) => !isAllowed(line)).map(shown)).toEqual([]);
});

test.each(Object.entries(FOUNDATIONS))('%s imports exactly what it stands on', (module, expected) => {
  expect(files).toContain(`${module}.ts`);
  const own = imports.filter(({ from }) => from === module);
  const values = own.filter(({ isTypeOnly }) => !isTypeOnly).map(({ to }) => to);
  const types = own.filter(({ isTypeOnly }) => isTypeOnly).map(({ to }) => to);
  expect({ values, types }).toEqual(expected);
});

test('every import of ours is a file', () => {
  const wrong = imports.filter(({ isOurs, to }) => isOurs && !sources.has(`${to}.ts`) && !sources.has(`${to}.tsx`));
  expect(wrong.map(shown)).toEqual([]);
});

test('no file imports itself round a corner', () => {
  const next = new Map<string, string[]>();
  for (const { from, to, isOurs, isTypeOnly, isDynamic } of imports) {
    if (isOurs && !isTypeOnly && !isDynamic) next.set(from, [...(next.get(from) ?? []), to]);
  }
  const done = new Set<string>();
  const cycleFrom = (module: string, trail: readonly string[]): readonly string[] | undefined => {
    if (trail.includes(module)) return [...trail.slice(trail.indexOf(module)), module];
    if (done.has(module)) return undefined;
    for (const to of next.get(module) ?? []) {
      const cycle = cycleFrom(to, [...trail, module]);
      if (cycle) return cycle;
    }
    done.add(module);
    return undefined;
  };
  const cycles = [...next.keys()].flatMap((module) => cycleFrom(module, [])?.join(' → ') ?? []);
  expect(cycles).toEqual([]);
});

test('exports are named, one by one', () => {
  const wrong = [...sources].flatMap(([file, source]) =>
    source.statements
      .filter((statement) => isDefaultExport(statement) || isStarExport(statement))
      .map((statement) => `src/${file}:${lineOf(source, statement)} ${statement.getText().split('\n')[0]}`),
  );
  expect(wrong).toEqual([]);
});

test('what tests, examples and scripts import is declared in package.json', async () => {
  const { name, dependencies, devDependencies } = await readManifest();
  const declared = [name, ...Object.keys(dependencies), ...Object.keys(devDependencies)];
  const undeclared = filesBelow(['test', 'examples', 'scripts'], /\.([cm]?[jt]s|tsx)$/).flatMap((file) =>
    importsOf(parsed(file, readFileSync(path.join(root, file), 'utf8')))
      .filter(({ to, isOurs }) => !isOurs && to !== COMPUTED && !to.startsWith('node:') && !to.startsWith('/'))
      .filter(({ to }) => !declared.some((known) => to === known || to.startsWith(`${known}/`)))
      .map(({ line, to }) => `${file}:${line} ${to}`),
  );
  expect(undeclared).toEqual([]);
});

test('file names are kebab-case', () => {
  expect(files.filter((file) => !/^([a-z0-9]+(-[a-z0-9]+)*\/)*[a-z0-9]+(-[a-z0-9]+)*\.tsx?$/.test(file))).toEqual([]);
});

/** The files below folders of the project, relative to its root. */
function filesBelow(folders: readonly string[], names = /./): string[] {
  return folders.flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && names.test(entry.name))
      .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
      .sort(),
  );
}

function parsed(file: string, text: string): ts.SourceFile {
  return ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true);
}

function moduleOf(file: string): string {
  return file.replace(/\.tsx?$/, '');
}

/** The folder below `src/`; empty for the files that lie there. */
function folderOf(module: string): string {
  return module.includes('/') ? module.slice(0, module.indexOf('/')) : '';
}

function shown({ from, line, to, isTypeOnly }: Import): string {
  return `src/${from}.ts:${line} imports ${isTypeOnly ? 'types of ' : ''}${to}`;
}

/** Every `import`, `export … from`, `import()` and `import('…')` type of a file. */
function importsOf(source: ts.SourceFile): Import[] {
  const found: Import[] = [];
  const from = moduleOf(source.fileName);
  const add = (node: ts.Node, specifier: string, isTypeOnly: boolean, isDynamic = false) => {
    const isOurs = specifier.startsWith('.');
    const to = isOurs ? path.posix.join(path.posix.dirname(from), specifier).replace(/\.jsx?$/, '') : specifier;
    found.push({ from, line: lineOf(source, node), to, isOurs, isTypeOnly, isDynamic });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      add(node, textOf(node.moduleSpecifier), node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword);
    } else if (ts.isExportDeclaration(node) && node.moduleSpecifier) {
      add(node, textOf(node.moduleSpecifier), node.isTypeOnly);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      add(node, textOf(node.arguments[0]), false, true);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      add(node, textOf(node.argument.literal), true);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

/** The name in an import. */
function textOf(node: ts.Node | undefined): string {
  return node && ts.isStringLiteral(node) ? node.text : COMPUTED;
}

function lineOf(source: ts.SourceFile, node: ts.Node): number {
  return source.getLineAndCharacterOfPosition(node.getStart()).line + 1;
}

function isDefaultExport(statement: ts.Statement): boolean {
  if (ts.isExportAssignment(statement)) return true;
  if (ts.isExportDeclaration(statement) && statement.exportClause && ts.isNamedExports(statement.exportClause)) {
    return statement.exportClause.elements.some((element) => element.name.text === 'default');
  }
  return (
    ts.canHaveModifiers(statement) &&
    (ts.getModifiers(statement) ?? []).some((modifier) => modifier.kind === ts.SyntaxKind.DefaultKeyword)
  );
}

function isStarExport(statement: ts.Statement): boolean {
  return ts.isExportDeclaration(statement) && (!statement.exportClause || ts.isNamespaceExport(statement.exportClause));
}
