/**
 * Names in NATS: the subject of each channel key, the stream of the namespace.
 *
 * A key becomes one token. What NATS does not allow in one, or people cannot read (dots, spaces, `*`, `>`, control
 * characters, everything beyond ASCII), stands as `=` and two hexadecimal digits per byte of UTF-8. A key too long for a
 * line of the protocol (4 096 bytes with everything) becomes a digest of itself: nobody reads a key back from a subject.
 */
import { createHash } from 'node:crypto';

/** Longest token that stands as it is. */
const MAX_TOKEN_LENGTH = 1_024;

const PLAIN = /^[A-Za-z0-9_:-]+$/;
const ESCAPED = /[^A-Za-z0-9_:-]/gu;

/** A channel key as one token of a subject. Two keys never give the same. */
export function tokenOf(key: string): string {
  const token = PLAIN.test(key) ? key : key.replace(ESCAPED, escaped);
  if (token.length <= MAX_TOKEN_LENGTH) return token;
  // `=h` is no byte, so this is no other key's token.
  return `=h${createHash('sha256').update(key).digest('hex')}`;
}

function escaped(character: string): string {
  let text = '';
  for (const byte of Buffer.from(character)) text += `=${byte.toString(16).padStart(2, '0').toUpperCase()}`;
  return text;
}

/** The subjects of one namespace. */
export class NatsSubjects {
  readonly #prefix: string;
  /** Marks the place from which on nothing is dropped by age: see nats-stream.ts. No channel key begins like this. */
  readonly anchor: string;

  constructor(subjectPrefix: string, namespace: string) {
    this.#prefix = `${subjectPrefix}.${namespace}`;
    this.anchor = this.event('=anchor');
  }

  /** Everything that the stream keeps. */
  get events(): string {
    return `${this.#prefix}.event.>`;
  }

  /** Where the stream publishes again what it has stored; `token` tells one stream from the one that replaces it. */
  republished(token: string): string {
    return `${this.#prefix}.live.${token}.>`;
  }

  /** Where an event of `key` is published. */
  event(key: string): string {
    return `${this.#prefix}.event.${key === '=anchor' ? key : tokenOf(key)}`;
  }

  /** Where it comes from again, whichever stream it was. */
  live(key: string): string {
    return `${this.#prefix}.live.*.${tokenOf(key)}`;
  }

  /** Where an anchor comes from again. */
  get liveAnchor(): string {
    return `${this.#prefix}.live.*.=anchor`;
  }

  /** Where it is published without a stream. */
  plain(key: string): string {
    return `${this.#prefix}.plain.${tokenOf(key)}`;
  }

  /** The token in a subject of {@link live}. */
  tokenIn(subject: string): string {
    const start = this.#prefix.length + '.live.'.length;
    return subject.slice(start, subject.indexOf('.', start));
  }

  /** The token in a republish destination; undefined where it is no place that nodes listen at. */
  tokenOfDestination(destination: string | undefined): string | undefined {
    const start = `${this.#prefix}.live.`;
    if (destination === undefined || !destination.startsWith(start) || !destination.endsWith('.>')) return undefined;
    const token = destination.slice(start.length, -2);
    return /^[A-Za-z0-9_-]+$/.test(token) ? token : undefined;
  }
}
