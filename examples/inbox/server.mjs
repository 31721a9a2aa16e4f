// Notifications that wait for their user, end to end: send one with curl, with or without a page open, and read it on any.
//
//   npm install sse-broker react react-dom zod tsup typescript
//   PORT=3000 node examples/inbox/server.mjs
//   curl http://localhost:3000/notes -d '{"text":"Your order has left"}'
import { createApi } from 'sse-broker/api';
import { Inbox, MemoryStore } from 'sse-broker/inbox';
import { servePage } from '../page-server.mjs';

let inbox;
await servePage(
  new URL('page.jsx', import.meta.url),
  { 'POST /notes': ({ text }) => inbox.sendToUser('alice', 'note', { text }) },
  (broker) => {
    // Forgets everything when the process ends; SqlStore does not.
    inbox = new Inbox({ broker, store: new MemoryStore() });
    // Everybody is alice, for a first try. Read a session or a token here.
    return createApi(broker, { inbox, authenticator: () => ({ userId: 'alice' }) });
  },
);
