/** A client of a stream that the test writes. */
import { onTestFinished } from 'vitest';
import { SSEClient, type SSEClientConfig } from '../../src/client/index.js';
import { startFaultServer } from '../support/fault-server.js';
import { until } from '../support/until.js';

/** `send` resolves when the client has got the events that these texts are. */
export async function writtenStream(config: SSEClientConfig = {}) {
  let write: (text: string) => void = () => {};
  const server = await startFaultServer(({ res }) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    write = (text) => res.write(text);
  });
  const client = new SSEClient({ url: server.url, ...config });
  onTestFinished(() => client.destroy());
  const send = async (...texts: readonly string[]) => {
    const count = client.getStats().messagesReceived + texts.length;
    write(texts.join(''));
    await until(() => client.getStats().messagesReceived === count, `${count} events`);
  };
  const connect = async () => {
    client.connect();
    await until(() => client.getStatus().connected, 'connected');
  };
  return { client, send, connect };
}
