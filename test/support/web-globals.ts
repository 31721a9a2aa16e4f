/** The globals of a page, and which of them code of `src/` looks at while it renders on a server. */

const NAMES = [
  'BroadcastChannel',
  'EventSource',
  'addEventListener',
  'document',
  'fetch',
  'localStorage',
  'location',
  'navigator',
  'sessionStorage',
  'setInterval',
  'setTimeout',
  'window',
];

/** Runs `body`, which does its work before its first await, and gives the names that our code read; frameworks may. */
export function readGlobals(body: () => void): string[] {
  const read = new Set<string>();
  const originals = NAMES.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)] as const);
  for (const [name, original] of originals) {
    const get = () => {
      // Line 0 is the message, 1 this getter, 2 who reads.
      if (new Error().stack?.split('\n')[2]?.includes('/src/')) read.add(name);
      return original && ('value' in original ? original.value : original.get?.call(globalThis));
    };
    Object.defineProperty(globalThis, name, { configurable: true, get });
  }
  try {
    body();
  } finally {
    for (const [name, original] of originals) {
      if (original) Object.defineProperty(globalThis, name, original);
      else Reflect.deleteProperty(globalThis, name);
    }
  }
  return [...read];
}
