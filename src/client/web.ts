/**
 * What the client uses of the web platform and Node does not have, by the part that is called. Everything may be missing,
 * and is looked for when it is needed, never at import.
 */

export interface Target {
  addEventListener(
    name: string,
    handler: () => void,
    options: { readonly signal: AbortSignal; readonly capture: boolean },
  ): void;
}

export interface Store {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

/** Web Locks. */
export interface Locks {
  request(
    name: string,
    options: { readonly steal?: boolean; readonly signal?: AbortSignal },
    use: () => Promise<void> | undefined,
  ): Promise<void>;
}

/** One end of a BroadcastChannel. */
export interface Channel {
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
}

interface Web extends Target {
  readonly document?: Target & { readonly visibilityState: string };
  readonly navigator?: { readonly onLine?: boolean; readonly locks?: Locks };
  /** Reading them throws where the page may not store. */
  readonly sessionStorage: Store;
  readonly localStorage: Store;
  readonly BroadcastChannel?: new (name: string) => Channel;
}

export const web = globalThis as unknown as Web;
