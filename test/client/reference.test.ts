/** docs/reference/client.md names everything that the types and the code name, with the same defaults, and nothing else. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import { root } from '../support/package.js';

const page = readFileSync(path.join(root, 'docs/reference/client.md'), 'utf8');

function parsed(file: string): ts.SourceFile {
  const text = readFileSync(path.join(root, 'src/client', file), 'utf8');
  return ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
}

const types = parsed('types.ts');

function declared<Node extends ts.Node & { name?: ts.Node }>(
  source: ts.SourceFile,
  name: string,
  is: (node: ts.Node) => node is Node,
): Node {
  const found = source.statements.find(
    (statement): statement is ts.Statement & Node => is(statement) && statement.name?.getText() === name,
  );
  if (!found) throw new Error(`no ${name} in ${source.fileName}`);
  return found;
}

/** Members of an interface with their TSDoc. */
function membersOf(name: string): Map<string, string> {
  const { members } = declared(types, name, ts.isInterfaceDeclaration);
  return new Map(
    members.map((member) => {
      const comments = ts.getJSDocCommentsAndTags(member).map((comment) => comment.getText());
      return [member.name!.getText(), comments.join(' ').replaceAll(/\s*\n\s*\*\s*/g, ' ')];
    }),
  );
}

/** The words of a union of string literals. */
function wordsOf(source: ts.SourceFile, name: string): string[] {
  const { type } = declared(source, name, ts.isTypeAliasDeclaration);
  const words: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isStringLiteral(node)) words.push(node.text);
    else if (ts.isTypeReferenceNode(node)) words.push(...wordsOf(source, node.typeName.getText()));
    ts.forEachChild(node, visit);
  };
  visit(type);
  return words;
}

/** Cells of all table rows of the section below `heading`, down to the next heading of its level or above. */
function rowsBelow(heading: string): string[][] {
  const level = /^#+/.exec(heading)![0].length;
  const lines = page.split('\n');
  const start = lines.indexOf(heading);
  if (start === -1) throw new Error(`no ${heading}`);
  const length = lines.slice(start + 1).findIndex((line) => {
    const hashes = /^#+/.exec(line)?.[0].length;
    return hashes !== undefined && hashes <= level;
  });
  return lines
    .slice(start + 1, length === -1 ? undefined : start + 1 + length)
    .filter((line) => line.startsWith('| '))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    );
}

/** Names in backticks in the first cells. */
const namesBelow = (heading: string) =>
  rowsBelow(heading).flatMap(([first = '']) => [...first.matchAll(/`([\w-]+)`/g)].map((match) => match[1]!));

/** A number or word of a TSDoc's `Default …` as the table writes it. */
function defaultIn(comment: string): string | undefined {
  const text = /Default ('[^']+'|`[^`]+`|[^.]+?)\.(?!\d)/.exec(comment)?.[1]?.replaceAll('`', '');
  if (text === undefined) return undefined;
  const size = /^(\d+) MiB$/.exec(text);
  return size ? String(Number(size[1]) * 1024 * 1024) : text.replaceAll(/(\d) (?=\d)/g, '$1');
}

test('every option has its row, and every row its option', () => {
  expect(namesBelow('## Options').toSorted()).toEqual([...membersOf('SSEClientConfig').keys()].toSorted());
});

test('the defaults are those of the TSDoc', () => {
  const rows = new Map(rowsBelow('## Options').map(([name = '', value = '']) => [name.replaceAll('`', ''), value]));
  const inCode = [...membersOf('SSEClientConfig')].flatMap(([name, comment]) => {
    const value = defaultIn(comment);
    return value === undefined ? [] : [[name, `\`${value}\``]];
  });
  expect(inCode.length).toBeGreaterThan(15);
  expect(inCode.map(([name]) => [name, rows.get(name!)])).toEqual(inCode);
});

test('every field of the status and of the figures is there', () => {
  const status = namesBelow('## Status');
  for (const name of membersOf('SSEStatusInfo').keys()) expect(status, name).toContain(name);
  expect(namesBelow('## getStats').toSorted()).toEqual([...membersOf('SSEStats').keys()].toSorted());
});

test('every status and every reason is there', () => {
  expect(namesBelow('## Status')).toEqual(expect.arrayContaining(wordsOf(types, 'SSEStatus')));
  expect(namesBelow('### Reasons').toSorted()).toEqual(wordsOf(types, 'SSEReason').toSorted());
});

test('every event of the client and every method is there', () => {
  const events = namesBelow('## Events');
  expect(events.toSorted()).toEqual([...membersOf('SSEClientEvents').keys()].toSorted());
  const { members } = declared(parsed('client.ts'), 'SSEClient', ts.isClassDeclaration);
  const names = members
    .map(({ name }) => name?.getText() ?? '')
    .filter((name) => name !== '' && !name.startsWith('#') && !name.startsWith('['));
  const methods = rowsBelow('## Methods').flatMap(([first = '']) =>
    [...first.matchAll(/`(\w+)(?:\(.*?\))?`/g)].map((match) => match[1]!),
  );
  expect(methods.toSorted()).toEqual([...new Set(names)].toSorted());
});

test('every error code has its heading', () => {
  const headings = [...page.matchAll(/^### (SSE_\w+)$/gm)].map((match) => match[1]);
  expect(headings.toSorted()).toEqual(wordsOf(parsed('errors.ts'), 'SSEClientErrorCode').toSorted());
});
