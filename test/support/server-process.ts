/** A server program of a test's own: started, asked to end, killed, frozen and thawed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { isListening } from './port.js';
import { until } from './until.js';

export abstract class ServerProcess {
  readonly port: number;
  #process: ChildProcess | undefined = undefined;

  protected constructor(port: number) {
    this.port = port;
  }

  /** Resolves when it listens. */
  protected async spawn(program: string, args: readonly string[]): Promise<void> {
    const child = spawn(program, args, { stdio: 'ignore' });
    this.#process = child;
    await until(() => child.exitCode !== null || isListening(this.port), `${program} on ${this.port}`);
    if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}`);
  }

  /** Asks it to end. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** kill -9. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** SIGSTOP: its connections stay, and nothing answers. */
  freeze(): void {
    this.#process?.kill('SIGSTOP');
  }

  /** SIGCONT. */
  thaw(): void {
    this.#process?.kill('SIGCONT');
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    // One that is frozen ends when it runs again.
    child.kill('SIGCONT');
    await ended;
  }
}
