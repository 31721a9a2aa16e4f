/** That a suite finds what is wrong with a bus: one defect each, and the cases that must tell. */
import { expect, test } from 'vitest';

/** By what is wrong: the case that must fail, and how to break a bus so. */
export type Defects<Make> = Readonly<Record<string, readonly [expected: RegExp, make: Make]>>;

/** Registers a test for each; and one that each of `names` has failed in some of them. `failures` gives the cases that failed. */
export function testDefects<Make>(
  defects: Defects<Make>,
  failures: (make: Make) => Promise<string[]>,
  names: () => readonly string[],
): void {
  const found = new Set<string>();
  for (const [defect, [expected, make]] of Object.entries(defects)) {
    test(`${defect} does not pass`, async () => {
      const failed = await failures(make);
      for (const name of failed) found.add(name);
      expect(failed).toEqual(expect.arrayContaining([expect.stringMatching(expected)]));
    });
  }

  test('each case has found something', () => {
    expect(names().filter((name) => !found.has(name))).toEqual([]);
  });
}
