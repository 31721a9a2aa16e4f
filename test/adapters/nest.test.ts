import 'reflect-metadata';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  All,
  Controller,
  type DynamicModule,
  type ExecutionContext,
  Get,
  type INestApplication,
  Inject,
  Module,
  Req,
  Res,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { describe, expect, test } from 'vitest';
import {
  createNestHandler,
  type NestDynamicModule,
  type NestHandler,
  SseBrokerModule,
} from '../../src/adapters/nest.js';
import { Broker } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { skipUnless } from '../support/skip.js';
import { openStream } from '../support/stream.js';
import { type AnyHandlerOptions, conformance, type Framework } from './conformance.js';
import { connectionsOf } from './connections.js';

interface PlatformRequest {
  headers: Record<string, string | undefined>;
  user?: { id: string };
}

/** What a compiler makes of `@decorator() method(@first a, @second b)`. */
function decorate(target: object, method: string, decorators: MethodDecorator[], ...parameters: ParameterDecorator[]) {
  for (const decorator of decorators) decorator(target, method, Object.getOwnPropertyDescriptor(target, method)!);
  parameters.forEach((parameter, index) => {
    parameter(target, method, index);
  });
}

/** A controller that mounts the broker on `/events`, and a module with it. */
function moduleOf(options: AnyHandlerOptions, brokerModule: NestDynamicModule<unknown[]>): object {
  class EventsController {
    readonly #open: NestHandler;

    constructor(broker: Broker) {
      this.#open = createNestHandler(broker, options);
    }

    events(req: PlatformRequest, res: object): Promise<void> {
      return this.#open(req, res);
    }

    other(): string {
      return 'other';
    }
  }
  Inject(Broker)(EventsController, undefined, 0);
  decorate(EventsController.prototype, 'events', [All('events')], Req(), Res());
  decorate(EventsController.prototype, 'other', [Get('other')]);
  Controller()(EventsController);
  class AppModule {}
  Module({ imports: [brokerModule as DynamicModule], controllers: [EventsController] })(AppModule);
  return AppModule;
}

type Platform = 'express' | 'fastify';

async function started(module: object, platform: Platform): Promise<{ app: INestApplication; url: string }> {
  const options = { logger: ['error' as const] };
  const app =
    platform === 'express'
      ? await NestFactory.create(module, options)
      : await NestFactory.create(module, new (await fastifyPlatform()).FastifyAdapter(), options);
  app.useGlobalGuards({
    canActivate: (context: ExecutionContext) => {
      const http = context.switchToHttp();
      const req: PlatformRequest = http.getRequest();
      const id = req.headers['x-user'];
      if (id !== undefined) req.user = { id };
      http.getResponse().header('X-Earlier', 'kept');
      return true;
    },
  });
  await app.listen(0, '127.0.0.1');
  const { port } = (app.getHttpServer() as Server).address() as AddressInfo;
  return { app, url: `http://127.0.0.1:${port}` };
}

// biome-ignore lint/suspicious/noExplicitAny: it may not be installed
function fastifyPlatform(): Promise<any> {
  const name = '@nestjs/platform-fastify';
  return import(/* @vite-ignore */ name);
}

const nest = (platform: Platform): Framework => ({
  name: `Nest on ${platform}`,
  start: async (broker, options) => {
    const { app, url } = await started(moduleOf(options, SseBrokerModule.forRoot(broker)), platform);
    return { url, connections: connectionsOf(app.getHttpServer()).connections, close: () => app.close() };
  },
  userOf: (_req, context) => (context as PlatformRequest).user,
  isContext: (context) => 'query' in (context as object),
});

conformance(nest('express'));

const hasFastifyPlatform = await fastifyPlatform().then(
  () => true,
  () => false,
);
if (hasFastifyPlatform) {
  conformance(nest('fastify'));
} else {
  test('Nest on fastify', () => {
    skipUnless(false, 'no @nestjs/platform-fastify; npm install --save-dev @nestjs/platform-fastify');
  });
}

describe('Nest', () => {
  test('a method without @Res() says what is missing', async () => {
    const handler = createNestHandler(makeBroker());
    for (const [req, res] of [[{ headers: {} }], [undefined, {}], []]) {
      await expect(handler(req as never, res as never)).rejects.toThrow(
        /takes what @Req\(\) and @Res\(\) of NestJS give/,
      );
    }
  });

  test('closing the application closes the broker before the server waits for its streams', async () => {
    const broker = makeBroker();
    const { app, url } = await started(moduleOf({}, SseBrokerModule.forRoot(broker)), 'express');
    const client = await openStream(`${url}/events`);
    await client.next('connected');
    await app.close();
    await client.ended();
    expect(client.events.at(-1)).toMatchObject({ event: 'closing', data: '{"reason":"shutdown"}' });
    await expect(broker.broadcast('note', 1)).rejects.toMatchObject({ code: 'SSE_ERR_BROKER_CLOSED' });
  });

  test('the broker can be made by a factory with what it needs', async () => {
    class Settings {
      readonly historySize = 7;
    }
    class SettingsModule {}
    Module({ providers: [Settings], exports: [Settings] })(SettingsModule);
    const brokerModule = SseBrokerModule.forRootAsync({
      imports: [SettingsModule],
      inject: [Settings],
      useFactory: async ({ historySize }: Settings) => new Broker({ historySize }),
      closeOptions: { reconnectWithinMs: 7 },
    });
    const { app, url } = await started(moduleOf({}, brokerModule), 'express');
    const broker = app.get(Broker);
    expect(broker.options.historySize).toBe(7);
    const client = await openStream(`${url}/events`);
    await client.next('connected');
    await app.close();
    await client.ended();
    expect(client.retry()).toBeLessThanOrEqual(7);
  });

  test('a module without a broker is refused, and an application whose factory makes none does not start', async () => {
    const invalid = { code: 'SSE_ERR_INVALID_OPTION', message: 'broker must be a Broker; got undefined' };
    const none = undefined as unknown as Broker;
    expect(() => SseBrokerModule.forRoot(none)).toThrow(expect.objectContaining(invalid));
    const brokerModule = SseBrokerModule.forRootAsync({ useFactory: async () => none });
    const starting = NestFactory.create(moduleOf({}, brokerModule), { logger: false, abortOnError: false });
    await expect(starting).rejects.toMatchObject(invalid);
  });
});
