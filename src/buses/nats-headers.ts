/**
 * Headers of a message that goes out, in the form of the NATS client: it asks what it is given for `encode()`. Made here
 * because the client's own come from whichever transport package the application has, and we import none.
 *
 * Wire form: NATS ADR-4.
 */
export class OutgoingHeaders {
  readonly #fields = new Map<string, string>();

  set(name: string, value: string): void {
    this.#fields.set(name, value);
  }

  encode(): Uint8Array {
    let text = 'NATS/1.0\r\n';
    for (const [name, value] of this.#fields) text += `${name}: ${value}\r\n`;
    return Buffer.from(`${text}\r\n`);
  }
}

/** Of its subject the stream keeps this message alone: for what is worth something only to who listens now. */
export function replacingHeaders(): OutgoingHeaders {
  const headers = new OutgoingHeaders();
  headers.set('Nats-Rollup', 'sub');
  return headers;
}
