/**
 * The demo: hash a folder of this project and watch it happen. `npm start`, or `node examples/demo/server.mjs` after a
 * build.
 *
 *   PORT      default 3000; 0 takes a free one
 *   HOST      default 127.0.0.1: this machine only, because here anybody can say that they are anybody
 *   DEMO_ROOT the folder whose folders may be hashed; default this project
 *
 * Nothing but node:http and sse-broker. What belongs to the broker is in the first half of this file.
 */
import { readdirSync, readFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Broker, createHandler, queryAuthenticator, queryTopicResolver } from 'sse-broker';
import { startFeed } from './feed.mjs';
import { listFolders } from './folders.mjs';
import { Jobs } from './jobs.mjs';
import { Refusal } from './refusal.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(process.env.DEMO_ROOT ?? path.join(here, '../..'));
const host = process.env.HOST || '127.0.0.1';
const port = Number(process.env.PORT || 3000);
const isLoopback = /^(127(\.\d{1,3}){3}|::1|localhost)$/.test(host);
if (!(Number.isInteger(port) && port >= 0 && port < 65_536)) {
  console.error(`PORT must be a number from 0 to 65535; got ${JSON.stringify(process.env.PORT)}`);
  process.exit(1);
}

const broker = new Broker({
  // What a page missed while it was away is sent when it comes back; what no longer can be is told as a `gap`.
  historySize: 512,
  historyTtl: 15 * 60_000,
  retry: 2_000,
  heartbeatInterval: 15_000,
  maxConnections: 200,
  maxConnectionsPerUser: 8,
});
broker.on('error', (error, origin) => console.error(`${origin}: ${error.code}: ${error.message}`, error.cause ?? ''));

const jobs = new Jobs({ broker, root });

// For development only: it believes what the query says. The demo has no tenants, so it takes none.
const believeQuery = queryAuthenticator();
const authenticator = (req) => {
  const identity = believeQuery(req);
  return identity && { userId: identity.userId };
};
// Those the client asks for, and those of its jobs: an EventSource comes back with the URL that it began with.
const askedTopics = queryTopicResolver();
const events = createHandler(broker, {
  authenticator,
  topicResolver: (req, { userId }) => [...askedTopics(req), ...jobs.topicsOf(userId)],
  authorizeTopic: ({ userId }, topic) => jobs.mayHaveTopic(userId, topic),
  onConnect: (client) => jobs.attach(client),
});
const stopFeed = startFeed(broker, jobs);

// From here on: an ordinary web server.

const MAX_BODY_BYTES = 4 * 1024;

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };
/** The page's files by their URL, read once: no request can name another file. */
const assets = new Map(
  readdirSync(path.join(here, 'page')).map((name) => [
    name === 'index.html' ? '/' : `/${name}`,
    { type: `${TYPES[path.extname(name)]}; charset=utf-8`, body: readFileSync(path.join(here, 'page', name)) },
  ]),
);
// `sse-broker/client` as it lies in the package, for a page without a bundler: a module, and those that it imports.
addModule(fileURLToPath(import.meta.resolve('sse-broker/client')));

function addModule(file) {
  const url = `/sse-broker/${path.basename(file)}`;
  if (assets.has(url)) return;
  const body = readFileSync(file);
  assets.set(url, { type: 'text/javascript; charset=utf-8', body });
  for (const [, name] of body.toString().matchAll(/\bfrom\s*["'](\.\/[^"']+)["']/g))
    addModule(path.join(path.dirname(file), name));
}

/** [pattern, { METHOD: (user, parameter, req) => [status, body, type] }]; all of these are about the user who asks. */
const routes = [
  [/^\/folders$/, { GET: async () => [200, { folders: await listFolders(root) }] }],
  [
    /^\/jobs$/,
    {
      GET: (user) => [200, { jobs: jobs.of(user) }],
      POST: async (user, _, req) => [202, { job: await jobs.start(user, (await readJson(req)).folder) }],
    },
  ],
  [
    /^\/jobs\/([0-9a-f]+)$/,
    {
      GET: (user, id) => [200, { job: jobs.view(user, id) }],
      DELETE: async (user, id) => [200, { job: await jobs.cancel(user, id) }],
    },
  ],
  [
    /^\/jobs\/([0-9a-f]+)\/sha256sums$/,
    { GET: (user, id) => [200, jobs.manifest(user, id), 'text/plain; charset=utf-8'] },
  ],
];

const server = http.createServer(async (req, res) => {
  try {
    checkHost(req);
    const { pathname } = parseUrl(req);
    if (pathname === '/events') return await events(req, res);
    const asset = assets.get(pathname);
    if (asset !== undefined) {
      checkMethod(req, ['GET']);
      return send(req, res, 200, asset.body, asset.type);
    }
    for (const [pattern, methods] of routes) {
      const match = pattern.exec(pathname);
      if (match === null) continue;
      checkMethod(req, Object.keys(methods));
      const identity = authenticator(req);
      if (identity === null) throw new Refusal(401, 'UNAUTHENTICATED', 'say who you are: ?user_id=alice');
      const method = req.method === 'HEAD' ? 'GET' : req.method;
      return send(req, res, ...(await methods[method](identity.userId, match[1], req)));
    }
    throw new Refusal(404, 'NOT_FOUND', 'nothing here');
  } catch (error) {
    if (!(error instanceof Refusal)) console.error(error);
    const refusal = error instanceof Refusal ? error : new Refusal(500, 'INTERNAL', 'this did not work');
    const { status, code, message, headers } = refusal;
    if (res.headersSent) res.destroy();
    else send(req, res, status, { error: { code, message } }, undefined, headers);
  }
});
server.requestTimeout = 15_000;
server.headersTimeout = 10_000;

