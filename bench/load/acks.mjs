/**
 * Tells the server every two milliseconds how far the clients are, over a connection of its own: 8 bytes, the last event
 * that the slowest steady connection has read. A server that publishes as fast as it can waits for these once too much is
 * under way; so no kernel buffer grows without end, whichever library is measured.
 */
import net from 'node:net';

const EVERY_MS = 2;

/**
 * @param {number} port
 * @param {import('./fleet.mjs').Fleet} fleet
 * @returns {Promise<() => void>} stops it
 */
export async function startAcks(port, fleet) {
  const socket = net.connect({ host: '127.0.0.1', port, noDelay: true });
  await new Promise((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  socket.on('error', () => {});
  let told = Number.NaN;
  const timer = setInterval(() => {
    const slowest = fleet.slowestGlobal();
    if (slowest === told) return;
    told = slowest;
    const message = Buffer.alloc(8);
    message.writeDoubleLE(slowest);
    socket.write(message);
  }, EVERY_MS);
  return () => {
    clearInterval(timer);
    socket.destroy();
  };
}
