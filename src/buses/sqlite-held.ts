/**
 * Which files this process has open: to look at one of them would end its lock. The operating system lets go of all locks
 * of a process on a file when any part of that process closes any descriptor of it (fcntl(2)), in silence.
 *
 * So everything here must be asked before the file is opened. Other copies of this module (the CommonJS build beside the ES
 * modules, two versions of the package) share one set; other threads share nothing with us but the descriptors, which
 * Linux shows.
 */
import { closeSync, openSync, readdirSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';

/** What the set holds may not change: other versions of this module read it. */
const HELD = Symbol.for('sse-broker.sqlite.held');

/** https://man7.org/linux/man-pages/man5/proc_pid_fdinfo.5.html */
const DESCRIPTORS = '/proc/self/fd';
const DESCRIPTOR_STATES = '/proc/self/fdinfo';

/** Of a process with more, the lowest are looked at: its histories were opened before it had so many clients. */
const MAX_DESCRIPTORS = 10_000;

/** Whether a bus of this thread has it, under whichever name. */
export function isHeld(file: string): boolean {
  const files = held();
  return namesOf(file).some((name) => files.has(name));
}

/** Notes that a bus has it; returns the undo. */
export function hold(file: string): () => void {
  const names = namesOf(file);
  for (const name of names) held().add(name);
  return () => {
    for (const name of names) held().delete(name);
  };
}

/**
 * Whether anything of this process has a lock on it: a bus of another thread, or a connection that the application opened
 * itself. A descriptor without one does not count: an SQLite client may keep it after its database was closed (libsql).
 * Always false where the operating system does not tell, which is everywhere but on Linux.
 */
export function isLockedHere(file: string): boolean {
  return descriptorsOf(file).some((descriptor) => {
    try {
      return /^lock:\s+\d+: POSIX/m.test(readFileSync(path.join(DESCRIPTOR_STATES, descriptor), 'latin1'));
    } catch {
      // Closed since.
      return false;
    }
  });
}

/**
 * Keeps the other threads of this process from opening the file at the same moment, where each might end the lock that the
 * other has just taken; returns the end of that, or undefined where another thread is at it.
 *
 * @throws what the operating system says where no file can be made there. SQLite makes its log in that folder, and not all
 * of its clients say what is wrong where they cannot.
 */
export function beginOpening(file: string): (() => void) | undefined {
  const probe = `${file}-probe-${process.pid}`;
  let descriptor: number;
  try {
    descriptor = openSync(probe, 'wx');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    if (descriptorsOf(probe).length > 0) return undefined;
    // Left by a process of our number that was killed.
    descriptor = openSync(probe, 'w');
  }
  return () => {
    closeSync(descriptor);
    rmSync(probe, { force: true });
  };
}

function held(): Set<string> {
  const shared = globalThis as { [HELD]?: Set<string> };
  shared[HELD] ??= new Set();
  return shared[HELD];
}

/**
 * What a file is known by: device and inode, whatever links lead there; and its path, because SQLite finds the log by it,
 * also when the file itself was taken away or replaced.
 */
function namesOf(file: string): string[] {
  const identity = identityOf(file);
  if (identity !== undefined) return [identity, realpathSync.native(file)];
  return [path.join(realpathSync.native(path.dirname(file)), path.basename(file))];
}

function identityOf(file: string): string | undefined {
  const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
  return stat && `${stat.dev}:${stat.ino}`;
}

/** The descriptors that this process, all of its threads, has of a file. Empty where the operating system does not tell. */
function descriptorsOf(file: string): string[] {
  const identity = identityOf(file);
  if (identity === undefined || process.platform !== 'linux') return [];
  try {
    return readdirSync(DESCRIPTORS)
      .slice(0, MAX_DESCRIPTORS)
      .filter((descriptor) => isOf(descriptor, identity));
  } catch {
    // No such file system, or forbidden (Node's permission model).
    return [];
  }
}

function isOf(descriptor: string, identity: string): boolean {
  try {
    return identityOf(path.join(DESCRIPTORS, descriptor)) === identity;
  } catch {
    // On a file system that is gone.
    return false;
  }
}
