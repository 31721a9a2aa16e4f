/** Express and compression, which bring no types of their own: the part of them that tests use. */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';

type Next = (error?: unknown) => void;
type Middleware = (req: IncomingMessage, res: ServerResponse, next: Next) => void;

/** An Express application: itself a listener of `request`. */
export interface ExpressApp {
  (req: IncomingMessage, res: ServerResponse): void;
  readonly response: ServerResponse;
  use(middleware: Middleware): this;
  get(path: string, handler: Middleware | RequestListener): this;
}

const require = createRequire(import.meta.url);

export const express = require('express') as () => ExpressApp;
export const express4 = require('express4') as () => ExpressApp;
export const compression = require('compression') as (options?: { threshold?: number }) => Middleware;
