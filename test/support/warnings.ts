/** Process warnings (leaking listeners, banned headers) while a test runs. */
import { onTestFinished } from 'vitest';

/** Collects what the process warns of until the test ends, as `name: message`. */
export function collectWarnings(): string[] {
  const warnings: string[] = [];
  const listener = (warning: Error) => warnings.push(`${warning.name}: ${warning.message}`);
  process.on('warning', listener);
  onTestFinished(() => {
    process.off('warning', listener);
  });
  return warnings;
}
