/**
 * Statements as values. Everything that a store does is a generator that yields statements and is given their results, so
 * the same lines run over a pool (each result awaited) and over an SQLite handle, where no other code of the application
 * may come between BEGIN and COMMIT.
 */

export interface Statement {
  /** With `?` for parameters. */
  readonly sql: string;
  readonly parameters: readonly unknown[];
}

export type Row = Readonly<Record<string, unknown>>;

export interface Result {
  readonly rows: readonly Row[];
  /** Rows inserted, updated or deleted. */
  readonly changes: number;
  /** What `LAST_INSERT_ID(…)` was set to, on MySQL. */
  readonly insertId?: number | undefined;
}

export type Work<T> = Generator<Statement, T, Result>;

export function* select(sql: string, ...parameters: readonly unknown[]): Work<readonly Row[]> {
  return (yield { sql, parameters }).rows;
}

/** Resolves to how many rows changed. */
export function* change(sql: string, ...parameters: readonly unknown[]): Work<number> {
  return (yield { sql, parameters }).changes;
}

/**
 * Text as it stands in the tables: NUL becomes U+0001 and `0`, U+0001 becomes U+0001 and `1`. One escape for what PostgreSQL
 * refuses in text, and what SQLite clients end it at. Everything else stands as it is, so that people can read the tables.
 */
export function toStored(text: string): string {
  // Each text of each message comes by here: an expression would take five times as long.
  if (!text.includes('\u0001') && !text.includes('\u0000')) return text;
  return text.replaceAll('\u0001', '\u00011').replaceAll('\u0000', '\u00010');
}

/** The inverse of {@link toStored}; MySQL answers bytes for what is compared as bytes. */
export function fromStored(value: unknown): string {
  const text = typeof value === 'string' ? value : Buffer.from(value as Uint8Array).toString('utf8');
  // In this order: the escape of the escape comes last, and is nothing else's beginning.
  return text.includes('\u0001') ? text.split('\u00011').map(withNul).join('\u0001') : text;
}

function withNul(text: string): string {
  return text.replaceAll('\u00010', '\u0000');
}

/** PostgreSQL answers 64-bit integers as text. NULL is 0. */
export function numberOf(value: unknown): number {
  return Number(value ?? 0);
}

const SIZES = [1, 4, 16, 64, 256];
/** Most values of one list in a statement. */
export const LIST_LIMIT = 256;

/** `(?, ?, …)` and its parameters: filled up with the last value, so that few different statements come about. */
export function list(values: readonly unknown[]): { readonly sql: string; readonly parameters: readonly unknown[] } {
  const size = SIZES.find((one) => one >= values.length)!;
  const parameters = Array.from({ length: size }, (_, i) => values[Math.min(i, values.length - 1)]);
  return { sql: `(${Array(size).fill('?').join(', ')})`, parameters };
}

export function chunks<T>(values: readonly T[], size: number): T[][] {
  const parts: T[][] = [];
  for (let i = 0; i < values.length; i += size) parts.push(values.slice(i, i + size));
  return parts;
}
