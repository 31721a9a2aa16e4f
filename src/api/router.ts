/** From a path to its routes. Names in a path are percent-decoded, each on its own: a `%2F` in one does not end it. */
import type { Route } from './route.js';

/** What is mounted at one path. */
export interface Place {
  /** By method. */
  readonly routes: ReadonlyMap<string, Route>;
  readonly params: Readonly<Record<string, string>>;
}

interface Shape {
  /** Null stands for a name. */
  readonly segments: readonly (string | null)[];
  readonly names: readonly string[];
  readonly routes: Map<string, Route>;
}

/** Gives the place of a path, which starts below where the API is mounted. */
export function makeRouter(routes: readonly Route[]): (path: string) => Place | undefined {
  const shapes = new Map<string, Shape>();
  for (const route of routes) {
    const parts = route.path.split('/').slice(1);
    const shape = shapes.get(route.path) ?? {
      segments: parts.map((part) => (part.startsWith(':') ? null : part)),
      names: parts.filter((part) => part.startsWith(':')).map((part) => part.slice(1)),
      routes: new Map(),
    };
    shape.routes.set(route.method, route);
    shapes.set(route.path, shape);
  }
  const all = [...shapes.values()];
  return (path) => {
    const parts = path.split('/').slice(1);
    for (const { segments, names, routes } of all) {
      if (parts.length !== segments.length) continue;
      if (!segments.every((segment, at) => segment === null || segment === parts[at])) continue;
      const values = parts.filter((_part, at) => segments[at] === null).map(decoded);
      // An empty name, or one that is no UTF-8, is no place.
      if (values.some((value) => value === undefined || value === '')) return undefined;
      return { routes, params: Object.fromEntries(names.map((name, at) => [name, values[at]!])) };
    }
    return undefined;
  };
}

function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

/** The path of a request's URL, which may be absolute (Fetch, and requests to proxies). */
export function pathOf(url: string): string {
  const path = url.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '').replace(/[?#].*$/s, '');
  return path === '' ? '/' : path;
}

/** `path` below `mount`; undefined where it is not below it. */
export function below(mount: string, path: string): string | undefined {
  if (mount === '') return path;
  if (!path.startsWith(mount)) return undefined;
  const rest = path.slice(mount.length);
  return rest === '' ? '/' : rest.startsWith('/') ? rest : undefined;
}
