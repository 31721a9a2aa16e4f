/** express-sse: one `SSE` object mounted on an Express route, `send` to everybody. */
import http from 'node:http';
import express from 'express';
import SSE from 'express-sse';
import { serve } from '../servers/harness.mjs';
import { EVENT_NAME } from '../shared/names.mjs';

serve(() => {
  const app = express();
  const sse = new SSE();
  app.get('/events', sse.init);
  return {
    server: http.createServer(app),
    broadcast: (data) => sse.send(data, EVENT_NAME),
    clientCount: () => sse.listenerCount('data'),
  };
});