function parseUrl(req) {
  try {
    return new URL(req.url, 'http://demo.invalid');
  } catch {
    throw new Refusal(400, 'INVALID_URL', 'this is not a URL');
  }
}

/** A page elsewhere whose name was pointed at this machine (DNS rebinding) comes with its own name. */
function checkHost(req) {
  if (isLoopback && !/^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i.test(req.headers.host ?? '')) {
    throw new Refusal(421, 'UNKNOWN_HOST', 'this demo serves localhost; HOST=0.0.0.0 makes it serve every name');
  }
}

function checkMethod(req, methods) {
  const allowed = methods.includes('GET') ? [...methods, 'HEAD'] : methods;
  if (allowed.includes(req.method)) return;
  const Allow = allowed.join(', ');
  throw new Refusal(405, 'METHOD_NOT_ALLOWED', `use ${Allow}`, { Allow });
}

async function readJson(req) {
  // A form on another site can send text, but not JSON, without asking first; and nobody here answers yes.
  if (!/^application\/json\s*(;|$)/i.test(req.headers['content-type'] ?? '')) {
    throw new Refusal(415, 'UNSUPPORTED_MEDIA_TYPE', 'send JSON, with Content-Type: application/json');
  }
  const chunks = [];
  let bytes = 0;
  for await (const chunk of req) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) {
      throw new Refusal(413, 'BODY_TOO_LARGE', `a body has at most ${MAX_BODY_BYTES} bytes`, { Connection: 'close' });
    }
    chunks.push(chunk);
  }
  let body;
  try {
    body = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {}
  if (typeof body !== 'object' || body === null) throw new Refusal(400, 'INVALID_JSON', 'send {"folder":"src"}');
  return body;
}

function send(req, res, status, body, type = 'application/json; charset=utf-8', headers = {}) {
  const bytes = Buffer.isBuffer(body)
    ? body
    : Buffer.from(typeof body === 'string' ? body : `${JSON.stringify(body)}\n`);
  res.writeHead(status, {
    'Content-Type': type,
    'Content-Length': bytes.length,
    'Cache-Control': 'no-store',
    'Content-Security-Policy':
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    ...headers,
  });
  res.end(req.method === 'HEAD' ? undefined : bytes);
}

let isStopping = false;
/** Ends the jobs, tells every stream when to come back, ends them, and lets the process end. */
async function stop(signal) {
  // Whoever asks twice is in a hurry.
  if (isStopping) process.exit(1);
  isStopping = true;
  console.log(`\n${signal}: closing`);
  stopFeed();
  server.close();
  await jobs.close();
  const { ended, cut } = await broker.close({ timeoutMs: 3_000, reconnectWithinMs: 2_000 });
  server.closeAllConnections();
  console.log(`closed: ${ended} streams ended${cut > 0 ? `, ${cut} cut` : ''}`);
}
process.on('SIGINT', stop);
process.on('SIGTERM', stop);
// Asked to end, npm ends the shell between it and us, and tells us nothing.
if (process.env.npm_lifecycle_event === 'start') {
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    void stop('npm ended');
  }, 500);
  watch.unref();
}

server.on('error', (error) => {
  if (error.code === 'EADDRINUSE') {
    console.error(`Port ${port} is in use. Choose another one: PORT=${port < 65_535 ? port + 1 : 3000} npm start`);
  } else {
    console.error(`Cannot listen on ${host}:${port}: ${error.message}`);
  }
  process.exit(1);
});

const folders = await listFolders(root);
// A name that needs no quoting in a shell.
const plain = folders.find((name) => /^[\w.-]+$/.test(name)) ?? 'src';
const example = JSON.stringify({ folder: folders.includes('node_modules') ? 'node_modules' : plain });

server.listen(port, host, () => {
  const { address, port: realPort } = server.address();
  const name = isLoopback ? (address.includes(':') ? `[${address}]` : address) : '127.0.0.1';
  const url = `http://${name}:${realPort}`;
  console.log(`
sse-broker demo at ${url}

  Open it as two users; each sees only what is theirs:
    ${url}/?user_id=alice
    ${url}/?user_id=bob

  Watch what alice gets:
    curl -N '${url}/events?user_id=alice'

  Start a job as alice:
    curl -X POST '${url}/jobs?user_id=alice' -H 'Content-Type: application/json' -d '${example}'

  Ctrl+C stops it.`);
  if (!isLoopback) console.log('\n  Other machines can reach it, and anybody can say that they are anybody.');
});
