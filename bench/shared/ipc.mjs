/**
 * Questions and answers over the channel of a forked process: `{ id, op, ...arguments }` there, `{ id, result }` or
 * `{ id, error }` back. Servers and load client speak only this with the driver.
 */

/**
 * @param {Record<string, (message: any) => unknown>} operations
 */
export function answer(operations) {
  if (process.send === undefined) throw new Error('this file is started by bench/run.mjs or bench/soak.mjs');
  process.on('message', async (/** @type {any} */ message) => {
    try {
      const operation = operations[message.op];
      if (operation === undefined) throw new Error(`unknown operation ${message.op}`);
      const result = await operation(message);
      process.send?.({ id: message.id, result });
    } catch (error) {
      process.send?.({
        id: message.id,
        error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
    }
  });
  // The driver is gone: nobody will ever ask again.
  process.on('disconnect', () => process.exit(0));
}
