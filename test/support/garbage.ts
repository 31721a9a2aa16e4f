/** Proves that something is not held any more. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** A garbage collection, with whatever only this job keeps let go of. */
export async function collectGarbage(): Promise<void> {
  // A reference made or read in this job keeps its target until the job is over.
  await new Promise((resolve) => setImmediate(resolve));
  collect();
}

/** How many of the referenced objects are still held after a garbage collection. */
export async function stillHeld(references: readonly WeakRef<object>[]): Promise<number> {
  await collectGarbage();
  return references.filter((reference) => reference.deref() !== undefined).length;
}
