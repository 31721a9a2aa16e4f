/**
 * The real work of the demo: the SHA-256 of every file below a folder, read in chunks, one file at a time.
 *
 * Symbolic links are not followed, neither to files nor to folders: what is hashed lies below the folder. Files that
 * cannot be read, or that went away meanwhile, are counted and do not stop the rest.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, open, opendir, realpath } from 'node:fs/promises';
import path from 'node:path';

const CHUNK_BYTES = 256 * 1024;

// What was a file when it was listed may be something else by now: O_NOFOLLOW refuses a link, and with O_NONBLOCK opening
// a named pipe does not wait for a writer.
const OPEN_FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

/**
 * @param {string} folder absolute
 * @param {{ signal: AbortSignal, maxFiles: number, onProgress(progress: object): void }} options `onProgress` is called
 *   often, with the same object: copy what you keep.
 * @returns {Promise<{ files: number, bytes: number, links: number, unreadable: string[], manifest: string, digest: string }>}
 *   `manifest` is what `sha256sum` prints, ordered by path; `digest` the SHA-256 of the manifest.
 */
export async function hashFolder(folder, { signal, maxFiles, onProgress }) {
  const progress = { phase: 'scanning', files: 0, totalFiles: 0, bytes: 0, totalBytes: 0, currentFile: '' };
  const found = { files: [], links: 0, unreadable: [] };
  await scan(folder, found, (file) => {
    signal.throwIfAborted();
    if (found.files.length > maxFiles) throw new Error(`more than ${maxFiles} files; choose a smaller folder`);
    progress.totalFiles = found.files.length;
    progress.totalBytes += file.size;
    progress.currentFile = file.name;
    onProgress(progress);
  });
  found.files.sort((a, b) => (a.name < b.name ? -1 : 1));

  progress.phase = 'hashing';
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  const lines = [];
  for (const { name } of found.files) {
    progress.currentFile = name;
    await unlessRefused(found, name, async () => {
      const hash = await hashFile(path.join(folder, name), buffer, signal, (bytes) => {
        progress.bytes += bytes;
        onProgress(progress);
      });
      lines.push(manifestLine(hash, name));
    });
    progress.files++;
    onProgress(progress);
  }

  const manifest = lines.join('');
  const digest = createHash('sha256').update(manifest).digest('hex');
  const { links, unreadable } = found;
  return { files: lines.length, bytes: progress.bytes, links, unreadable, manifest, digest };
}

/** Every file below `folder`, by a path relative to it with forward slashes. */
async function scan(folder, found, onFile) {
  const waiting = [''];
  while (waiting.length > 0) {
    const parent = waiting.pop();
    await unlessRefused(found, parent, async () => {
      const directory = path.join(folder, parent);
      // It was a folder when it was listed; by now it may be a link that leads elsewhere.
      if ((await realpath(directory)) !== directory) return void found.links++;
      for await (const entry of await opendir(directory)) {
        const name = parent === '' ? entry.name : `${parent}/${entry.name}`;
        if (entry.isSymbolicLink()) {
          found.links++;
        } else if (entry.isDirectory()) {
          waiting.push(name);
        } else if (entry.isFile()) {
          await unlessRefused(found, name, async () => {
            const file = { name, size: (await lstat(path.join(folder, name))).size };
            found.files.push(file);
            onFile(file);
          });
        }
      }
    });
  }
}

/** Runs `action`; where the file system refuses it, `name` is unreadable, and that is all. */
async function unlessRefused(found, name, action) {
  try {
    await action();
  } catch (error) {
    if (error.syscall === undefined) throw error;
    found.unreadable.push(name);
  }
}

async function hashFile(file, buffer, signal, onBytes) {
  const hash = createHash('sha256');
  const handle = await open(file, OPEN_FLAGS);
  try {
    if (!(await handle.stat()).isFile()) throw Object.assign(new Error('not a file any more'), { syscall: 'open' });
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, buffer.length);
      if (bytesRead === 0) return hash.digest('hex');
      hash.update(buffer.subarray(0, bytesRead));
      onBytes(bytesRead);
    }
  } finally {
    await handle.close();
  }
}

/** As GNU sha256sum writes it: names that would break the line are escaped, and the line says so. */
function manifestLine(hash, file) {
  // A dash alone would be standard input.
  const name = file === '-' ? './-' : file;
  if (!/[\\\n\r]/.test(name)) return `${hash}  ${name}\n`;
  const escaped = name.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('\r', '\\r');
  return `\\${hash}  ${escaped}\n`;
}
