/** The entry `sse-broker/api`: a REST API for a broker and its inbox, on every framework that the broker supports. */

export type { ApiBroker, ApiInbox } from './contracts.js';
export { createFetchApi } from './fetch-api.js';
export { createApi } from './node-api.js';
export { type ApiOptions, DEFAULT_API_OPTIONS, type RateLimit } from './options.js';
export type { Authorize, Grant, Scope, TokenGrant } from './scopes.js';
export { tokenAuthorizer } from './scopes.js';
