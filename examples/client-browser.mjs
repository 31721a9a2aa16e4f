// A page with SSEClient, without a bundler: one stream for all its tabs, long polling where streams do not get through.
//
//   npm install sse-broker
//   PORT=3000 node examples/client-browser.mjs      and open the address it prints, in several tabs
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import { Broker, createHandler, createPollHandler } from 'sse-broker';

const broker = new Broker({ historySize: 100 });
const stream = createHandler(broker);
const poll = createPollHandler(broker);

const page = `<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>SSEClient</title>
<p>Connection: <b id="status"></b>, <span id="transport"></span></p>
<p>The server's clock: <b id="clock">–</b></p>
<script type="module">
  import { SSEClient } from './client.js';

  const show = (id, text) => (document.getElementById(id).textContent = text);
  const client = new SSEClient({ url: '/stream', shareAcrossTabs: true, persistLastEventId: 'session' });
  client.on('status', ({ status, transport }) => {
    show('status', status);
    show('transport', transport ?? 'nothing is open');
  });
  client.subscribe('tick', ({ time }) => show('clock', time));
  // History no longer reached back: what the page shows is fetched anew, while events wait.
  client.on('gap', ({ refetch }) => refetch((signal) => fetch('/now', { signal }).then(async (now) => show('clock', await now.text()))));
  client.connect();
</script>
`;

/** The client as it lies in the package, and what it imports. */
const scripts = new Map();
addScript(new URL(import.meta.resolve('sse-broker/client')));
function addScript(url) {
  const text = readFileSync(fileURLToPath(url), 'utf8');
  scripts.set(`/${url.pathname.split('/').at(-1)}`, text);
  for (const [, name] of text.matchAll(/\bfrom\s*["'](\.\/[^"']+)["']/g)) addScript(new URL(name, url));
}

const server = http.createServer((req, res) => {
  const { pathname } = new URL(`http://localhost${req.url}`);
  if (pathname === '/stream') stream(req, res);
  else if (pathname === '/poll') poll(req, res);
  else if (pathname === '/now') res.end(new Date().toISOString());
  else if (scripts.has(pathname)) res.setHeader('Content-Type', 'text/javascript').end(scripts.get(pathname));
  else if (pathname === '/') res.setHeader('Content-Type', 'text/html').end(page);
  else res.writeHead(404).end();
});

server.listen(process.env.PORT ?? 3000, () => {
  const url = `http://localhost:${server.address().port}`;
  console.log(`curl -N ${url}/stream`);
  console.log(`curl '${url}/poll?wait=10000'`);
  console.log(`or, in several tabs: ${url}/`);
});

const ticking = setInterval(() => broker.broadcast('tick', { time: new Date().toISOString() }), 1_000);

process.once('SIGTERM', async () => {
  clearInterval(ticking);
  server.close();
  await broker.close();
  server.closeAllConnections();
});
