/**
 * The client that a provider makes: connected by effects only, so neither a server nor a render that is thrown away opens
 * anything, and one connection however often React undoes and redoes the effects.
 */
import { type RefObject, useEffect, useInsertionEffect, useState } from 'react';
import { SSEClient } from '../client/client.js';
import type { SSEClientConfig } from '../client/types.js';
import { useLatest } from './latest.js';
import type { OwnClientProps } from './types.js';

type Latest = RefObject<Readonly<Record<string, unknown>>>;

interface Hold {
  count: number;
}

/**
 * Holds until the undo is called, and calls `release` when nothing holds any more. StrictMode and hot reload undo effects and
 * redo them at once; a microtask later it is clear what stays undone.
 */
function hold(own: Hold, release: () => void): () => void {
  own.count++;
  return () => {
    own.count--;
    Promise.resolve().then(() => {
      if (own.count === 0) release();
    });
  };
}

/** `read()` with functions that call what `read()` gives by then: they stay the same while the application makes new ones. */
function steady(read: () => unknown): unknown {
  const value = read();
  if (Array.isArray(value)) return value.map((_, index) => steady(() => (read() as unknown[])[index]));
  if (typeof value !== 'function') return value;
  return (...args: unknown[]) => {
    const newest = read();
    // After a change that is not committed to the client yet there may be no function any more.
    return (typeof newest === 'function' ? newest : value)(...args);
  };
}

function settingsOf(latest: Latest): SSEClientConfig {
  const names = Object.keys(latest.current).filter((name) => latest.current[name] !== null);
  return Object.fromEntries(names.map((name) => [name, steady(() => latest.current[name])]));
}

/**
 * What makes settings of the ones before: the client lays new ones over those it has, so what is gone must be said; and a
 * place to begin that is no new one must not lead back there.
 */
function changesFrom(before: SSEClientConfig, settings: SSEClientConfig): SSEClientConfig {
  const gone = Object.fromEntries(Object.keys(before).map((name) => [name, undefined]));
  const { lastEventId, ...rest } = settings;
  return { ...gone, ...rest, ...(lastEventId === before.lastEventId ? {} : { lastEventId }) };
}

/** Equal for settings that ask for the same connection. */
function keyOf(settings: object): string {
  return JSON.stringify(settings, (_, value) =>
    typeof value === 'function' ? 'ƒ' : typeof value === 'number' ? `${value}` : value,
  );
}

/** The client for these props, connected from mount to unmount. */
export function useOwnClient<Events extends object>({ url, config }: OwnClientProps): SSEClient<Events> {
  const latest = useLatest<Readonly<Record<string, unknown>>>({ ...config, url });
  const key = keyOf({ ...config, url });
  const [own] = useState(() => {
    const settings = settingsOf(latest);
    return { client: new SSEClient<Events>(settings), settings, key, mounted: { count: 0 }, shown: { count: 0 } };
  });

  // <Activity> undoes the effects of what it hides, and keeps its state; insertion effects last to the unmount.
  useInsertionEffect(() => hold(own.mounted, () => own.client.destroy()), [own]);

  useEffect(() => {
    const { client } = own;
    const undo = hold(own.shown, () => client.disconnect());
    if (latest.current.url === null) client.disconnect();
    else if (own.key === key) client.connect();
    else {
      const settings = settingsOf(latest);
      client.connect(undefined, changesFrom(own.settings, settings));
      own.settings = settings;
    }
    own.key = key;
    return undo;
  }, [own, key, latest]);

  return own.client;
}
