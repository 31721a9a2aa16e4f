/**
 * What all measured servers share: the control channel, the workload, and the accounts of their own process. A server
 * file brings only what its library's user would write.
 */
import http from 'node:http';
import net from 'node:net';
import { answer } from '../shared/ipc.mjs';
import { Workload } from './workload.mjs';

/**
 * @typedef {object} Target what a server file gives: the calls that an application would make
 * @property {http.Server} [server] made by the library or framework, not yet listening
 * @property {http.RequestListener} [handler] instead of `server`: mounted on a plain `node:http` server
 * @property {(data: string, id: number) => void} [broadcast]
 * @property {(user: string, data: string, id: number) => void} [toUser]
 * @property {(topic: string, data: string, id: number) => void} [toTopic]
 * @property {() => number} clientCount as the library sees it
 * @property {() => Record<string, unknown>} [stats] the library's own figures, for the soak test
 * @property {() => Record<string, number>} [listeners] listeners that it holds, for the soak test
 */

/**
 * @typedef {object} Needs what the scenario uses: hand-written servers keep no map that it does not ask for
 * @property {boolean} broadcast
 * @property {boolean} users
 * @property {boolean} topics
 */

/** @param {(needs: Needs, variant: string) => Target | Promise<Target>} create */
export function serve(create) {
  /** @type {Target} */
  let target;
  /** @type {http.Server} */
  let server;
  /** @type {Workload} */
  let workload;

  answer({
    async start({ needs, variant, workload: plan }) {
      target = await create(needs, variant);
      server = target.server ?? http.createServer(target.handler);
      workload = new Workload(target, plan);
      const acks = net.createServer((socket) => workload.readAcks(socket));
      return { port: await listen(server), ackPort: await listen(acks) };
    },
    async publish({ plan }) {
      return await workload.run(plan);
    },
    /** CPU of this process as it sees it itself; the driver compares it with the system's account. */
    usage() {
      const { user, system } = process.cpuUsage();
      return { cpuSeconds: (user + system) / 1e6, memory: process.memoryUsage(), clients: target.clientCount() };
    },
    async collect({ times = 6 } = {}) {
      await collectGarbage(times);
      return process.memoryUsage();
    },
    async inspect() {
      await collectGarbage();
      const connections = await new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
      return {
        memory: process.memoryUsage(),
        clients: target.clientCount(),
        connections,
        resources: countByName(process.getActiveResourcesInfo()),
        listeners: { process: countListeners(process), server: countListeners(server), ...target.listeners?.() },
        stats: target.stats?.() ?? {},
      };
    },
  });
}

/** @param {net.Server} server @returns {Promise<number>} the port */
function listen(server) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // Loopback only, whatever the framework would choose; the longest queue for handshakes the system allows.
    server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
      server.off('error', reject);
      resolve(/** @type {net.AddressInfo} */ (server.address()).port);
    });
  });
}

/** Several times for figures of memory, with turns between: what a collection frees may free more at the next. */
async function collectGarbage(times = 6) {
  if (globalThis.gc === undefined) throw new Error('start me with --expose-gc');
  for (let i = 0; i < times; i++) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** @param {import('node:events').EventEmitter} emitter */
function countListeners(emitter) {
  return emitter.eventNames().reduce((sum, name) => sum + emitter.listenerCount(name), 0);
}

/** @param {string[]} names */
function countByName(names) {
  /** @type {Record<string, number>} */
  const counts = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
