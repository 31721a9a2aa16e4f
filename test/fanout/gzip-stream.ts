/**
 * Readers of compressed streams that forgive nothing: a stream counts as complete only where its checksum and its length
 * are right, and nothing follows.
 */
import http from 'node:http';
import type { Readable } from 'node:stream';
import { constants, crc32, createGunzip, createInflateRaw, gunzipSync } from 'node:zlib';
import { onTestFinished } from 'vitest';
import { readStream, type StreamClient } from '../support/stream.js';
import { until } from '../support/until.js';

export interface GzipClient extends StreamClient {
  /** The compressed bytes so far. */
  readonly wire: () => Buffer;
  /** Waits for an orderly end, with the right checksum and length; throws where the stream was harmed or cut. */
  completed(): Promise<void>;
}

/** Decodes `body` with Node's zlib as it comes in. */
export function readGzip(
  body: Readable,
  head: { readonly status: number; readonly headers: http.IncomingHttpHeaders },
  leave: () => void,
): GzipClient {
  const wire: Buffer[] = [];
  const decoder = createGunzip();
  let outcome: 'complete' | Error | undefined;
  body.on('data', (chunk: Buffer) => wire.push(chunk));
  body.on('error', (error) => decoder.destroy(error));
  decoder.on('end', () => {
    outcome = 'complete';
  });
  decoder.on('error', (error) => {
    outcome ??= error;
  });
  body.pipe(decoder);
  const client = readStream(decoder, head, leave);
  return {
    ...client,
    wire: () => Buffer.concat(wire),
    completed: async () => {
      await until(() => outcome !== undefined, 'the end of the compressed stream');
      if (outcome instanceof Error) throw outcome;
      checkGzip(Buffer.concat(wire), client.text());
    },
  };
}

/** Opens a stream over HTTP/1.1 and fails unless it is compressed. */
export function openGzip(url: string, headers: Record<string, string> = {}): Promise<GzipClient> {
  return new Promise((resolve, reject) => {
    const req = http.request(url, {
      agent: false,
      headers: { accept: 'text/event-stream', 'accept-encoding': 'gzip', ...headers },
    });
    onTestFinished(() => {
      req.destroy();
    });
    req.on('error', reject);
    req.on('response', (res) => {
      if (res.headers['content-encoding'] !== 'gzip') reject(new Error('the stream is not compressed'));
      else resolve(readGzip(res, { status: res.statusCode!, headers: res.headers }, () => req.destroy()));
    });
    req.end();
  });
}

/** One whole gzip member that is exactly `text` (RFC 1952): zlib itself takes no offence at bytes that follow. */
export function checkGzip(bytes: Buffer, text: string): void {
  const plain = gunzipSync(bytes);
  if (plain.toString() !== text) throw new Error('the stream is not what was read of it');
  if (bytes.readUInt32LE(bytes.length - 8) !== crc32(plain)) throw new Error('the checksum is not at the end');
  if (bytes.readUInt32LE(bytes.length - 4) !== plain.length) throw new Error('the length is not at the end');
}

/** What a compressed stream that goes on says so far, all of it: nothing may wait in the compressor. */
export function inflateSoFar(bytes: Buffer): string {
  return gunzipSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH }).toString();
}

/** One block of raw deflate without anything before it; throws where it needs a dictionary. */
export function inflateBlock(block: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const decoder = createInflateRaw({ finishFlush: constants.Z_SYNC_FLUSH });
    let text = '';
    decoder.setEncoding('utf8');
    decoder.on('data', (part: string) => {
      text += part;
    });
    decoder.on('end', () => resolve(text));
    decoder.on('error', reject);
    decoder.end(block);
  });
}
