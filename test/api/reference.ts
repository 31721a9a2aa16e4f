/** docs/reference/rest.md, out of the document of an API with an inbox. */
import type { OpenApi, Operation } from './document-check.js';

interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly not?: { readonly enum?: readonly string[] };
  readonly items?: Schema;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
}

/** As generated: descriptions are there where the tests of the document want them. */
interface Described extends Operation {
  readonly summary: string;
  readonly description?: string;
  readonly tags: readonly string[];
}

const HEAD = `# REST API

<!-- Generated from the OpenAPI document: npx vitest run test/api/reference -u -->

What \`createApi\` of \`sse-broker/api\` serves, with an inbox. Without one the routes under [inbox](#inbox) are not there, and
sends take no \`persist\`. The [guide](../guides/rest-api.md) says how to mount it and who may do what. Paths are relative to
where it is mounted; \`GET /openapi.json\` gives all of this as OpenAPI 3.1.

- Bodies are JSON, in UTF-8, and every \`POST\` needs \`Content-Type: application/json\`, also where there is no body.
- Names are in snake_case. Durations that come in are seconds; times are ms since 1970.
- Lengths of names and event types are in UTF-16 units, of which most emoji are two; text is well-formed Unicode.
- What is not described is refused in a body with 400, and passed over in a query.
- Every \`GET\` route takes \`HEAD\`, every route \`OPTIONS\`.

## Errors

\`\`\`json
{ "error": { "code": "SSE_ERR_INVALID_REQUEST", "message": "user_id must …", "field": "user_id" } }
\`\`\`

\`code\` is one of the [error codes](errors.md); \`field\` is there with 400. 429 and 503 have a
\`Retry-After\`, in seconds. Besides what each route says:

`;

/** Meanings that routes have in common; those of their own stand with them. */
const COMMON = ['400', '401', '403', '409', '413', '415', '429', '500', '503'];

export function renderReference(document: OpenApi): string {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path,
      operation: operation as Described,
    })),
  );
  const errors = new Map<string, string>();
  for (const { operation } of operations) {
    for (const [status, { description }] of Object.entries(operation.responses)) {
      if (COMMON.includes(status) && !errors.has(status)) errors.set(status, description);
    }
  }
  const tags = (document as unknown as { tags: { name: string; description: string }[] }).tags;
  const sections = tags.map(({ name, description }) => {
    const own = operations.filter(({ operation }) => operation.tags.includes(name));
    return [`## ${capital(name)}`, description, ...own.map((one) => route(one, errors))].join('\n\n');
  });
  const schemas = Object.entries(document.components.schemas as Record<string, Schema>)
    .filter(([name]) => name !== 'Error' && name !== 'Document')
    .map(([name, schema]) => [`### ${name}`, fields(schema)].join('\n\n'));
  return `${[
    HEAD +
      table(
        ['status', 'meaning'],
        [...errors].toSorted().map(([status, meaning]) => [status, meaning]),
      ),
    ...sections,
    '## Bodies',
    ...schemas,
  ].join('\n\n')}\n`;
}

function route(
  { method, path, operation }: { method: string; path: string; operation: Described },
  common: ReadonlyMap<string, string>,
): string {
  const { operationId, summary, description, security, parameters, requestBody, responses } = operation;
  const parts = [`### ${method} ${path}`, `${summary}${description === undefined ? '' : ` ${description}`}`];
  parts.push(`${whoMay(security)} Operation \`${operationId}\`.`);
  if (parameters.length > 0) {
    const rows = parameters.map((one) => {
      const { name, required, schema } = one;
      return [
        `\`${name}\``,
        one.in,
        typeOf(schema),
        `${required ? '' : 'Optional. '}${textOf(one as unknown as Schema)}`,
      ];
    });
    parts.push(table(['parameter', 'in', 'type', ''], rows));
  }
  if (requestBody !== undefined) {
    const { required, content } = requestBody;
    parts.push(`Body${required ? '' : ', which may be left out'}: ${typeOf(content['application/json'].schema)}.`);
  }
  const rows = Object.entries(responses)
    .filter(([status, { description }]) => common.get(status) !== description)
    .map(([status, { description, content }]) => {
      if (content === undefined) return [status, 'none', description];
      const [mediaType, { schema }] = Object.entries(content)[0]!;
      return [status, mediaType === 'application/json' ? typeOf(schema) : `\`${mediaType}\``, description];
    });
  const others = Object.keys(responses).filter((status) => common.get(status) === responses[status]!.description);
  parts.push(table(['status', 'body', ''], rows));
  parts.push(`Errors: ${others.join(', ')}.`);
  return parts.join('\n\n');
}

function whoMay(security: Operation['security']): string {
  const [first] = security;
  if (first === undefined) return 'For everybody.';
  if (first.caller !== undefined) return `For callers with the scope \`${first.caller.join('`, `')}\`.`;
  return security.some((one) => Object.keys(one).length === 0)
    ? 'For whoever the Authenticator lets in.'
    : 'For users.';
}

function fields({ description, properties = {}, required = [] }: Schema): string {
  const rows = Object.entries(properties).map(([name, schema]) => [
    `\`${name}\``,
    typeOf(schema),
    `${required.includes(name) ? '' : 'Optional. '}${textOf(schema)}`.trim(),
  ]);
  return [...(description === undefined ? [] : [description]), table(['field', 'type', ''], rows)].join('\n\n');
}

/** What is allowed, in words. */
function typeOf(schema: Schema): string {
  const { $ref, type, anyOf, items, properties } = schema;
  if ($ref !== undefined) {
    const name = $ref.replace(/^.*\//, '');
    if (name === 'Error') return '[Error](#errors)';
    return name === 'Document' ? 'OpenAPI 3.1' : `[${name}](#${name.toLowerCase()})`;
  }
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const)}\``;
  if (schema.enum !== undefined) return schema.enum.map((one) => `\`${String(one)}\``).join(', ');
  if (anyOf !== undefined) return anyOf.map(typeOf).join(' or ');
  if (type === 'array') {
    const { minItems: least, maxItems: most } = schema;
    return most === undefined
      ? `list of ${typeOf(items ?? {})}`
      : `list of ${least ?? 0} to ${most} (${typeOf(items ?? {})})`;
  }
  if (properties !== undefined)
    return `{ ${Object.entries(properties)
      .map(([name, own]) => `${name}: ${typeOf(own)}`)
      .join(', ')} }`;
  if (type === undefined) return 'any';
  const names = (Array.isArray(type) ? type : [type]).join(' or ');
  if (names.startsWith('string')) return `${names}${bounds(schema.minLength, schema.maxLength, ' characters')}`;
  return `${names}${bounds(schema.minimum, schema.maximum, '')}`;
}

function bounds(from: number | undefined, to: number | undefined, unit: string): string {
  // Beyond what counts there is no bound worth the name.
  const last = to === undefined || to >= Number.MAX_SAFE_INTEGER ? undefined : to;
  if (last !== undefined) return `, ${from ?? 0} to ${last}${unit}`;
  return from === undefined || from <= 0 ? '' : `, ${from} or more${unit}`;
}

function textOf({ description = '', not }: Schema): string {
  const sentence = description === '' || /[.!?]$/.test(description) ? description : `${description}.`;
  return not?.enum === undefined ? sentence : `${sentence} Not ${not.enum.map((one) => `\`${one}\``).join(', ')}.`;
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
