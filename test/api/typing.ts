/** What must compile, and what must not: an API over typed events, with what frameworks put on their requests. */
import { type ApiOptions, createApi, createFetchApi, type RateLimit, tokenAuthorizer } from '../../src/api/index.js';
import { Inbox } from '../../src/inbox/inbox.js';
import type { MemoryStore } from '../../src/inbox/index.js';
import { Broker } from '../../src/index.js';

interface Events {
  'job.progress': { jobId: string; progress: number };
}
declare const store: MemoryStore;
declare const rateLimit: RateLimit;

const broker = new Broker<Events>();
const inbox = new Inbox<Events>({ broker, store });

interface ExpressRequest {
  url: string;
  headers: object;
  user?: { id: string };
}
createApi<ExpressRequest>(broker, {
  inbox,
  authenticator: (req) => (req.user === undefined ? null : { userId: req.user.id }),
  authorize: (req) => (req.user?.id === 'root' ? ['publish', 'read', 'admin'] : null),
});
createApi(broker, { rateLimit, authorize: tokenAuthorizer([{ token: '0123456789abcdef', scopes: ['publish'] }]) });
createFetchApi<{ user: string }>(broker, { authenticator: (_request, { user }) => ({ userId: user }) });
createFetchApi(broker, { authorize: tokenAuthorizer<Request>([{ token: '0123456789abcdef', scopes: [] }]) });

// @ts-expect-error: no such scope
createApi(broker, { authorize: () => ['everything'] });
// @ts-expect-error: that is no inbox
createApi(broker, { inbox: broker });
// @ts-expect-error: no such option
const options: ApiOptions = { prefix: '/api' };
void options;
