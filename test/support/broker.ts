/** Brokers that end with their test. */
import { onTestFinished } from 'vitest';
import { Broker, type BrokerOptions, type SseError } from '../../src/index.js';

/** A broker that is closed when the test ends, with the errors it reported. */
export function makeBroker(options: BrokerOptions = {}): Broker & { readonly reported: SseError[] } {
  const broker = new Broker(options);
  const reported: SseError[] = [];
  broker.on('error', (error) => {
    reported.push(error);
  });
  onTestFinished(async () => {
    await broker.close({ timeoutMs: 200 });
  });
  return Object.assign(broker, { reported });
}
