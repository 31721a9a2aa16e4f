/** A client of streams that were compressed on the way. */
import http from 'node:http';
import { createBrotliDecompress, createGunzip } from 'node:zlib';
import { onTestFinished } from 'vitest';
import { readStream, type StreamClient } from '../support/stream.js';

const DECODERS = { gzip: createGunzip, br: createBrotliDecompress };

/** Opens a stream and fails unless its body is `encoding`. */
export function openEncoded(url: string, encoding: 'gzip' | 'br'): Promise<StreamClient> {
  return new Promise((resolve, reject) => {
    const req = http.request(url, {
      agent: false,
      headers: { accept: 'text/event-stream', 'accept-encoding': encoding },
    });
    onTestFinished(() => {
      req.destroy();
    });
    req.on('error', reject);
    req.on('response', (res: http.IncomingMessage) => {
      const { 'content-encoding': actual } = res.headers;
      if (actual !== encoding) {
        reject(new Error(`content-encoding is ${actual}, not ${encoding}: ${res.headers['cache-control']}`));
        return;
      }
      const decoder = DECODERS[encoding]();
      res.on('error', (error) => decoder.destroy(error));
      resolve(readStream(res.pipe(decoder), { status: res.statusCode!, headers: res.headers }, () => req.destroy()));
    });
    req.end();
  });
}
