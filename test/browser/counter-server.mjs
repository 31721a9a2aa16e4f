/** A counter behind a SqliteBus, on a fixed port and file, to be killed and started again: see restarts.test.ts. */
import http from 'node:http';
import { Broker, createHandler } from 'sse-broker';
import { SqliteBus } from 'sse-broker/sqlite';

const [port, file] = process.argv.slice(2);
const broker = new Broker({ bus: new SqliteBus({ database: file, historySize: 1_000 }), retry: 100 });
const stream = createHandler(broker);

const server = http.createServer(async (req, res) => {
  const { pathname, searchParams } = new URL(req.url, 'http://localhost');
  if (pathname === '/events') return stream(req, res);
  if (pathname === '/publish') {
    await broker.broadcast('count', Number(searchParams.get('n')));
    return res.end('ok');
  }
  res.setHeader('content-type', 'text/html');
  res.end(`<!doctype html><title>counter</title><output></output><script>
    const seen = [];
    let gaps = 0;
    const source = new EventSource('/events');
    source.addEventListener('count', ({ data }) => {
      seen.push(Number(data));
      document.querySelector('output').textContent = data;
    });
    source.addEventListener('gap', () => gaps++);
  </script>`);
});
process.on('SIGTERM', async () => {
  await broker.close({ timeoutMs: 2_000, reconnectWithinMs: 200 });
  server.close();
  // Browsers open connections on which they ask nothing yet: Node would wait a minute for their first request.
  server.closeAllConnections();
});
await broker.start();
server.listen(Number(port), '127.0.0.1', () => process.send?.('listening'));
