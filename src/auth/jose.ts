/**
 * The library `jose`, loaded when the first token comes: it is an optional peer, so an application without tokens does
 * not have it. It is published as ESM only, and `import()` is the one form that both of our builds may use on it.
 */
import { SseError } from '../core/errors.js';

/** What `jose` exports. */
export type Jose = typeof import('jose');

/** @throws {SseError} `SSE_ERR_PACKAGE_MISSING` */
export async function loadJose(): Promise<Jose> {
  try {
    return await import('jose');
  } catch (cause) {
    throw new SseError('SSE_ERR_PACKAGE_MISSING', 'jwtAuthenticator needs the package jose 6: npm install jose', {
      cause,
    });
  }
}
