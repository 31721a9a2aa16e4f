/** A broker behind a JWT authenticator on a real server, and tokens made with `jose` or by hand. */
import { createHmac } from 'node:crypto';
import { inspect } from 'node:util';
import { SignJWT } from 'jose';
import { expect, onTestFinished } from 'vitest';
import { type JwtAuthenticatorOptions, jwtAuthenticator } from '../../src/auth/index.js';
import { Broker, createHandler, type ErrorOrigin, type SseError } from '../../src/index.js';
import { serve } from '../support/server.js';
import { openStream, type StreamClient } from '../support/stream.js';

export const SECRET = 'a secret of more than thirty-two bytes, for tests';

export const nowInSeconds = (): number => Math.floor(Date.now() / 1_000);

/** A token signed with HS256 and {@link SECRET}. */
export function signed(
  claims: Record<string, unknown> = {},
  { secret = SECRET, header = {} }: { secret?: string; header?: Record<string, unknown> } = {},
): Promise<string> {
  return new SignJWT({ sub: 'alice', ...claims })
    .setProtectedHeader({ alg: 'HS256', ...header })
    .sign(new TextEncoder().encode(secret));
}

const encoded = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token that no library would make: any header, any claims, signed with HMAC-SHA-256 of `key`, or not at all. */
export function forged(header: unknown, claims: unknown, key?: string | Buffer): string {
  const body = `${encoded(header)}.${encoded(claims)}`;
  return `${body}.${key === undefined ? '' : createHmac('sha256', key).update(body).digest('base64url')}`;
}

export interface Guarded {
  readonly broker: Broker;
  readonly url: string;
  /** What reached the `error` event. */
  readonly errors: { error: SseError; origin: ErrorOrigin }[];
  /** What reached the logger. */
  readonly log: unknown[];
  open(token: string | undefined, path?: string): Promise<StreamClient>;
  /** Opens with a token that must be refused; gives the error that the application hears. */
  refused(token: string, status?: number): Promise<SseError>;
}

/** Serves a broker until the test ends; `secret` is {@link SECRET} unless another key is given. */
export async function guarded(options: JwtAuthenticatorOptions = {}): Promise<Guarded> {
  const log: unknown[] = [];
  const note = (...line: unknown[]) => {
    log.push(line);
  };
  const broker = new Broker({ logger: { warn: note, error: note } });
  const errors: Guarded['errors'] = [];
  broker.on('error', (error, origin) => errors.push({ error, origin }));
  onTestFinished(async () => {
    await broker.close();
  });
  const key = options.publicKey === undefined && options.jwksUrl === undefined ? { secret: SECRET } : {};
  const { url } = await serve(createHandler(broker, { authenticator: jwtAuthenticator({ ...key, ...options }) }));
  const open = (token: string | undefined, path = '/') =>
    openStream(`${url}${path}`, token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } });
  return {
    broker,
    url,
    errors,
    log,
    open,
    refused: async (token, status = 401) => {
      const before = errors.length;
      const stream = await open(token);
      await stream.ended();
      expect(stream.status).toBe(status);
      expect(errors).toHaveLength(before + 1);
      expect(broker.getStats().totalClients).toBe(0);
      const { error, origin } = errors[before]!;
      expect(origin).toBe('authenticator');
      expectNoTraceOf(token, stream.text(), stream.headers, error, log);
      return error;
    },
  };
}

/** No part of a token may stand in `places`, however deep. */
export function expectNoTraceOf(token: string, ...places: unknown[]): void {
  const text = inspect(places, { depth: Number.POSITIVE_INFINITY, showHidden: true, maxStringLength: null });
  for (const part of token.split('.')) if (part.length >= 4) expect(text).not.toContain(part);
}
