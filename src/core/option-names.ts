/** The names of options: one that is misspelt, and passed over in silence, would be one that does not work. */
import { SseError, shown } from './errors.js';

/**
 * `of`: whose options, for the message.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION` for what is no object, and for a name that is none of `known`
 */
export function checkOptionNames(of: string, options: object, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null) {
    throw new SseError('SSE_ERR_INVALID_OPTION', `options of ${of} must be an object; got ${shown(options)}`);
  }
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    throw new SseError(
      'SSE_ERR_INVALID_OPTION',
      `unknown option ${shown(name)} of ${of}; known are ${known.join(', ')}`,
    );
  }
}
