/** A page with a framework in it, over a real server and a real broker, and what that server saw. */
import type { IncomingMessage } from 'node:http';
import type { Page } from 'playwright-core';
import { type BrokerOptions, createHandler, queryTopicResolver } from '../../src/index.js';
import { makeBroker } from './broker.js';
import { openPage } from './browser.js';
import { serve } from './server.js';
import { until } from './until.js';

const HTML = '<!doctype html><meta charset="utf-8"><title>Binding</title><div id="root"></div>';

export interface BindingPage {
  readonly page: Page;
  readonly broker: ReturnType<typeof makeBroker>;
  /** Requests for the stream so far. */
  readonly requests: readonly IncomingMessage[];
  /** What answers a request for the stream from now on. */
  answer: 'stream' | 'cut' | 'gone';
  /** Waits until the server has that many open streams. */
  hasStreams(count: number): Promise<void>;
  /** Ends all streams; their clients come back if they can. */
  endStreams(): Promise<void>;
  /** Evaluates an expression in the page. */
  get<T>(expression: string): Promise<T>;
  /** Waits until the expression is true in the page. */
  is(expression: string): Promise<void>;
  /** Waits until #data has that text. */
  shows(text: string): Promise<void>;
}

/** Serves a page with `script`, which defines `run` and `seen`, and runs a scenario of it. */
export async function openBindingPage(
  script: string,
  scenario: string,
  options: object,
  brokerOptions: BrokerOptions,
): Promise<BindingPage> {
  const page = await openPage();
  const broker = makeBroker({ historySize: 100, retry: 50, ...brokerOptions });
  const handler = createHandler(broker, { topicResolver: queryTopicResolver() });
  const requests: IncomingMessage[] = [];
  const { url } = await serve((req, res) => {
    const { pathname } = new URL(req.url ?? '/', 'http://localhost');
    if (pathname === '/page.js') res.setHeader('Content-Type', 'text/javascript').end(script);
    else if (pathname !== '/events') res.setHeader('Content-Type', 'text/html').end(HTML);
    else {
      requests.push(req);
      if (binding.answer === 'cut') req.socket.destroy();
      else if (binding.answer === 'gone') res.writeHead(410).end();
      else void handler(req, res);
    }
  });
  const binding: BindingPage = {
    page,
    broker,
    requests,
    answer: 'stream',
    hasStreams: async (count) => {
      await until(() => broker.getStats().totalClients === count, `${count} open streams`);
    },
    endStreams: async () => {
      for (const { id } of broker.getClients()) await broker.disconnect(id);
    },
    get: (expression) => page.evaluate(expression) as Promise<never>,
    is: async (expression) => {
      await until(() => page.evaluate(expression), expression).catch(async (error: Error) => {
        const saw = await page.evaluate('JSON.stringify({ ...seen, clients: [], html: document.body.innerHTML })');
        throw new Error(`${error.message}; the page saw ${saw}`);
      });
    },
    shows: (text) => binding.is(`document.getElementById('data')?.textContent === ${JSON.stringify(text)}`),
  };
  await page.goto(url);
  await page.addScriptTag({ url: '/page.js' });
  await page.evaluate(`run(${JSON.stringify(scenario)}, ${JSON.stringify(options)})`);
  return binding;
}
