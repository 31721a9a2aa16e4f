/** Up to where each device has been served, of a store in memory. */
import type { Reader } from './store.js';

interface Device {
  position: number;
  /** ms since 1970. */
  seenAt: number;
}

export class MemoryDevices {
  /** By whose they are, then by their names. */
  readonly #owners = new Map<string, Map<string, Device>>();

  cursor(reader: Reader, name: string): number {
    return this.#owners.get(ownerKey(reader))?.get(name)?.position ?? 0;
  }

  /** Moves a cursor; a new device takes the place of one that was not seen for longest, where there are `most`. */
  move(reader: Reader, name: string, position: number, now: number, most: number): void {
    const owner = ownerKey(reader);
    const devices = this.#owners.get(owner) ?? new Map<string, Device>();
    this.#owners.set(owner, devices);
    const known = devices.get(name);
    if (known === undefined && most > 0) {
      const oldest = [...devices].sort(([, a], [, b]) => a.seenAt - b.seenAt || a.position - b.position);
      for (const [other] of oldest.slice(0, Math.max(0, devices.size + 1 - most))) devices.delete(other);
    }
    const { position: before, seenAt } = known ?? { position: 0, seenAt: 0 };
    devices.set(name, { position: Math.max(before, position), seenAt: Math.max(seenAt, now) });
  }

  forget(seenBefore: number, limit: number): number {
    let forgotten = 0;
    for (const [owner, devices] of this.#owners) {
      for (const [name, { seenAt }] of devices) {
        if (forgotten === limit) return forgotten;
        if (seenAt >= seenBefore) continue;
        devices.delete(name);
        forgotten++;
      }
      if (devices.size === 0) this.#owners.delete(owner);
    }
    return forgotten;
  }
}

/** Whose a device is: a user's, in their innermost tenant. */
function ownerKey({ userId, tenants }: Reader): string {
  return JSON.stringify([userId, tenants.at(-1) ?? '']);
}
