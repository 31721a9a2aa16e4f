/** The headers of a response that is not a refusal. */
import type { ResolvedHandlerOptions } from './options.js';
import { acceptsGzip, type MediaType, type RequestLike } from './request.js';

/** A stream's or an answer's headers: the service's own, CORS, compression, and what the application adds. */
export function responseHeaders<Req extends RequestLike, Context>(
  service: { readonly mediaType: MediaType; readonly headers: Readonly<Record<string, string>> },
  { compression, headers }: ResolvedHandlerOptions<Req, Context>,
  cors: Readonly<Record<string, string>>,
  req: Req,
): Record<string, string> {
  const all: Record<string, string> = { ...service.headers, ...cors };
  if (compression === 'gzip' && service.mediaType === 'text/event-stream') {
    all.Vary = all.Vary === undefined ? 'Accept-Encoding' : `${all.Vary}, Accept-Encoding`;
    if (acceptsGzip(req)) all['Content-Encoding'] = 'gzip';
  }
  return Object.assign(all, headers);
}

/** Whether a response with these headers carries gzip. */
export const isGzip = (headers: Readonly<Record<string, string>>): boolean => headers['Content-Encoding'] === 'gzip';
