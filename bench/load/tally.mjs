/**
 * What all connections of one load process counted together. The counters of faults are never reset: a fault during
 * warm-up is a fault.
 */
import { Histogram } from './histogram.mjs';

export class Tally {
  /** Payloads that reached whom they were for, since the process started. */
  delivered = 0;
  duplicates = 0;
  /** Arrived after a later event of its scope, or before an earlier event of another scope of the same connection. */
  misordered = 0;
  /** For a user or a topic that this connection did not ask for. */
  misdelivered = 0;
  /** Bytes that are no SSE, no chunk, or a payload with a wrong byte. */
  malformed = 0;
  /** Events that a visitor (see `Fleet.churn`) missed between its first and its last. */
  lostByVisitors = 0;
  /** Filled in by `drain`: events that healthy connections should have got and did not. */
  lost = 0;
  /** Healthy streams that the server ended or broke. */
  closedByServer = 0;
  /** Connections that did not get a 200 with an event stream. */
  refused = 0;
  /** Events of the server's own, such as `connected` or `gap`, by name. @type {Map<string, number>} */
  otherEvents = new Map();
  /** The first few faults in words, for a person to start from. @type {string[]} */
  notes = [];
  latency = new Histogram();
  bytesRead = 0;
  reads = 0;

  /** @param {string} text */
  note(text) {
    if (this.notes.length < 20) this.notes.push(text);
  }

  /** @param {string} name */
  countOther(name) {
    this.otherEvents.set(name, (this.otherEvents.get(name) ?? 0) + 1);
  }

  faults() {
    const { duplicates, misordered, misdelivered, malformed, lostByVisitors, closedByServer, refused } = this;
    const lost = this.lost + lostByVisitors;
    return { duplicates, misordered, misdelivered, malformed, lost, closedByServer, refused };
  }
}
