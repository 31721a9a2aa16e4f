/** Every relative link of the documents leads to a file of this project, and to a heading that is there. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { anchors, documents, linesOf, links } from '../support/markdown.js';
import { root } from '../support/package.js';

const papers = ['CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'];

test.each([...documents(), ...papers])('the links of %s lead somewhere', (file) => {
  const dead = links(file, linesOf(file)).flatMap(({ line, target }) => {
    const problem = problemOf(file, target);
    return problem ? [`${file}:${line} ${target}: ${problem}`] : [];
  });
  expect(dead).toEqual([]);
});

function problemOf(file: string, target: string): string | undefined {
  if (/^[a-z][a-z0-9+.-]*:|^\/\//i.test(target)) return undefined;
  const [, pathname = '', anchor] = /^([^#?]*)(?:\?[^#]*)?(?:#(.*))?$/.exec(target)!;
  const to = pathname === '' ? file : path.normalize(path.join(path.dirname(file), decodeURIComponent(pathname)));
  if (pathname.startsWith('/') || to.startsWith('..')) return 'outside of the project';
  if (!existsSync(path.join(root, to))) return 'no such file';
  if (anchor === undefined || !to.endsWith('.md')) return undefined;
  return anchors(to, linesOf(to)).has(decodeURIComponent(anchor)) ? undefined : 'no such heading';
}
