/**
 * What a route of the API is: one value that says who may ask, what goes in, what comes out, and what is done. Validation, the
 * answers to errors and the OpenAPI document are made of it.
 */
import type { ZodType } from 'zod';
import type { Scope } from './scopes.js';

/**
 * Who may ask: anybody; whoever the Authenticator lets in; a user, for what is theirs; a caller with a {@link Scope}.
 */
export type Access = 'everybody' | 'visitor' | 'user' | Scope;

/** Who is asking, once that is known. */
export interface Caller {
  /** Of a route for users. */
  readonly userId: string;
  /** The tenant of the user, or the one that the grant is for. */
  readonly tenantId: string | undefined;
  /** Of a grant: whose `Idempotency-Key` it is; empty where that is not told. */
  readonly name: string;
}

/** One request, checked. */
export interface Call<Params, Query, Body> {
  readonly caller: Caller;
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  /** As it came, where the route takes one. */
  readonly idempotencyKey: string | undefined;
  /** May this user have that topic? What the option `authorizeTopic` says; false without it. */
  mayHave(topic: string): Promise<boolean>;
}

/** What a route answers. `body` becomes JSON. */
export interface Outcome {
  readonly status: number;
  readonly body: object;
}

/** What a status means, for the document. */
export interface Reply {
  readonly description: string;
  /** The schema of the body: one of `makeSchemas`, or text for other media types. */
  readonly body: ZodType;
  /** Default `application/json`. */
  readonly mediaType?: string;
}

interface Described {
  readonly path: string;
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly tag: 'streams' | 'sending' | 'inbox' | 'administration' | 'operation';
  readonly access: Access;
  /** Statuses that are no errors common to routes of this kind. */
  readonly replies: Readonly<Record<number, Reply>>;
  /** Errors besides those that follow from access, parameters and body. */
  readonly errors?: Readonly<Record<number, string>>;
}

/** A route of this module. */
export interface JsonRoute<Params = unknown, Query = unknown, Body = unknown> extends Described {
  readonly kind: 'json';
  readonly method: 'GET' | 'POST';
  readonly params?: ZodType<Params>;
  readonly query?: ZodType<Query>;
  readonly body?: ZodType<Body>;
  /** Whether an empty body stands for `{}`. */
  readonly isBodyOptional?: boolean;
  readonly isIdempotent?: boolean;
  run(call: Call<Params, Query, Body>): Outcome | Promise<Outcome>;
}

/** A route that one of the stream's own handlers serves. */
export interface StreamRoute extends Described {
  readonly kind: 'stream' | 'poll';
  readonly method: 'GET';
  readonly access: 'visitor';
  readonly params?: ZodType<Readonly<Record<string, string>>>;
  readonly query?: ZodType;
  /** What the path asks for. */
  asks?(params: Readonly<Record<string, string>>): { readonly topic?: string; readonly userId?: string };
}

export type Route = JsonRoute | StreamRoute;

/** A {@link JsonRoute} whose `run` gets what its schemas give. */
export function jsonRoute<Params = unknown, Query = unknown, Body = unknown>(
  route: Omit<JsonRoute<Params, Query, Body>, 'kind'>,
): JsonRoute {
  return { kind: 'json', ...route } as JsonRoute;
}
