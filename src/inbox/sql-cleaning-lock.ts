/** The row of the sequence table that is only there to be locked: whoever must not meet cleaning shares it, and cleaning takes it. */
import type { Context } from './sql-append.js';
import { CLEANUP_ROW } from './sql-schema.js';
import { select, type Work } from './sql-work.js';

/** Until the end of the transaction. Before any other lock: the two would wait for each other's rows. */
export function* keepCleaningOut({ dialect, t }: Context): Work<void> {
  yield* select(`SELECT value FROM ${t.sequence} WHERE id = ${CLEANUP_ROW}${dialect.forShare}`);
}
