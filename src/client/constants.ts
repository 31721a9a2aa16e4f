/**
 * Times and bounds that are no settings, and characters. They stand here and not beside their use, because this file imports
 * nothing: minifiers put such a constant's value where it is used, and are not sure enough of it in files with imports. That
 * is 70 bytes of the 8 000 that the client may have (test/client/size.test.ts).
 */

// Attempts (engine.ts).

/**
 * 250 ms are promised between two attempts. Counted from request to request: the second one may be a little faster on its
 * way than the first.
 */
export const MIN_SPACING = 280;
/** The spacing grows: ten attempts take more than seven seconds, however short the drawn delays are. */
export const SPACING_GROWTH = 1.25;
/** A stream that was open for so long proved good. */
export const GOOD_AFTER = 5_000;
/** Attempts in a row that bring no byte, after which the stream is taken to be held back by something in between. */
export const TRIES_BEFORE_POLLING = 3;
/** How often the stream is tried while polling, and how long that may take: nothing is polled meanwhile. */
export const PROBE_EVERY = 30_000;
export const PROBE_TIME = 5_000;
/** How much of a refusal's body is read, and for how long, in ms. */
export const BODY_START = 1_024;
export const BODY_TIME = 1_000;
/** An answer to a poll may be as large as so many events of the largest size. */
export const POLL_EVENTS = 4;
/** A server that says its heartbeats come more often is not taken at its word: a hiccup would end the stream. */
export const SHORTEST_BEAT = 1_000;
/** `setTimeout` takes little more. */
export const LONGEST = 2e9;

/** A deadline, or a delay, that there is not. */
export const NEVER = Infinity;

// Tabs (group.ts).

/** How often a follower looks whether its leader lives, in ms; half as much more by chance, so that not all ask at once. */
export const BEAT = 1_500;
/** What is remembered for tabs that join: blocks, and characters of data. */
export const MOST_BLOCKS = 1_000;
export const MOST_TEXT = 1e6;

// Ids that are remembered (delivery.ts).

export const MOST_IDS = 1_024;

// Characters (parser.ts).

export const COLON = 58;
export const SPACE = 32;
