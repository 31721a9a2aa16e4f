/** A handler that is mounted where another one belongs says so; what a framework makes of the error is its own. */
import fastify from 'fastify';
import { H3 } from 'h3';
import { Hono } from 'hono';
import Koa from 'koa';
import { expect, test } from 'vitest';
import { createApi, createFetchApi } from '../../src/api/index.js';
import { createFetchHandler, createFetchPollHandler, createHandler, createPollHandler } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';

/** What TypeScript would refuse. */
// biome-ignore lint/suspicious/noExplicitAny: see above
const untyped = (handler: unknown): any => handler;

const FOR_NODE = "this handler takes Node's (req, res); for Koa, Fastify, NestJS, Hono and h3 use";

test.each([
  ['createHandler', createHandler],
  ['createPollHandler', createPollHandler],
  ['createApi', createApi],
])('%s in Koa, Fastify and Hono names the adapter', async (_name, create) => {
  const handler = untyped(create(makeBroker()));
  const told: string[] = [];

  const koa = new Koa();
  koa.on('error', (error: Error) => told.push(error.message));
  koa.use(handler);
  const { url } = await serve(koa.callback());
  expect((await fetch(url)).status).toBe(500);

  const app = fastify();
  app.get('/', handler);
  told.push((await app.inject('/')).json<{ message: string }>().message);

  const hono = new Hono();
  hono.get('/', handler);
  hono.onError((error, c) => {
    told.push(error.message);
    return c.text('', 500);
  });
  await hono.request('/');

  expect(told).toEqual(Array(3).fill(expect.stringContaining(FOR_NODE)));
});

test.each([
  ['createFetchHandler', createFetchHandler],
  ['createFetchPollHandler', createFetchPollHandler],
  ['createFetchApi', createFetchApi],
])('%s in Hono, in h3 and with (req, res) answers 500 and says where it belongs', async (_name, create) => {
  const broker = makeBroker();
  const told: unknown[] = [];
  broker.on('error', (error) => told.push((error.cause as Error).message));
  const handler = untyped(create(broker));

  const hono = new Hono();
  hono.get('/', handler);
  expect((await hono.request('/')).status).toBe(500);
  const h3 = new H3();
  h3.get('/', handler);
  expect((await h3.request('/')).status).toBe(500);
  const { url } = await serve(
    (req, res) => void handler(req, res).then(({ status }: Response) => res.writeHead(status).end()),
  );
  expect((await fetch(url)).status).toBe(500);

  expect(told).toEqual(Array(3).fill(expect.stringContaining('this handler takes a Fetch Request; for Node')));
});
