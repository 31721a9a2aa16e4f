/**
 * An id as clients have it: the one that the bus made, and behind it sections that only the broker and its mailbox know, each
 * of a `~`, a small letter that says what it is, and a value. Ids of a bus contain no `~`, so the two can be told apart.
 *
 *     m1x2k-17~m0192f3c4-5b6d-7e8f-9a0b-123456789012~p1c.1b
 *
 * `o`: the sequences of events that the client has got ahead of their place, see queue.ts. `m`: which message of a mailbox the
 * event is. The other letters are the mailbox's own, and say what of it the client has.
 */

/** Longest id that comes back: longer ones may cost a CORS preflight. */
export const MAX_ID_LENGTH = 128;

/** What strangers send is looked at no further than this; no id of ours is as long. */
const MAX_LOOKED_AT = 4 * MAX_ID_LENGTH;

/** From the first `~` on: looked for anywhere it would take time by the square of the length. */
const SECTIONS = /^(?:~[a-z][A-Za-z0-9.-]*)+$/;
const MESSAGE = /~m[A-Za-z0-9.-]+/;
const OVERTAKEN = /~o([0-9a-z.]+)/;

/** The id that the bus made. */
export function busIdOf(id: string): string {
  return id.slice(0, id.length - sectionsOf(id).length);
}

/** What stands behind it; empty for nothing. */
export function sectionsOf(id: string): string {
  const at = id.indexOf('~');
  if (at === -1 || id.length > MAX_LOOKED_AT) return '';
  const sections = id.slice(at);
  return SECTIONS.test(sections) ? sections : '';
}

/** Sequences of events that were sent ahead of their place. */
export function overtakenIn(sections: string): number[] {
  const list = OVERTAKEN.exec(sections)?.[1];
  if (list === undefined) return [];
  return list
    .split('.')
    .map((text) => Number.parseInt(text, 36))
    .filter((sequence) => Number.isSafeInteger(sequence));
}

/** The section for those; empty where there are none. */
export function overtakenSection(sequences: readonly number[]): string {
  return sequences.length === 0 ? '' : `~o${sequences.map((sequence) => sequence.toString(36)).join('.')}`;
}

/** `id` without that section. */
export function withoutOvertaken(id: string): string {
  return id.includes('~o') ? id.replace(OVERTAKEN, '') : id;
}

/** Sections of an event that goes ahead: what the cursor says, and which message the event is. */
export function sectionsAhead(cursor: string, tag: string | undefined): string {
  const message = tag === undefined ? '' : (MESSAGE.exec(tag)?.[0] ?? '');
  return message + sectionsOf(cursor).replace(MESSAGE, '');
}
