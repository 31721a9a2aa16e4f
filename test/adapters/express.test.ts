import express5 from 'express';
import express4 from 'express4';
import { createHandler, type RequestLike } from '../../src/index.js';
import { listen } from '../support/server.js';
import { conformance, type Framework } from './conformance.js';
import { connectionsOf } from './connections.js';

const express = (name: string, createApp: typeof express5): Framework => ({
  name,
  start: async (broker, options) => {
    const app = createApp();
    // biome-ignore lint/suspicious/noExplicitAny: Express ships no types
    app.use((req: any, res: any, next: () => void) => {
      const id = req.get('x-user');
      if (id !== undefined) req.user = { id };
      res.set('X-Earlier', 'kept');
      next();
    });
    app.use(createApp.json());
    app.all('/events', createHandler(broker, options));
    // biome-ignore lint/suspicious/noExplicitAny: Express ships no types
    app.get('/other', (_req: any, res: any) => res.send('other'));
    const { url, server } = await listen(app.listen(0, '127.0.0.1'));
    return { url, ...connectionsOf(server) };
  },
  userOf: (req) => (req as RequestLike & { user?: { id: string } }).user,
  // Express passes `next`.
  isContext: (context) => typeof context === 'function',
});

conformance(express('Express 5', express5));
conformance(express('Express 4', express4));
