/**
 * NestJS on Express: `@Sse` with an rxjs `Subject`. A Subject per user and per topic, merged for each client, rather
 * than one Subject and a filter per client, which would ask every client about every event.
 */
import 'reflect-metadata';
import { Controller, Module, Query, Sse } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { finalize, merge, Subject } from 'rxjs';
import { serve } from '../servers/harness.mjs';
import { EVENT_NAME } from '../shared/names.mjs';

serve(async (needs) => {
  /** @type {Subject<{ id: string, type: string, data: string }>} */
  const everybody = new Subject();
  /** @type {Map<string, typeof everybody>} */
  const subjects = new Map();
  let count = 0;

  /** @param {string} name */
  const subjectOf = (name) => {
    const known = subjects.get(name);
    if (known !== undefined) return known;
    const subject = new Subject();
    subjects.set(name, subject);
    return subject;
  };

  class EventsController {
    /** @param {Record<string, string>} query */
    events(query) {
      const sources = [everybody];
      if (needs.users) sources.push(subjectOf(query.user_id));
      if (needs.topics) sources.push(...query.topics.split(',').map(subjectOf));
      count++;
      return merge(...sources).pipe(
        finalize(() => {
          count--;
        }),
      );
    }
  }
  // What the decorators of a TypeScript class do.
  const method = Object.getOwnPropertyDescriptor(EventsController.prototype, 'events');
  Query()(EventsController.prototype, 'events', 0);
  Sse('events')(EventsController.prototype, 'events', /** @type {PropertyDescriptor} */ (method));
  Controller()(EventsController);
  class AppModule {}
  Module({ controllers: [EventsController] })(AppModule);

  const app = await NestFactory.create(AppModule, { logger: ['error', 'warn'] });
  await app.init();

  /** @param {string} data @param {number} id */
  const message = (data, id) => ({ id: String(id), type: EVENT_NAME, data });
  return {
    server: app.getHttpServer(),
    broadcast: (data, id) => everybody.next(message(data, id)),
    toUser: (user, data, id) => subjects.get(user)?.next(message(data, id)),
    toTopic: (topic, data, id) => subjects.get(topic)?.next(message(data, id)),
    clientCount: () => count,
  };
});
