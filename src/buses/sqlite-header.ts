/**
 * What a history file, and the log that lies beside it, say of themselves. Read without SQLite, which might replay a journal,
 * write a log back or make one beside a file that is not ours.
 *
 * SQLite itself replays any write-ahead log of the right name: nothing in a log says whose it is. Ours can be told: the
 * epoch stands in the file, and in nearly every transaction of its log.
 */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { SseError } from '../core/errors.js';
import { SCHEMA_VERSION } from './sqlite-schema.js';

/** `PRAGMA application_id` of a history file: "SSEB". */
export const APPLICATION_ID = 0x53534542;

const HEADER_BYTES = 100;
const APPLICATION_ID_AT = 68;
/** The page of `meta`: the first table that is made (sqlite-schema.ts). */
const META_PAGE = 2;
const LOG_HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;

/**
 * Checks the file, and the log beside it if there is one. True where there is nothing yet. Opens and closes both: not to be
 * called while anything of this process has them open (sqlite-held.ts).
 *
 * @throws {SseError} `SSE_ERR_HISTORY_UNUSABLE`
 */
export function checkHeader(file: string): boolean {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat?.isFile() === false) throw refusal(file, 'it is not a file');
  if (stat === undefined) return true;
  // To write, though nothing is written: SQLite would open what it may only read, and fail at the first event.
  const descriptor = openSync(file, 'r+');
  try {
    if (stat.size === 0) return true;
    const header = read(descriptor, 0, HEADER_BYTES);
    // https://sqlite.org/fileformat.html#the_database_header
    if (header.length < HEADER_BYTES || header.toString('latin1', 0, 16) !== 'SQLite format 3\0') {
      throw refusal(file, 'it is not an SQLite database');
    }
    if (header.readUInt32BE(APPLICATION_ID_AT) !== APPLICATION_ID) {
      throw refusal(file, 'it is the SQLite database of another application; pass the database object to share one');
    }
    const version = header.readUInt32BE(60);
    if (version > SCHEMA_VERSION) throw newer(file, version);
    const pageSize = header.readUInt16BE(16) === 1 ? 65_536 : header.readUInt16BE(16);
    const epoch = epochIn(read(descriptor, (META_PAGE - 1) * pageSize, pageSize));
    if (isOfAnother(`${file}-wal`, pageSize, epoch)) {
      throw refusal(
        file,
        `the log beside it (${file}-wal) belongs to another database; put back the one that it was closed with, or take it away`,
      );
    }
    return false;
  } finally {
    closeSync(descriptor);
  }
}

/** Whether a write-ahead log (https://sqlite.org/fileformat.html#the_write_ahead_log) says that it is not this history's. */
function isOfAnother(log: string, pageSize: number, epoch: string | undefined): boolean {
  if (!existsSync(log)) return false;
  const descriptor = openSync(log, 'r');
  try {
    const header = read(descriptor, 0, LOG_HEADER_BYTES);
    // Cut short, or never begun: SQLite takes such a one for empty.
    if (header.length < LOG_HEADER_BYTES || (header.readUInt32BE(0) & ~1) >>> 0 !== 0x377f0682) return false;
    if (header.readUInt32BE(8) !== pageSize) return true;
    for (let at = LOG_HEADER_BYTES; ; at += FRAME_HEADER_BYTES + pageSize) {
      const frame = read(descriptor, at, FRAME_HEADER_BYTES);
      // Frames with other salts are left from before the log was last begun anew.
      if (frame.length < FRAME_HEADER_BYTES || frame.compare(header, 16, 24, 8, 16) !== 0) return false;
      const page = frame.readUInt32BE(0);
      if (page > META_PAGE) continue;
      const content = read(descriptor, at + FRAME_HEADER_BYTES, pageSize);
      // The last transaction of a process that was killed.
      if (content.length < pageSize) return false;
      if (page === META_PAGE) return epoch !== undefined && epochIn(content) !== epoch;
      if (content.readUInt32BE(APPLICATION_ID_AT) !== APPLICATION_ID) return true;
    }
  } finally {
    closeSync(descriptor);
  }
}

/**
 * The epoch in the page of `meta`: a leaf with one row (https://sqlite.org/fileformat.html#b_tree_pages), which is so
 * short that each of its varints is one byte. Undefined where it is something else.
 */
function epochIn(page: Buffer): string | undefined {
  if (page.length < HEADER_BYTES || page[0] !== 13 || page.readUInt16BE(3) !== 1) return undefined;
  // Before the record stand its length and its rowid.
  const record = page.readUInt16BE(8) + 2;
  const [headerBytes = 0, , schema = 0, epoch = 0] = page.subarray(record);
  if (headerBytes !== 7 || epoch < 13 || epoch % 2 === 0) return undefined;
  // A version of 1 takes no byte, or one in files of old formats.
  const start = record + headerBytes + (schema >= 8 ? 0 : schema);
  return page.toString('latin1', start, start + (epoch - 13) / 2);
}

/** At most `length` bytes: fewer at the end of the file. */
function read(descriptor: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, readSync(descriptor, bytes, 0, length, position));
}

export function refusal(file: string, why: string, cause?: unknown): SseError {
  return new SseError(
    'SSE_ERR_HISTORY_UNUSABLE',
    `${file} cannot be used as a history file, and was left as it is: ${why}`,
    { cause },
  );
}

function newer(file: string, version: number): SseError {
  return refusal(
    file,
    `it was written by a newer sse-broker (schema ${version}, this one knows ${SCHEMA_VERSION}); update, or use another file`,
  );
}
