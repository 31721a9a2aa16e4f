/**
 * The body of a request as a JSON value, whoever has read it: we, within our limit, or a parser of the framework before us.
 */
import type { IncomingMessage } from 'node:http';
import { headerOf, type RequestLike } from '../http/request.js';
import type { NodeRequest } from '../http/serve-node.js';
import { ApiError, invalid } from './errors.js';

/** What came of a body: its bytes, or what a parser before us made of them. Undefined where the sender left meanwhile. */
export type ReadBody = { readonly bytes: Uint8Array } | { readonly parsed: unknown } | undefined;

/**
 * @param read reads at most that many bytes (0: any number), or gives what was made of them.
 * @returns the value; undefined where the sender left.
 * @throws {SseError} `SSE_ERR_UNSUPPORTED_MEDIA_TYPE`, `SSE_ERR_BODY_TOO_LARGE`, `SSE_ERR_INVALID_REQUEST`
 */
export async function jsonBodyOf(
  req: RequestLike,
  maxBytes: number,
  isOptional: boolean,
  read: (maxBytes: number) => Promise<ReadBody>,
): Promise<{ readonly value: unknown } | undefined> {
  // Also where there is no body: a page of another origin can send a request without this header, but not with it.
  if (!isJson(headerOf(req, 'content-type'))) {
    throw new ApiError('SSE_ERR_UNSUPPORTED_MEDIA_TYPE', 'send JSON, with Content-Type: application/json');
  }
  const declared = headerOf(req, 'content-length');
  if (maxBytes > 0 && declared !== undefined && Number(declared) > maxBytes) throw tooLarge(maxBytes);
  const body = await read(maxBytes);
  if (body === undefined) return undefined;
  if ('bytes' in body) return { value: parsedJson(body.bytes, isOptional) };
  const { parsed } = body;
  // What is announced of an encoded body is not what a parser made of it.
  const isMeasured = declared !== undefined && headerOf(req, 'content-encoding') === undefined;
  if (maxBytes > 0 && !isMeasured && sizeOf(parsed) > maxBytes) throw tooLarge(maxBytes);
  const isRaw = parsed instanceof Uint8Array || typeof parsed === 'string';
  return { value: isRaw ? parsedJson(parsed, isOptional) : parsed };
}

/** JSON of whatever kind, in UTF-8 (RFC 8259, section 8.1). No two runs of blanks touch: each would be tried with each. */
function isJson(contentType: string | undefined): boolean {
  return /^application\/(?:[\w.!#$&^+-]+\+)?json[ \t]*(?:;[ \t]*charset="?utf-?8"?[ \t]*)?(?:;[ \t]*)?$/i.test(
    contentType ?? '',
  );
}

function parsedJson(body: Uint8Array | string, isOptional: boolean): unknown {
  let text: string;
  try {
    text = typeof body === 'string' ? body : new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch {
    throw invalid('body', 'must be UTF-8');
  }
  if (text === '') {
    if (isOptional) return {};
    throw invalid('body', 'is missing');
  }
  try {
    return JSON.parse(text);
  } catch {
    // What the parser says quotes the text.
    throw invalid('body', 'must be JSON');
  }
}

function sizeOf(value: unknown): number {
  if (value instanceof Uint8Array) return value.byteLength;
  if (typeof value === 'string') return Buffer.byteLength(value);
  try {
    return Buffer.byteLength(JSON.stringify(value) ?? '');
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

const tooLarge = (maxBytes: number): ApiError =>
  new ApiError('SSE_ERR_BODY_TOO_LARGE', `the body has more than ${maxBytes} bytes`);

/** @throws {SseError} `SSE_ERR_UNSUPPORTED_MEDIA_TYPE` */
function checkEncoding(req: RequestLike): void {
  const encoding = headerOf(req, 'content-encoding');
  if (encoding === undefined || /^identity$/i.test(encoding)) return;
  throw new ApiError('SSE_ERR_UNSUPPORTED_MEDIA_TYPE', 'send the body without Content-Encoding');
}

/** The application's mistake: it is reported, and a 500. */
const readAlready = (): TypeError =>
  new TypeError('the body was read before the API, and left nowhere; mount the API before what reads it');

/** Reads a Node request; one that was read is where the frameworks leave what they parse. */
export function readNodeBody(req: NodeRequest, context: unknown, maxBytes: number): Promise<ReadBody> {
  if (req.readableDidRead) {
    const { body, request } = (context ?? {}) as { body?: unknown; request?: { body?: unknown } };
    // Express and Nest; Fastify; Koa. Null is what `null` was parsed to.
    const places = [(req as IncomingMessage & { body?: unknown }).body, body, request?.body];
    const parsed = places.find((place) => place !== undefined);
    return parsed === undefined ? Promise.reject(readAlready()) : Promise.resolve({ parsed });
  }
  if (req.readableEnded) return Promise.resolve({ bytes: new Uint8Array() });
  checkEncoding(req);
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const settle = (how: () => void): void => {
      req.off('data', onData);
      req.off('end', onEnd);
      req.off('close', onLeft);
      how();
    };
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      if (maxBytes > 0 && size > maxBytes) {
        // It goes on flowing: what still comes is thrown away, so that the sender gets to read the answer.
        settle(() => reject(tooLarge(maxBytes)));
        return;
      }
      chunks.push(chunk);
    };
    const onEnd = (): void => settle(() => resolve({ bytes: Buffer.concat(chunks, size) }));
    const onLeft = (): void => settle(() => resolve(undefined));
    req.on('data', onData);
    req.on('end', onEnd);
    req.on('close', onLeft);
    // An error is followed by the close; without a listener it would end the process.
    req.on('error', () => {});
    if (req.destroyed) onLeft();
  });
}

/** Reads a Fetch request; Hono keeps what a middleware has read. */
export async function readFetchBody(request: Request, context: unknown, maxBytes: number): Promise<ReadBody> {
  if (request.bodyUsed) {
    const { req } = (context ?? {}) as { req?: { json?: () => Promise<unknown> } };
    if (req === undefined || (req as object) === request || typeof req.json !== 'function') throw readAlready();
    try {
      return { parsed: await req.json() };
    } catch {
      throw invalid('body', 'must be JSON');
    }
  }
  if (request.body === null) return { bytes: new Uint8Array() };
  checkEncoding(request);
  const reader = request.body.getReader();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    let next: { done: boolean; value?: Uint8Array };
    try {
      next = await reader.read();
    } catch {
      if (request.signal.aborted) return undefined;
      throw invalid('body', 'is broken: it could not be read to its end');
    }
    if (next.done || next.value === undefined) return { bytes: Buffer.concat(chunks, size) };
    size += next.value.byteLength;
    if (maxBytes > 0 && size > maxBytes) {
      reader.cancel().catch(() => {});
      throw tooLarge(maxBytes);
    }
    chunks.push(next.value);
  }
}
