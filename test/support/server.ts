/** A real HTTP server on a free port of the loopback interface, with its own end. */
import http, { type RequestListener, type ServerOptions } from 'node:http';
import type { AddressInfo, Server } from 'node:net';
import { onTestFinished } from 'vitest';

export interface RunningServer {
  readonly server: Server;
  readonly port: number;
  readonly url: string;
  close(): Promise<void>;
}

/** Waits until `server` listens; `scheme` is what its URL starts with. */
export async function listen(server: Server, scheme = 'http', port = 0): Promise<RunningServer> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  const address = server.address() as AddressInfo;
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      (server as http.Server).closeAllConnections?.();
    });
  return { server, port: address.port, url: `${scheme}://127.0.0.1:${address.port}`, close };
}

/** Serves `listener` until the running test ends. */
export async function serve(listener: RequestListener, options: ServerOptions = {}): Promise<RunningServer> {
  const running = await listen(http.createServer(options, listener));
  onTestFinished(() => running.close());
  return running;
}
