/** A forked server or load client: asked over its channel, watched through `/proc`. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** USER_HZ: what `/proc/PID/stat` counts in; 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
const LAST_WORDS = 4000;
/** No step of a round takes that long; one that does hangs. */
const DEADLINE_MS = 180_000;

export class Child {
  #process;
  #name;
  #nextId = 1;
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: Error) => void }>} */
  #waiting = new Map();
  #output = '';
  #isStopping = false;
  /** @type {Promise<void>} */
  #exited;

  /**
   * @param {string} name for messages
   * @param {string} file
   * @param {{ core?: number }} [options] `core` pins it there (with `taskset`)
   */
  constructor(name, file, { core } = {}) {
    this.#name = name;
    const command = [process.execPath, '--expose-gc', file];
    if (core !== undefined) command.unshift('taskset', '-c', String(core));
    const [program, ...args] = command;
    this.#process = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.on('data', (text) => {
        this.#output = (this.#output + text).slice(-LAST_WORDS);
      });
    }
    this.#process.on('message', (/** @type {any} */ { id, result, error }) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new Error(`${name}: ${error}`));
    });
    this.#exited = new Promise((resolve) => {
      this.#process.on('error', (error) => this.#fail(`could not be started: ${error.message}`, resolve));
      this.#process.on('exit', (code, signal) => this.#fail(`exited with ${signal ?? code}`, resolve));
    });
  }

  get pid() {
    return this.#process.pid ?? 0;
  }

  /** What it printed, for a report of a failure. */
  get output() {
    return this.#output;
  }

  /**
   * @param {string} op
   * @param {Record<string, unknown>} [args]
   * @returns {Promise<any>}
   */
  ask(op, args = {}) {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve, reject });
      setTimeout(() => {
        if (this.#waiting.delete(id)) reject(this.#error(`did not finish "${op}" within ${DEADLINE_MS} ms`));
      }, DEADLINE_MS).unref();
      this.#process.send({ ...args, id, op }, (error) => {
        if (error) reject(this.#error(error.message));
      });
    });
  }

  async stop() {
    this.#isStopping = true;
    this.#process.kill('SIGKILL');
    await this.#exited;
  }

  /** @param {string} what */
  #error(what) {
    return new Error(`${this.#name} ${what}\n${this.#output}`);
  }

  /** @param {string} what @param {() => void} done */
  #fail(what, done) {
    const error = this.#error(what);
    if (!this.#isStopping) for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    done();
  }
}

/**
 * The system's account of a process; undefined where there is no `/proc`.
 *
 * `writes` are calls of write and writev; libuv sends to sockets with these two, so they count socket writes (and the
 * few others: IPC, wake-ups of other threads). `waitedSeconds` is how long the main thread was ready to run and had no
 * core: others' work on this machine.
 *
 * @param {number} pid
 */
export function processAccount(pid) {
  try {
    // The name in parentheses may hold spaces: fields are counted from behind it.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const io = readFileSync(`/proc/${pid}/io`, 'latin1');
    return {
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
      writes: Number(/syscw: (\d+)/.exec(io)?.[1]),
      waitedSeconds: Number(readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ')[1]) / 1e9,
    };
  } catch {
    return undefined;
  }
}

/** Resident bytes now; 0 where there is no `/proc`. @param {number} pid */
export function residentBytes(pid) {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
  } catch {
    return 0;
  }
}

/** The most it ever had; 0 where there is no `/proc`. @param {number} pid */
export function peakResidentBytes(pid) {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) * 1024;
  } catch {
    return 0;
  }
}
