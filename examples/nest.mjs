// Streams from a NestJS controller, without a compiler; docs/guides/nest.md has the same in TypeScript.
//
//   npm install sse-broker @nestjs/common @nestjs/core @nestjs/platform-express reflect-metadata rxjs
//   PORT=3000 node examples/nest.mjs
import 'reflect-metadata';
import { Controller, Get, HttpCode, Inject, Module, Post, Query, Req, Res } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Broker, queryTopicResolver } from 'sse-broker';
import { createNestHandler, SseBrokerModule } from 'sse-broker/nest';

class EventsController {
  constructor(broker) {
    this.broker = broker;
    this.open = createNestHandler(broker, {
      authenticator: (_req, request) => (request.user ? { userId: request.user.id } : null),
      topicResolver: queryTopicResolver(),
    });
  }

  events(req, res) {
    return this.open(req, res);
  }

  async notify(to, text) {
    await this.broker.sendToUser(to, 'note', { text });
  }
}

class AppModule {}

// What a compiler makes of @decorators above a class, a method and its parameters.
function decorate(target, name, decorators, ...parameters) {
  const descriptor = Object.getOwnPropertyDescriptor(target.prototype, name);
  for (const decorator of decorators) decorator(target.prototype, name, descriptor);
  parameters.forEach((parameter, index) => {
    parameter(target.prototype, name, index);
  });
}
Controller()(EventsController);
Inject(Broker)(EventsController, undefined, 0);
decorate(EventsController, 'events', [Get('events')], Req(), Res());
decorate(EventsController, 'notify', [Post('notify'), HttpCode(202)], Query('to'), Query('text'));
Module({ imports: [SseBrokerModule.forRoot(new Broker())], controllers: [EventsController] })(AppModule);

// Without forceCloseConnections one that a browser opened ahead, and never used, would hold app.close() for up to a minute.
const app = await NestFactory.create(AppModule, { logger: ['error', 'warn'], forceCloseConnections: true });

// Stands for your guard (Passport, JWT, …): whatever sets request.user.
app.useGlobalGuards({
  canActivate(context) {
    const request = context.switchToHttp().getRequest();
    if (request.query.user) request.user = { id: request.query.user };
    return true;
  },
});

await app.listen(process.env.PORT ?? 3000);
const url = `http://localhost:${app.getHttpServer().address().port}`;
console.log(`curl -N '${url}/events?user=alice&topics=news'`);
console.log(`curl -X POST '${url}/notify?to=alice&text=hello'`);

// The module closes the broker: the streams end, and their clients are told when to come back.
process.once('SIGTERM', () => app.close());
