/**
 * Which folders may be hashed: those directly below the root whose name does not begin with a dot, and folders below
 * them. Nothing outside the root, by whatever spelling or link.
 */
import { readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { Refusal } from './refusal.mjs';

const MAX_NAME_LENGTH = 512;

/** Names of the folders to choose from. Symbolic links are not among them. */
export async function listFolders(root) {
  const entries = await readdir(root, { withFileTypes: true });
  return entries
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map((entry) => entry.name)
    .sort();
}

/**
 * The absolute path of a folder that somebody asked for, `src` or `src/core`.
 *
 * @throws {Refusal} 400 where the name is not one, 404 where there is no such folder among those to choose from.
 */
export async function resolveFolder(root, name) {
  const segments = typeof name === 'string' && name.length <= MAX_NAME_LENGTH ? name.split('/') : [''];
  if (segments.some((segment) => segment === '' || segment.startsWith('.') || /[\\:\p{Cc}]/u.test(segment))) {
    throw new Refusal(400, 'INVALID_FOLDER', 'folder must be a path below the project, such as "src" or "src/core"');
  }
  const missing = new Refusal(
    404,
    'UNKNOWN_FOLDER',
    'there is no such folder; GET /folders lists those to choose from',
  );
  if (!(await listFolders(root)).includes(segments[0])) throw missing;
  try {
    const folder = path.join(await realpath(root), ...segments);
    // A link on the way would give another path, inside the project or not.
    if ((await realpath(folder)) === folder && (await stat(folder)).isDirectory()) return folder;
  } catch {
    // Not there, not a folder, or not readable: the same answer.
  }
  throw missing;
}
