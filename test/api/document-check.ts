/** Holds what an API answers against its own document. */
import type { IncomingHttpHeaders } from 'node:http';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import type { Asked } from '../support/ask.js';

/** An OpenAPI document, as far as the tests look into it. */
export interface OpenApi {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
}

export interface Operation {
  readonly operationId: string;
  readonly security: readonly Readonly<Record<string, readonly string[]>>[];
  readonly parameters: readonly {
    readonly name: string;
    readonly in: string;
    readonly required: boolean;
    readonly schema: object;
  }[];
  readonly requestBody?: {
    readonly required: boolean;
    readonly content: { readonly 'application/json': { readonly schema: object } };
  };
  readonly responses: Readonly<
    Record<
      string,
      { readonly description: string; readonly content?: Readonly<Record<string, { readonly schema: object }>> }
    >
  >;
}

/** Validators of the schemas that stand in a document. */
export class DocumentCheck {
  readonly document: OpenApi;
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true });
  readonly #compiled = new Map<string, ValidateFunction>();
  /** `operationId status` of everything that was held against the document. */
  readonly seen = new Set<string>();

  constructor(document: OpenApi) {
    this.document = document;
    this.#ajv.addSchema({ $id: 'document', ...document });
  }

  /** The validator of the schema at a place of the document, by its keys. */
  at(...keys: readonly string[]): ValidateFunction {
    const pointer = keys.map((key) => encodeURIComponent(key.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/');
    let validate = this.#compiled.get(pointer);
    if (validate === undefined) {
      validate = this.#ajv.compile({ $ref: `document#/${pointer}` });
      this.#compiled.set(pointer, validate);
    }
    return validate;
  }

  /** The path of the document that a request's path is one of. */
  templateOf(path: string): string | undefined {
    const parts = path.replace(/[?#].*$/, '').split('/');
    const fits = (template: string) => {
      const wanted = template.split('/');
      return (
        wanted.length === parts.length &&
        wanted.every((part, at) => part === parts[at] || (part.startsWith('{') && isName(parts[at]!)))
      );
    };
    // A name that stands there goes before one that is left open.
    return Object.keys(this.document.paths)
      .filter(fits)
      .sort((a, b) => a.split('{').length - b.split('{').length)[0];
  }

  /** @throws an Error that says what the document does not. */
  check(method: string, path: string, { status, headers, body }: Pick<Asked, 'status' | 'headers' | 'body'>): void {
    const where = `${method} ${path} → ${status}`;
    const template = this.templateOf(path);
    const known = method === 'HEAD' ? 'get' : method.toLowerCase();
    const operation = template === undefined ? undefined : this.document.paths[template]?.[known];
    if (method === 'HEAD' || (method === 'OPTIONS' && status < 300)) {
      if (body !== '') throw new Error(`${where} has a body`);
      return;
    }
    if (operation === undefined) {
      // What the document does not know is not there, or not by this method.
      if (status !== (template === undefined ? 404 : 405) && status !== 400)
        throw new Error(`${where} is not in the document`);
      this.#hold(where, JSON.parse(body), ['components', 'schemas', 'Error']);
      return;
    }
    const response = operation.responses[status];
    if (response === undefined) throw new Error(`${where} is not in the document: ${body}`);
    this.seen.add(`${operation.operationId} ${status}`);
    if (response.content === undefined) {
      if (body !== '') throw new Error(`${where} has a body`);
      return;
    }
    const mediaType = headers['content-type']?.replace(/;.*$/, '') ?? '';
    if (response.content[mediaType] === undefined)
      throw new Error(`${where} is ${mediaType}, which is not in the document`);
    const value = mediaType === 'application/json' ? JSON.parse(body) : body;
    this.#hold(where, value, ['paths', template!, known, 'responses', String(status), 'content', mediaType, 'schema']);
  }

  /** Holds the head of a response against the document, where the body is a stream or not there yet. */
  checkHead(
    path: string,
    { status, headers }: { readonly status: number; readonly headers: IncomingHttpHeaders },
  ): void {
    const operation = this.document.paths[this.templateOf(path) ?? '']?.get;
    // What the document does not know is held against it by `check`.
    if (operation === undefined) return;
    const mediaType = headers['content-type']?.replace(/;.*$/, '') ?? '';
    const response = operation.responses[status];
    if (response !== undefined && (response.content === undefined || response.content[mediaType] !== undefined)) return;
    throw new Error(`GET ${path} → ${status} ${mediaType} is not in the document`);
  }

  #hold(where: string, value: unknown, keys: readonly string[]): void {
    const validate = this.at(...keys);
    if (validate(value)) return;
    throw new Error(
      `${where} is not as documented: ${this.#ajv.errorsText(validate.errors)}: ${JSON.stringify(value)}`,
    );
  }
}

/** Whether it can stand for a name in a path: text in UTF-8, percent-encoded. */
function isName(part: string): boolean {
  try {
    return decodeURIComponent(part) !== '';
  } catch {
    return false;
  }
}
