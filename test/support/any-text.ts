/** Text of any kind for property tests: every UTF-16 unit, whole and half characters, and what breaks lines. */
import fc from 'fast-check';

const unit = fc.oneof(
  fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code)),
  fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
  fc.constantFrom('\u{1F600}', 'é', '日', '\r', '\n', '\r\n', '\0', '\ufeff', '\ud83d', '\udc00', '\u2028', ' ', ':'),
);

/** A string of at most `maxLength` of them. */
export const anyText = (maxLength: number, minLength = 0): fc.Arbitrary<string> =>
  fc.string({ unit, minLength, maxLength });
