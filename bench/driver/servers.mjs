/**
 * Who is measured, and what each can do. A peer is asked only what its own documentation shows how to do; `why` is
 * printed where it sits a scenario out.
 */
import { fileURLToPath } from 'node:url';

/**
 * @typedef {object} Server
 * @property {string} file
 * @property {string} [variant]
 * @property {boolean} isPeer lives in bench/peers and needs its packages
 * @property {('broadcast' | 'users' | 'topics' | 'mixed')[]} can
 * @property {number} [most] clients, where more never connect
 * @property {string} [why]
 */

/** @type {Server['can']} */
const EVERYTHING = ['broadcast', 'users', 'topics', 'mixed'];

/** @param {string} path */
const file = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

/** @param {string} name @param {Server['can']} can @param {string} [why] @returns {Server} */
const peer = (name, can, why) => ({ file: file(`peers/${name}.mjs`), isPeer: true, can, ...(why ? { why } : {}) });

/** @type {Record<string, Server>} */
export const SERVERS = {
  ours: { file: file('servers/ours.mjs'), isPeer: false, can: EVERYTHING },
  'ours-adaptive': { file: file('servers/ours.mjs'), variant: 'adaptive', isPeer: false, can: EVERYTHING },
  'ours-history': { file: file('servers/ours.mjs'), variant: 'history', isPeer: false, can: EVERYTHING },
  raw: { file: file('servers/raw.mjs'), isPeer: false, can: EVERYTHING },
  'raw-socket': { file: file('servers/raw-socket.mjs'), isPeer: false, can: EVERYTHING },
  'better-sse': peer('better-sse', EVERYTHING),
  transmit: peer('transmit', EVERYTHING),
  'sse-channel': peer('sse-channel', ['broadcast', 'users'], 'a response can be in one channel only'),
  'express-sse': {
    ...peer(
      'express-sse',
      ['broadcast'],
      'sends to everybody only, and 10 000 did not connect to it within three minutes',
    ),
    most: 1_000,
  },
  'fastify-sse': peer('fastify-sse', EVERYTHING),
  hono: peer('hono', EVERYTHING),
  h3: peer('h3', EVERYTHING),
  nest: peer('nest', EVERYTHING),
};

/** @param {string} name @param {import('./scenarios.mjs').Scenario} scenario */
export function isAble(name, { kind, clients, stalled }) {
  const { can, most = Number.POSITIVE_INFINITY } = SERVERS[name];
  return can.includes(kind) && clients + stalled <= most;
}

export const DEFAULT_SERVERS = ['ours', 'raw', 'raw-socket'];
export const PEERS = Object.keys(SERVERS).filter((name) => SERVERS[name].isPeer);
