/** The OpenAPI 3.1 document, made of the routes and their schemas. */
import * as z from 'zod';
import type { JsonRoute, Route } from './route.js';
import type { Schemas } from './schemas.js';
import { SCOPES } from './scopes.js';

type Json = Record<string, unknown>;

const TAGS: Readonly<Record<Route['tag'], string>> = {
  streams: 'Event streams and polling.',
  sending: 'Publishing; needs the scope `publish`.',
  inbox: 'What waits for the user who is asking.',
  administration: 'Who is connected; needs the scope `read`, or `admin`.',
  operation: 'Health, and this document.',
};

/** Makes the document for `routes`. */
export function makeDocument(routes: readonly Route[], schemas: Schemas): Json {
  const names = new Map<z.ZodType, string>(Object.entries(schemas).map(([name, schema]) => [schema, name]));
  const used = new Set<string>();
  const reference = (schema: z.ZodType): Json => {
    const name = names.get(schema);
    if (name === undefined) return schemaOf(schema);
    used.add(name);
    return { $ref: `#/components/schemas/${name}` };
  };
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const path = route.path.replaceAll(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operationOf(route, schemas, reference) };
  }
  const tags = new Set(routes.map(({ tag }) => tag));
  return {
    openapi: '3.1.0',
    info: {
      title: 'sse-broker',
      version: '1',
      description: 'Push events to users, groups and everybody. Every GET route takes HEAD, and every route OPTIONS.',
    },
    // Beside the document, wherever that is mounted.
    servers: [{ url: '.' }],
    tags: [...tags].map((name) => ({ name, description: TAGS[name] })),
    paths,
    components: {
      schemas: componentsOf(schemas, used),
      securitySchemes: {
        user: { type: 'http', scheme: 'bearer', description: 'Whatever the Authenticator of the application reads.' },
        caller: {
          type: 'http',
          scheme: 'bearer',
          description: `Whatever \`authorize\` of the application reads. It grants ${SCOPES.join(', ')}.`,
        },
      },
    },
  };
}

function operationOf(route: Route, schemas: Schemas, reference: (schema: z.ZodType) => Json): Json {
  const { operationId, summary, description, tag } = route;
  const body = route.kind === 'json' ? route.body : undefined;
  const responses: Record<string, Json> = {};
  for (const [status, { description, body, mediaType = 'application/json' }] of Object.entries(route.replies)) {
    responses[status] = {
      description,
      ...(isReplayed(route) && {
        headers: {
          'Idempotency-Replayed': { description: 'Present where it was answered before.', schema: { const: 'true' } },
        },
      }),
      content: { [mediaType]: { schema: reference(body) } },
    };
  }
  if (route.kind !== 'json') responses[204] = { description: 'Stay away: so the Authenticator chose.' };
  for (const [status, description] of Object.entries(errorsOf(route))) {
    const also = responses[status];
    const error = reference(schemas.Error);
    const own = (also?.content as { 'application/json'?: { schema: Json } } | undefined)?.['application/json']?.schema;
    responses[status] = {
      description: also === undefined ? description : `${String(also.description)} ${description}`,
      ...((status === '429' || status === '503') && {
        headers: { 'Retry-After': { description: 'Seconds.', schema: { type: 'integer', minimum: 1 } } },
      }),
      content: { 'application/json': { schema: own === undefined ? error : { anyOf: [own, error] } } },
    };
  }
  return {
    operationId,
    summary,
    ...(description !== undefined && { description }),
    tags: [tag],
    security: securityOf(route),
    parameters: parametersOf(route),
    ...(body !== undefined && {
      requestBody: {
        required: (route as JsonRoute).isBodyOptional !== true,
        content: { 'application/json': { schema: reference(body) } },
      },
    }),
    responses,
  };
}

const isReplayed = (route: Route): boolean => route.kind === 'json' && route.isIdempotent === true;

/** The errors of a route by status: those that follow from what it takes and who may ask, and its own. */
export function errorsOf(route: Route): Record<string, string> {
  const takesBody = route.kind === 'json' && route.body !== undefined;
  const isChecked = takesBody || route.params !== undefined || route.query !== undefined;
  const isGuarded = route.access !== 'everybody';
  return {
    ...(isChecked && { 400: 'Something in the request is wrong; `field` names it.' }),
    ...(isGuarded && { 401: 'Nobody, or nobody known, is asking.' }),
    ...(isGuarded && { 403: 'Who is asking may not do this.' }),
    ...(isReplayed(route) && { 409: 'The Idempotency-Key came with another request.' }),
    ...(takesBody && { 413: 'The body, or the data in it, is too large.', 415: 'The body is not JSON.' }),
    ...(isGuarded && { 429: 'Too many requests, or too many streams of this user.' }),
    500: 'Something went wrong; it is in the log of the application.',
    ...(isGuarded && { 503: 'The broker, the bus, the store or authentication is not available now.' }),
    ...route.errors,
  };
}

function securityOf({ access }: Route): Json[] {
  if (access === 'everybody') return [];
  if (access === 'visitor') return [{}, { user: [] }];
  return access === 'user' ? [{ user: [] }] : [{ caller: [access] }];
}

function parametersOf(route: Route): Json[] {
  const all = [...listed(route.params, 'path'), ...listed(route.query, 'query')];
  if (isReplayed(route)) {
    all.push({
      name: 'Idempotency-Key',
      in: 'header',
      description: 'Any new text for a new request. The same again is answered as the first time, and sends nothing.',
      schema: { type: 'string', minLength: 1, maxLength: 255, pattern: '^[\\x21-\\x7e]+$' },
    });
  }
  if (route.kind !== 'json') {
    all.push(
      { name: 'Last-Event-ID', in: 'header', description: 'Where to go on.', schema: { type: 'string' } },
      { name: 'Device-Id', in: 'header', description: 'As `device`.', schema: { type: 'string' } },
    );
  }
  return all;
}

function listed(schema: z.ZodType | undefined, place: 'path' | 'query'): Json[] {
  if (schema === undefined) return [];
  const { properties = {}, required = [] } = schemaOf(schema) as {
    properties?: Record<string, Json>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, { description, ...own }]) => ({
    name,
    in: place,
    required: required.includes(name),
    ...(description !== undefined && { description }),
    schema: own,
  }));
}

/** As JSON Schema, of what comes in: nothing is changed on the way, so it is what goes out as well. */
function schemaOf(schema: z.ZodType): Json {
  const { $schema: _, ...own } = z.toJSONSchema(schema, { io: 'input' }) as Json;
  return own;
}

/** The named schemas that are used, and those that they use. */
function componentsOf(schemas: Schemas, used: ReadonlySet<string>): Record<string, Json> {
  const registry = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(schemas)) registry.add(schema, { id });
  const all = z.toJSONSchema(registry, { io: 'input', uri: (id) => `#/components/schemas/${id}` }).schemas as Record<
    string,
    Json
  >;
  const wanted = new Set<string>();
  const want = (name: string): void => {
    if (wanted.has(name)) return;
    wanted.add(name);
    for (const [, other] of JSON.stringify(all[name]).matchAll(/"#\/components\/schemas\/(\w+)"/g)) want(other!);
  };
  for (const name of used) want(name);
  return Object.fromEntries(
    [...wanted].sort().map((name) => {
      const { $schema: _, $id: __, ...own } = all[name]!;
      return [name, own];
    }),
  );
}
