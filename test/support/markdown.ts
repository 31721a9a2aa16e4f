/** What the tests read out of Markdown: fenced code blocks, links and headings. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { root } from './package.js';

/** One fenced block. */
export interface CodeBlock {
  /** Relative to the root of the project. */
  readonly file: string;
  /** Line of its first line of code, from 1. */
  readonly line: number;
  /** First word of the info string. */
  readonly language: string;
  /** The other words of the info string. */
  readonly words: readonly string[];
  readonly code: string;
}

/** Somewhere that a page points to. */
export interface Link {
  readonly line: number;
  readonly target: string;
}

/** README.md and what lies below docs/, relative to the root. */
export function documents(): string[] {
  const below = readdirSync(path.join(root, 'docs'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.md'))
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)));
  return ['README.md', ...below.sort()].filter((file) => existsSync(path.join(root, file)));
}

/** The lines of a file of the project. */
export function linesOf(file: string): string[] {
  return readFileSync(path.join(root, file), 'utf8').split(/\r?\n/);
}

/**
 * The fenced blocks of a page (CommonMark, section 4.5), those inside HTML comments and lists included.
 *
 * @throws an Error for a fence that is never closed.
 */
export function codeBlocks(file: string, lines: readonly string[]): CodeBlock[] {
  const blocks: CodeBlock[] = [];
  let open: { fence: string; indent: number; info: string; line: number; code: string[] } | undefined;
  for (const [index, line] of lines.entries()) {
    const [, indent = '', fence = '', info = ''] = /^(\s*)(`{3,}|~{3,})\s*(.*)$/.exec(line) ?? [];
    if (!open) {
      if (fence && !info.includes('`')) open = { fence, indent: indent.length, info, line: index + 2, code: [] };
    } else if (fence.startsWith(open.fence) && info === '') {
      const [language = '', ...words] = open.info.trim().split(/\s+/);
      blocks.push({ file, line: open.line, language, words, code: open.code.join('\n') });
      open = undefined;
    } else {
      open.code.push(line.slice(Math.min(open.indent, line.length - line.trimStart().length)));
    }
  }
  if (open) throw new Error(`${file}:${open.line - 1} opens a block of code that nothing closes`);
  return blocks;
}

/** The page without its code: fenced blocks and code spans are blank, lines stay where they are. */
export function proseLines(file: string, lines: readonly string[]): string[] {
  const prose = [...lines];
  for (const { line, code } of codeBlocks(file, lines)) {
    prose.fill('', line - 2, line + (code === '' ? 0 : code.split('\n').length));
  }
  return prose.map((line) => line.replaceAll(/(`+)(?!`).*?[^`]\1(?!`)/g, ''));
}

/** Where `[text](target)`, `![text](target)`, `[label]: target`, `href="target"` and `src="target"` point to. */
export function links(file: string, lines: readonly string[]): Link[] {
  const forms = [
    /\]\(\s*<?([^()\s>]+)>?(?:\s+["'(][^)]*)?\)/g,
    /^\s*\[[^\]]+\]:\s*<?([^\s>]+)/g,
    /\b(?:href|src)="([^"]+)"/g,
  ];
  return proseLines(file, lines).flatMap((line, index) =>
    forms.flatMap((form) => [...line.matchAll(form)].map((match) => ({ line: index + 1, target: match[1]! }))),
  );
}

/** The anchors of a page, as GitHub makes them out of its headings, and those it sets itself. */
export function anchors(file: string, lines: readonly string[]): Set<string> {
  const found = new Set<string>();
  for (const [index, prose] of proseLines(file, lines).entries()) {
    for (const [, id] of prose.matchAll(/\b(?:id|name)="([^"]+)"/g)) found.add(id!);
    // The heading itself is read with its code spans, which proseLines() blanks.
    const heading = /^ {0,3}#{1,6}\s/.test(prose) ? /^ {0,3}#{1,6}\s+(.*?)\s*#*$/.exec(lines[index]!)?.[1] : undefined;
    if (heading === undefined) continue;
    const text = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1');
    const slug = text
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\p{M}\p{Pc}\- ]/gu, '')
      .replaceAll(' ', '-');
    let unique = slug;
    for (let count = 1; found.has(unique); count++) unique = `${slug}-${count}`;
    found.add(unique);
  }
  return found;
}
