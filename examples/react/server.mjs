// Prices in a React page.
//
//   npm install sse-broker react react-dom tsup typescript
//   PORT=3000 node examples/react/server.mjs
import { servePage } from '../page-server.mjs';

const broker = await servePage(new URL('page.jsx', import.meta.url));

const cents = { ACME: 10_000, Globex: 5_000 };
setInterval(
  () => {
    for (const symbol of Object.keys(cents)) {
      cents[symbol] += Math.round(Math.random() * 200 - 100);
      // Nobody has to be there, and a publish that fails is no reason to stop.
      broker.broadcast('price', { symbol, cents: cents[symbol] }).catch(console.error);
    }
  },
  Number(process.env.INTERVAL ?? 1_000),
).unref();
