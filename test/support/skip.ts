/**
 * Skipping, with its reason on the screen, and never under CI.
 *
 * A test that needs something the machine may lack (a browser, nginx, a Node version) says so in its
 * first lines. Locally the test is skipped and the reason printed; with `CI=true` it fails, because
 * a machine that is there to prove something must have what the proof needs.
 */
import { TestRunner } from 'vitest';

/**
 * Skips the running test unless `condition` holds. Call it inside a test, before anything is opened.
 *
 * @param condition what the test cannot do without; falsy skips. It narrows: after the call a
 *   `string | undefined` is a `string`.
 * @param reason what is missing and how to get it, for example `'no Chromium found; apt-get install chromium'`.
 * @throws an Error with `reason` when the condition does not hold and `CI` is `true`.
 */
export function skipUnless(condition: unknown, reason: string): asserts condition {
  if (condition) return;
  if (isCI()) throw new Error(`CI=true allows no skipped test: ${reason}`);
  const test = TestRunner.getCurrentTest();
  if (!test) throw new Error(`skipUnless() belongs inside a test: ${reason}`);
  console.warn(`skipped: ${test.name}: ${reason}`);
  test.context.skip(reason);
}

/** True on a machine whose runs are to prove something: `CI=true` (or `CI=1`). */
export function isCI(): boolean {
  return process.env.CI === 'true' || process.env.CI === '1';
}
