/**
 * What each device may have got, and how often: every event once, but for messages that docs/guides/inbox.md says may come again,
 * each excuse looked at as closely as the cursor that the device came back with allows.
 */

import { sectionsOf } from '../../src/core/tagged-id.js';
import { cursorIn, placeIn, type RoundProgress } from '../../src/inbox/message-tag.js';
import type { Reader } from '../../src/inbox/store.js';
import { type Device, type Got, MESSAGE_TYPES } from './device.js';
import type { Publications } from './inbox-faults.js';

/** Why a message came again. */
export type Excuse = 'published again' | 'published after it was read' | 'after a gap' | 'had overtaken others';

export interface JudgeOptions {
  /** Several nodes send. */
  readonly isShared: boolean;
  /** Nothing may be lost: no device may be told a gap. */
  readonly isLossless: boolean;
  readonly publications: Publications;
  /** Whether a message that is stored is for the reader, as subscriptions are now. */
  isFor(number: number, reader: Reader): boolean;
}

export class Judge {
  /** How often each excuse was needed. */
  readonly excused = new Map<Excuse, number>();
  readonly #options: JudgeOptions;
  /** By reader: numbers of what they may get. */
  readonly #allowed = new Map<string, Set<number>>();
  readonly #places = new Map<number, { readonly position: number; readonly eventId: string }>();
  readonly #judged = new Map<Device, number>();

  constructor(options: JudgeOptions) {
    this.#options = options;
  }

  allow(reader: Reader, number: number): void {
    const key = keyOf(reader);
    const numbers = this.#allowed.get(key) ?? new Set();
    this.#allowed.set(key, numbers.add(number));
  }

  /** A message has been stored. */
  stored(number: number, eventId: string, position: number): void {
    this.#places.set(number, { eventId, position });
  }

  /** Whether the bus has had it. */
  isPublished(number: number): boolean {
    return this.#options.publications.has(this.#places.get(number)?.eventId ?? '');
  }

  /** For people. */
  placeOf(number: number): string {
    const place = this.#places.get(number);
    const times = this.#options.publications.get(place?.eventId ?? '') ?? 0;
    return `at ${place?.position.toString(36)}, published ${times} times`;
  }

  /** Looks at what a device has got since the last time. @throws where it must not have got that */
  check(device: Device, reader: Reader): void {
    const { got } = device;
    for (let at = this.#judged.get(device) ?? 0; at < got.length; at++) {
      this.#judged.set(device, at + 1);
      const event = got[at]!;
      if (event.type === 'gap') this.#checkGap(event);
      else if (MESSAGE_TYPES.has(event.type)) this.#checkMessage(device, at, reader);
    }
  }

  #checkGap({ data }: Got): void {
    const { reason } = JSON.parse(data) as { reason: string };
    // A client with an inbox is disconnected instead.
    if (this.#options.isLossless || reason === 'overflow') throw new Error(`was told a gap: ${data}`);
  }

  #checkMessage({ got, cursors }: Device, at: number, reader: Reader): void {
    const event = got[at]!;
    const number = Number(event.data);
    if (!this.#isAllowed(number, reader))
      throw new Error(`got ${number}, which is not for it: ${this.placeOf(number)}`);
    const before = got.slice(0, at).filter(({ type, data }) => MESSAGE_TYPES.has(type) && data === event.data);
    if (before.length === 0) return;
    const began = beganAt(cursors, event);
    const hasGap = got.slice(0, at).some(({ type, stream }) => type === 'gap' && stream >= began);
    const excuse = this.#excuse(number, before, event, cursors[began]!, hasGap);
    if (excuse === undefined) throw new Error(`got ${number} twice: as ${before[0]!.eventId} and ${event.eventId}`);
    this.excused.set(excuse, (this.excused.get(excuse) ?? 0) + 1);
  }

  /** What is published again may come to who has subscribed since it was stored. */
  #isAllowed(number: number, reader: Reader): boolean {
    if (this.#allowed.get(keyOf(reader))?.has(number)) return true;
    const times = this.#options.publications.get(this.#places.get(number)?.eventId ?? '') ?? 0;
    return times > 1 && this.#options.isFor(number, reader);
  }

  /** `cursor`: with what the device came back; `hasGap`: it was told one since. */
  #excuse(number: number, before: readonly Got[], again: Got, cursor: string, hasGap: boolean): Excuse | undefined {
    const place = this.#places.get(number);
    // What is not stored is never published again, and a page knows a message by its id.
    if (place === undefined || again.id !== place.eventId || before.some(({ id }) => id !== place.eventId)) return;
    if (before.some(({ stream }) => stream === again.stream)) return;
    if ((this.#options.publications.get(place.eventId) ?? 0) > before.length) return 'published again';
    const { settled = 0, position, round } = cursorIn(sectionsOf(cursor));
    // A round that was cut is gone through to its end before another begins.
    const through = round?.through ?? settled;
    const isAbove = place.position > through && place.position !== position;
    if (!isAbove) return;
    const { isShared } = this.#options;
    // Out of the store before its node had published it, and now by the bus.
    const wasRead = before.some(({ eventId }) => eventId.includes('~b')) && !again.eventId.includes('~b');
    if (isShared && wasRead) return 'published after it was read';
    if (!hasGap) return;
    const hadOvertaken = before.some(({ eventId }) => isAhead(eventId, place.position));
    if (hadOvertaken && cursor.includes('~o')) return 'had overtaken others';
    return isShared ? 'after a gap' : undefined;
  }
}

/** Which stream began the round that an event is of, or which brought it. */
function beganAt(cursors: readonly string[], { stream, eventId }: Got): number {
  const { round } = cursorIn(sectionsOf(eventId));
  let at = stream;
  const isOfRound = (other: RoundProgress | undefined): boolean =>
    other !== undefined && other.from === round?.from && other.through === round.through;
  while (isOfRound(cursorIn(sectionsOf(cursors[at]!)).round)) at--;
  return at;
}

/** An event that went ahead has the place of another in its id. */
const isAhead = (eventId: string, position: number): boolean =>
  eventId.includes('~o') && placeIn(sectionsOf(eventId))?.position !== position;

const keyOf = ({ userId, tenants }: Reader): string => JSON.stringify([userId, ...tenants]);
