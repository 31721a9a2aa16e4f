/** An HTTP/2 client of event streams. */
import http2, { type ClientHttp2Session } from 'node:http2';
import { onTestFinished } from 'vitest';
import { readStream, type StreamClient } from '../support/stream.js';
import type { OpenOptions } from './conformance.js';

/** One session for all streams, as in a browser; closed when the test ends. Leaving resets the stream only. */
export function http2Client(url: string): (path: string, options: OpenOptions) => Promise<StreamClient> {
  let session: ClientHttp2Session | undefined;
  return (path, { method = 'GET', headers = {}, signal }) => {
    if (session === undefined || session.destroyed || session.closed) {
      session = http2.connect(url, { rejectUnauthorized: false });
      session.on('error', () => {});
      onTestFinished(() => session?.destroy());
    }
    const stream = session.request({
      ':path': path,
      ':method': method,
      accept: 'text/event-stream',
      ...headers,
    });
    stream.end();
    const leave = () => stream.close(http2.constants.NGHTTP2_CANCEL);
    return new Promise((resolve, reject) => {
      signal?.addEventListener('abort', () => {
        leave();
        reject(signal.reason);
      });
      stream.on('error', reject);
      stream.on('response', ({ ':status': status = 0, ...received }) => {
        resolve(readStream(stream, { status, headers: received }, leave));
      });
    });
  };
}
