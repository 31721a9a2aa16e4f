/**
 * The floor a good engineer can reach in Node: the head once through `node:http`, then bytes that already carry the
 * chunk framing, straight to the socket; all frames of a turn in one write per client, joined once for those who get the
 * same; a reader that falls behind is passed over. It has no ids to resume from, no limits to set, no identities.
 */
import { EVENT_NAME } from '../shared/names.mjs';
import { serve } from './harness.mjs';
import { EVENT_STREAM_HEADERS, Listeners, topicsOf, userOf } from './request.mjs';

/** A reader with more than this waiting in the process gets nothing until it caught up. */
const MAX_WAITING_BYTES = 1 << 20;

/**
 * A frame with its chunk framing: a string where one client gets it, which spares the copy into a Buffer; a Buffer
 * where many do, which spares encoding it for each.
 * @typedef {string | Buffer} Piece
 *
 * `first` and `more` are what a client gets this turn: nearly always one piece, and an array for one is not made.
 * @typedef {{ socket: import('node:net').Socket, first: Piece | null, more: Piece[] | null }} Client
 */

serve((needs) => {
  /** @type {Set<Client>} */
  const clients = new Set();
  const byUser = new Listeners();
  const byTopic = new Listeners();
  /** Frames of this turn for everybody. @type {string[]} */
  let shared = [];
  /** Clients with something of their own this turn. @type {Client[]} */
  let touched = [];
  let isScheduled = false;

  /** @param {string} text of ASCII, so its length is its size */
  const chunk = (text) => `${text.length.toString(16)}\r\n${text}\r\n`;
  /** @param {string} data @param {number} id */
  const encode = (data, id) => `id: ${id}\nevent: ${EVENT_NAME}\ndata: ${data}\n\n`;

  const schedule = () => {
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(flush);
  };

  const flushShared = () => {
    if (shared.length === 0) return;
    const bytes = Buffer.from(chunk(shared.length === 1 ? shared[0] : shared.join('')), 'latin1');
    shared = [];
    for (const { socket } of clients) if (socket.writableLength <= MAX_WAITING_BYTES) socket.write(bytes);
  };

  const flushTouched = () => {
    const list = touched;
    touched = [];
    for (const client of list) {
      const { socket, first, more } = client;
      client.first = null;
      client.more = null;
      if (first === null || socket.writableLength > MAX_WAITING_BYTES) continue;
      socket.write(more === null ? first : join([first, ...more]), 'latin1');
    }
  };

  const flush = () => {
    isScheduled = false;
    flushTouched();
    flushShared();
  };

  /** @param {Iterable<Client>} recipients @param {Piece} piece */
  const send = (recipients, piece) => {
    // What everybody gets was published earlier: it goes first.
    if (shared.length > 0) flushShared();
    for (const client of recipients) {
      if (client.first === null) {
        client.first = piece;
        touched.push(client);
      } else if (client.more === null) {
        client.more = [piece];
      } else {
        client.more.push(piece);
      }
    }
    schedule();
  };

  return {
    handler(req, res) {
      const user = needs.users ? userOf(req.url ?? '') : '';
      const topics = needs.topics ? topicsOf(req.url ?? '') : [];
      res.writeHead(200, { ...EVENT_STREAM_HEADERS, 'Transfer-Encoding': 'chunked' });
      res.flushHeaders();
      /** @type {Client} */
      const client = { socket: req.socket, first: null, more: null };
      clients.add(client);
      if (needs.users) byUser.add(user, client);
      for (const topic of topics) byTopic.add(topic, client);
      res.on('close', () => {
        clients.delete(client);
        if (needs.users) byUser.delete(user, client);
        for (const topic of topics) byTopic.delete(topic, client);
      });
    },
    broadcast(data, id) {
      if (touched.length > 0) flushTouched();
      shared.push(encode(data, id));
      schedule();
    },
    toUser: (user, data, id) => send(byUser.of(user), chunk(encode(data, id))),
    toTopic: (topic, data, id) => send(byTopic.of(topic), Buffer.from(chunk(encode(data, id)), 'latin1')),
    clientCount: () => clients.size,
  };
});

/** @param {Piece[]} pieces */
function join(pieces) {
  return Buffer.concat(pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece)));
}
