// Notifications in a Pinia store: a snapshot first, then what is new.
//
//   npm install sse-broker vue pinia tsup typescript
//   PORT=3000 node examples/pinia/server.mjs
import { servePage } from '../page-server.mjs';

const all = [{ id: 1, text: 'Welcome', isRead: false }];

const broker = await servePage(new URL('page.js', import.meta.url), {
  'GET /notifications': () => all,
  'POST /notifications': async ({ text }) => {
    const one = { id: all.length + 1, text, isRead: false };
    all.push(one);
    await broker.broadcast('notification', one);
    return one;
  },
});
