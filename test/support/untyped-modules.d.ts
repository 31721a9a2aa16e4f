/** Frameworks that ship no types of their own: the tests use them as a JavaScript application does. */
declare module 'compression';
declare module 'express';
declare module 'express4';
declare module 'koa';
