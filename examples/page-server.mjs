// What the examples with a page share: it puts the page's script together, as Vite or your framework does for you, and
// serves it with an event stream beside it.
//
//   npm install tsup typescript      beside what the example needs
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Broker, createHandler } from 'sse-broker';
import { build } from 'tsup';

/**
 * Serves the page of the script `page` (a file URL) at `/`, a broker's stream at `/events`, `routes` ('GET /todos') with the
 * body that they give, and all else by the handler that `makeHandler` gives for the broker. Prints the address; ends on SIGTERM.
 */
export async function servePage(page, routes = {}, makeHandler = () => notFound) {
  const script = await bundle(fileURLToPath(page));
  const broker = new Broker({ historySize: 100 });
  const events = createHandler(broker);
  const handler = makeHandler(broker);
  const server = createServer(async (req, res) => {
    const { pathname } = new URL(`http://localhost${req.url}`);
    const route = routes[`${req.method} ${pathname}`];
    if (pathname === '/events') return events(req, res);
    if (pathname === '/page.js') return res.setHeader('Content-Type', 'text/javascript').end(script);
    if (pathname === '/') return res.setHeader('Content-Type', 'text/html').end(HTML);
    if (!route) return handler(req, res);
    try {
      let text = '';
      for await (const chunk of req) text += chunk;
      const answer = await route(text === '' ? undefined : JSON.parse(text));
      res.setHeader('Content-Type', 'application/json').end(JSON.stringify(answer ?? null));
    } catch (error) {
      // A body that is no JSON, or a client that left in the middle of it.
      res.writeHead(400).end(`${error.message}\n`);
    }
  });
  server.listen(process.env.PORT ?? 3000, () => console.log(`open http://localhost:${server.address().port}`));
  process.once('SIGTERM', async () => {
    server.close();
    await broker.close();
    server.closeAllConnections();
    process.exit();
  });
  return broker;
}

const notFound = (_req, res) => res.writeHead(404).end();

const HTML = `<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>sse-broker</title>
<main></main>
<script src="/page.js"></script>
`;

async function bundle(file) {
  const folder = await mkdtemp(join(tmpdir(), 'sse-broker-page-'));
  await build({
    entry: [file],
    outDir: folder,
    format: 'iife',
    outExtension: () => ({ js: '.js' }),
    platform: 'browser',
    noExternal: [/./],
    define: {
      'process.env.NODE_ENV': '"production"',
      __VUE_OPTIONS_API__: 'true',
      __VUE_PROD_DEVTOOLS__: 'false',
      __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: 'false',
    },
    esbuildOptions: (options) => {
      options.jsx = 'automatic';
      // The examples have templates in them, and no build step that compiles them.
      options.alias = { vue: 'vue/dist/vue.esm-bundler.js' };
    },
    config: false,
    silent: true,
  });
  const script = await readFile(join(folder, `${basename(file, extname(file))}.js`), 'utf8');
  await rm(folder, { recursive: true });
  return script;
}
