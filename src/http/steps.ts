/**
 * Steps that may have to wait, and mostly do not: a generator gives out each promise it must wait for. Where none is
 * given, everything happens in the caller's turn, without a promise, a timer or a listener; most connects go that way
 * (bench/README.md).
 */
import { isThenable } from '../core/diagnostics.js';

/** Gives out promises, is given their results, and returns the outcome. */
export type Steps<T> = Generator<PromiseLike<unknown>, T, unknown>;

/** The value, at once or when its promise is fulfilled; throws where it is rejected. */
export function* settled<T>(value: T | PromiseLike<T>): Steps<T> {
  return isThenable(value) ? ((yield value) as T) : (value as T);
}

/** Takes the steps; a promise only where one of them had to wait. Throws or rejects with what the steps throw. */
export function take<T>(steps: Steps<T>): T | Promise<T> {
  const first = steps.next();
  return first.done === true ? first.value : takeRest(steps, first);
}

async function takeRest<T>(steps: Steps<T>, first: IteratorResult<PromiseLike<unknown>, T>): Promise<T> {
  let step = first;
  while (step.done !== true) {
    let value: unknown;
    try {
      value = await step.value;
    } catch (error) {
      step = steps.throw(error);
      continue;
    }
    step = steps.next(value);
  }
  return step.value;
}
