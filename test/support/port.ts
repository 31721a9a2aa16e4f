/** Ports of this machine: which one is free, and whether somebody listens there. */
import net from 'node:net';

/**
 * A free port below those that the system gives to outgoing connections: nobody takes it until the server has started. With
 * `andAbove`, the one so far above it is free too.
 */
export async function freePort(andAbove = 0): Promise<number> {
  for (;;) {
    const port = 11_000 + Math.floor(Math.random() * 10_000);
    if ((await isFree(port)) && (andAbove === 0 || (await isFree(port + andAbove)))) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** Whether somebody takes connections there. */
export function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
