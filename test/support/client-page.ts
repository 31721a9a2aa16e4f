/**
 * A page with the SSEClient of `src/` in it, which writes down all that its client tells. Works in pages of Playwright and
 * of Puppeteer, and over reloads: what the page knows stands in its globals.
 */
import type { RequestListener } from 'node:http';
import { bundle } from './bundle.js';
import { until } from './until.js';

/** A page of whichever browser. */
export interface AnyPage {
  goto(url: string): Promise<unknown>;
  evaluate(script: string): Promise<unknown>;
}

/** What a page's client told. */
export interface PageLog {
  /** Every event, `connected` included. */
  readonly events: readonly { readonly type: string; readonly data: unknown; readonly id?: string }[];
  readonly statuses: readonly {
    readonly status: string;
    readonly previous: string;
    readonly reason?: string;
    readonly attempt: number;
    readonly nextDelay?: number;
  }[];
  readonly gaps: number;
  readonly errors: readonly { readonly code?: string; readonly message: string; readonly status?: number }[];
}

const SOURCE = `
  import { SSEClient } from 'sse-broker/client';
  globalThis.SSEClient = SSEClient;
  globalThis.openClient = (config) => {
    const log = { events: [], statuses: [], gaps: 0, errors: [] };
    const client = new SSEClient(config);
    client.on('message', ({ type, data, id }) => log.events.push({ type, data, id }));
    client.on('status', ({ status, previous, reason, attempt, nextDelay }) => {
      log.statuses.push({ status, previous, reason, attempt, nextDelay });
    });
    client.on('gap', () => log.gaps++);
    client.on('error', ({ code, message, status }) => log.errors.push({ code, message, status }));
    globalThis.log = log;
    globalThis.client = client;
    client.connect();
  };
`;

let script: Promise<string> | undefined;

/** Serves the page at every path but `/client.js`, which is its script. */
export function clientPage(): RequestListener {
  return async (req, res) => {
    if (req.url === '/client.js') {
      script ??= bundle(SOURCE);
      res.setHeader('Content-Type', 'text/javascript').end(await script);
    } else {
      const page = '<!doctype html><meta charset="utf-8"><title>SSEClient</title><script src="/client.js"></script>';
      res.setHeader('Content-Type', 'text/html').end(page);
    }
  };
}

/** The client in a page, as its test sees it. */
export class PageClient {
  readonly page: AnyPage;

  constructor(page: AnyPage) {
    this.page = page;
  }

  log(): Promise<PageLog> {
    return this.page.evaluate('log') as Promise<PageLog>;
  }

  /** Data of the events of that type, in order. */
  async dataOf<T = unknown>(type: string): Promise<T[]> {
    const { events } = await this.log();
    return events.filter((event) => event.type === type).map(({ data }) => data as T);
  }

  status(): Promise<string> {
    return this.page.evaluate('client.getStatus().status') as Promise<string>;
  }

  stats(): Promise<Record<string, unknown>> {
    return this.page.evaluate('client.getStats()') as Promise<Record<string, unknown>>;
  }

  /** Waits until `count` events of that type are there. */
  async has(type: string, count = 1, deadlineMs?: number): Promise<void> {
    let have = 0;
    await until(
      async () => {
        have = (await this.dataOf(type)).length;
        return have >= count;
      },
      `${count} × ${type} in the page`,
      deadlineMs,
    ).catch(async (error: Error) => {
      const { statuses, errors } = await this.log();
      throw new Error(
        `${error.message}; have ${have}; ${JSON.stringify(statuses.slice(-5))} ${JSON.stringify(errors)}`,
      );
    });
  }

  async is(status: string, deadlineMs?: number): Promise<void> {
    await until(async () => (await this.status()) === status, `the status ${status}`, deadlineMs);
  }
}

/** Opens `url` in `page` and a client in it; `config` is the text of an expression where it holds functions. */
export async function openClient(page: AnyPage, url: string, config: object | string): Promise<PageClient> {
  await page.goto(url);
  await page.evaluate(`openClient(${typeof config === 'string' ? config : JSON.stringify(config)})`);
  return new PageClient(page);
}
