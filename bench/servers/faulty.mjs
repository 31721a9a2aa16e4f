/**
 * A server with one fault of each kind, on purpose: what the load client must find, and exactly once. The victim is one
 * client; all others are served well.
 */
import { EVENT_NAME } from '../shared/names.mjs';
import { serve } from './harness.mjs';
import { EVENT_STREAM_HEADERS, topicsOf, userOf } from './request.mjs';

/** From this event on the fault may happen; by then all clients are well under way. */
const FROM_EVENT = 40;

/**
 * @typedef {{ res: import('node:http').ServerResponse, user: string, topics: string[] }} Client
 */

serve((_needs, fault) => {
  /** @type {Set<Client>} */
  const clients = new Set();
  let isDone = fault === '';
  /** @type {{ client: Client, frame: string } | null} */
  let held = null;

  /** @param {string} data @param {number} id */
  const encode = (data, id) => `id: ${id}\nevent: ${EVENT_NAME}\ndata: ${data}\n\n`;

  /** @param {Client[]} recipients @param {string} data @param {number} id */
  const send = (recipients, data, id) => {
    const frame = encode(data, id);
    const [victim] = clients;
    for (const client of recipients) {
      if (!isDone && id >= FROM_EVENT && client === victim) spoil(client, frame, data);
      else client.res.write(frame);
      if (held !== null && held.client === client && held.frame !== frame) {
        client.res.write(held.frame);
        held = null;
      }
    }
  };

  /** @param {Client} client @param {string} frame @param {string} data */
  const spoil = (client, frame, data) => {
    const { res } = client;
    const isBroadcast = data.startsWith('SBP:*');
    // A swap within a scope needs two events of one scope in a row, one between scopes two of different ones.
    if (fault === 'swap' && !isBroadcast) return res.write(frame);
    if (fault === 'misdeliver' && !data.startsWith('SBP:u')) return res.write(frame);
    isDone = true;
    if (fault === 'lose') return;
    if (fault === 'swap') {
      held = { client, frame };
      return;
    }
    if (fault === 'double') return res.write(frame + frame);
    if (fault === 'misdeliver') {
      const other = [...clients].find((candidate) => candidate !== client);
      other?.res.write(frame);
      return res.write(frame);
    }
    if (fault === 'harm') return res.write(`${frame.slice(0, -4)}!${frame.slice(-3)}`);
    if (fault === 'tear') return res.socket?.write(`5\r\n${frame}\r\n`);
    if (fault === 'end') {
      clients.delete(client);
      return res.end();
    }
    throw new Error(`no fault ${fault}`);
  };

  return {
    handler(req, res) {
      const client = { res, user: userOf(req.url ?? ''), topics: topicsOf(req.url ?? '') };
      clients.add(client);
      // "zombie" forgets nobody.
      if (fault !== 'zombie') res.on('close', () => clients.delete(client));
      res.writeHead(200, EVENT_STREAM_HEADERS);
      res.flushHeaders();
    },
    broadcast: (data, id) => send([...clients], data, id),
    toUser: (user, data, id) =>
      send(
        [...clients].filter((client) => client.user === user),
        data,
        id,
      ),
    toTopic: (topic, data, id) =>
      send(
        [...clients].filter((client) => client.topics.includes(topic)),
        data,
        id,
      ),
    clientCount: () => clients.size,
  };
});
