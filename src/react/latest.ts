/** A ref to what the newest committed render passed: what is called later sees no older state. */
import { type RefObject, useInsertionEffect, useRef } from 'react';

/**
 * Set in an insertion effect: before any other effect of the same commit can read it, and, other than during rendering,
 * never by a render that is thrown away. Unlike layout effects those say nothing on the server, where React 18 warns of them.
 */
export function useLatest<Value>(value: Value): RefObject<Value> {
  const latest = useRef(value);
  useInsertionEffect(() => {
    latest.current = value;
  });
  return latest;
}
