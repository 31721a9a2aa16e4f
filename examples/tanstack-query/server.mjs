// TanStack Query that knows when its data is old: the server says so.
//
//   npm install sse-broker react react-dom @tanstack/react-query tsup typescript
//   PORT=3000 node examples/tanstack-query/server.mjs
import { servePage } from '../page-server.mjs';

const todos = [{ id: 1, text: 'Write the example' }];

const broker = await servePage(new URL('page.jsx', import.meta.url), {
  'GET /todos': () => todos,
  'POST /todos': async ({ text }) => {
    todos.push({ id: todos.length + 1, text });
    await broker.broadcast('changed', { key: ['todos'] });
  },
});
