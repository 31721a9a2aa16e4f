/** The entry of `sse-broker/auth`: authenticators that need a library of their own. */

export { jwtAuthenticator } from './jwt.js';
export type { PublicKey } from './jwt-key.js';
export type { JwtAuthenticatorOptions, JwtClaims } from './jwt-options.js';
export type { TokenSource } from './token.js';
