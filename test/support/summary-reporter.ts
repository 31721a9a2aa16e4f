/**
 * Closes a run with `N passed, N failed` alone on a line, which CI reads, and makes a skipped test a failure under CI: what
 * was skipped was not proven.
 */
import type { Reporter, SerializedError, TestModule, TestRunEndReason } from 'vitest/node';
import { isCI } from './skip.js';

export default class SummaryReporter implements Reporter {
  onTestRunEnd(
    modules: readonly TestModule[],
    unhandledErrors: readonly SerializedError[],
    reason: TestRunEndReason,
  ): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const inState = (state: string) => tests.filter((test) => test.result().state === state);
    // A file that does not load, or a hook that throws, fails no test of its own.
    const brokenModules = modules.filter((module) => module.errors().length > 0);
    let failed = inState('failed').length + brokenModules.length + unhandledErrors.length;
    if (failed === 0 && reason !== 'passed') failed = 1;

    const skipped = inState('skipped');
    if (isCI() && skipped.length > 0) {
      for (const test of skipped) console.log(`skipped under CI: ${test.module.relativeModuleId}: ${test.fullName}`);
      failed += skipped.length;
      process.exitCode = 1;
    }
    const line = `${inState('passed').length} passed, ${failed} failed`;
    // After whatever the other reporters still have to say.
    process.once('exit', () => console.log(line));
  }
}
