/**
 * Keeps one connection alive: attempts, their failures and what follows, the watchdog, polling, the next address.
 *
 * There is one attempt at a time and one timer. Every attempt has a number and an abort controller; `drop()` takes both
 * away, and whatever still comes from an older attempt finds that its number has passed. So nothing has to be unregistered
 * in the right order, and `stop()` at any moment leaves nothing behind.
 *
 * Deadlines are judged by the clock when a timer fires: a timer of a page that was hidden, frozen or asleep comes late, and
 * `check()` is called as soon as the page is awake.
 */
import {
  BODY_START,
  BODY_TIME,
  GOOD_AFTER,
  LONGEST,
  MIN_SPACING,
  NEVER,
  POLL_EVENTS,
  PROBE_EVERY,
  PROBE_TIME,
  SHORTEST_BEAT,
  SPACING_GROWTH,
  TRIES_BEFORE_POLLING,
} from './constants.js';
import type { Engine, EngineHost, Pace } from './engine-contract.js';
import { SSEClientError } from './errors.js';
import type { Options } from './options.js';
import { isOffline } from './page.js';
import { createParser } from './parser.js';
import { pollUrlOf, readPoll } from './poll.js';
import { type BodyReader, canSend, discard, hrefOf, request, retryAfterOf, textOf } from './request.js';
import { changed, idle } from './status.js';
import type { SSEAttempt, SSEDecision, SSEReason, SSEStatusInfo } from './types.js';

/** What follows by default; undefined for 401 and 403, where it depends. */
function verdictOf(status?: number, error?: SSEClientError): SSEDecision {
  if (status === 401 || status === 403) return undefined;
  if (status === 404 || status === 410) return 'next';
  if (status === 204) return 'stop';
  return !error || error.retryable ? 'retry' : 'fail';
}

export function createEngine(options: Options, pace: Pace, host: EngineHost): Engine {
  const { urls, maxReconnectInterval, pollingInterval } = options;
  /** The number of the attempt that counts. */
  let turn = 0;
  let controller: AbortController | undefined;
  /** Of the body that is under way. It is let go of, too: a `fetch` of the application's may not know signals. */
  let reader: BodyReader | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let deadline = NEVER;
  let onDeadline: (() => void) | undefined;

  let info = idle();
  let attempt = 0;
  let base = options.reconnectInterval;
  /** What `Retry-After` asks for, in ms of `performance.now()`. Not of {@link Pace}: another server has not asked for it. */
  let notBefore = 0;
  let isRefreshing = false;
  /** 0 where no stream is open. */
  let openedAt = 0;

  let index = 0;
  /** For each address until when it is left alone; for ever where it said that there is nothing. */
  let coolUntil: number[] = [];

  let interval = options.heartbeatInterval;
  let lastByteAt = 0;

  /** Attempts in a row without a byte. */
  let fruitless = 0;
  let isPolling = false;
  let isProbe = false;
  let canPoll = false;
  let probeAt = 0;

  function tell(changes?: Partial<SSEStatusInfo>): void {
    info = changed(info, { nextDelay: null, attempt, ...changes });
    host.status(info);
  }

  function arm(delay: number, then?: () => void): void {
    clearTimeout(timer);
    deadline = Date.now() + delay;
    onDeadline = then;
    if (delay < NEVER) timer = setTimeout(then!, Math.min(delay, LONGEST));
  }

  /** Whatever is under way counts no more. */
  function drop(): number {
    arm(NEVER);
    controller?.abort();
    discard(reader);
    return ++turn;
  }

  /** What may be functions, for the address whose turn it is. */
  const sources = () => [urls[index], options.headers, options.pollingUrl];

  const readerOf = (response: Response): BodyReader | undefined => {
    reader = response.body?.getReader();
    return reader;
  };

  /** `growth` for each attempt after the first, from `first` to `last`. */
  const grown = (first: number, growth: number, last: number) =>
    // Nothing, times a growth that has become Infinity, is no number.
    Math.min(last, first * growth ** Math.max(0, attempt - 1)) || 0;

  function wait(delay: number, status: SSEStatusInfo['status'] = 'reconnecting'): void {
    const spacing = grown(MIN_SPACING, SPACING_GROWTH, Math.max(MIN_SPACING, maxReconnectInterval));
    const soonest = Math.max(pace.last + spacing, notBefore);
    // Polling that works is left alone, as a stream is. And a server on this machine needs no network: it is asked once.
    const nextDelay =
      isOffline() && attempt && !isPolling ? null : Math.ceil(Math.max(0, delay, soonest - performance.now()));
    openedAt = 0;
    arm(nextDelay ?? NEVER, begin);
    // Between two polls that work nothing changes.
    if (!isPolling || !info.connected) tell({ status, nextDelay });
  }

  function end(status: 'failed' | 'disconnected', changes?: Partial<SSEStatusInfo>): void {
    openedAt = 0;
    tell({ status, transport: null, ...changes });
  }

  /** Leaves an address alone until then, and goes to the next one that may be tried; false where there is none. */
  function moveOn(until: number): boolean {
    coolUntil[index] = until;
    const now = Date.now();
    const untilOf = (i: number) => Math.max(now, coolUntil[i] ?? 0);
    index = urls.map((_, i) => (index + 1 + i) % urls.length).sort((a, b) => untilOf(a) - untilOf(b))[0]!;
    return untilOf(index) === now;
  }

  /** An attempt, a stream or a poll is over. Without `error` the server ended it. */
  function over(n: number, error?: SSEClientError, response?: Response): void {
    if (n !== turn) return;
    const next = drop();
    if (isProbe) {
      // It was only a try; polling goes on.
      probeAt = Date.now() + PROBE_EVERY;
      wait(0);
      return;
    }
    const { status, headers } = response ?? {};
    const wasPolling = isPolling;
    const isGood = openedAt && Date.now() - openedAt >= GOOD_AFTER;
    if (isGood) {
      attempt = 1;
      coolUntil = [];
    }
    isPolling = false;
    if (error) host.error(error);
    let decision: SSEDecision;
    try {
      // The handler of the error may have called disconnect().
      if (next === turn) decision = options.decide({ status, headers, error, attempt });
      if (!/^\d|^(retry|next|stop|fail)$/.test(`${decision ?? 0}`)) throw decision;
    } catch (cause) {
      decision = undefined;
      // An async one is not waited for; that it rejects later is told by this error, too.
      Promise.resolve(cause).catch(() => {});
      host.error(new SSEClientError('SSE_CLIENT_CALLBACK', 'decide failed', { cause }));
    }
    // The application has called start() or stop().
    if (next !== turn) return;
    if (decision == null) {
      decision = verdictOf(status, error);
      if (!decision) {
        // 401 and 403: once more, if somebody can be asked for another token.
        isRefreshing = !isRefreshing && sources().some((value) => typeof value === 'function');
        decision = isRefreshing ? 0 : 'fail';
        isPolling = wasPolling;
      } else if (wasPolling && (decision === 'next' || decision === 'fail')) {
        // Nothing to poll there; the stream itself may come back.
        canPoll = false;
        decision = 'retry';
        fruitless = 0;
      }
    }
    // Quietly.
    if (decision === 'stop') error = undefined;
    const reason = error
      ? (error.code.slice(11).toLowerCase().replace('_', '-') as SSEReason)
      : decision === 'stop'
        ? 'stopped'
        : 'ended';
    info = changed(info, { reason, error: error ?? null, transport: isPolling ? info.transport : null });

    // Full jitter: between nothing and the bound.
    let delay = Math.random() * grown(base, options.reconnectDecay, maxReconnectInterval);
    if (typeof decision === 'number') {
      delay = decision;
    } else if (decision !== 'fail') {
      const retryAfter = Math.min(retryAfterOf(headers), maxReconnectInterval * 10);
      // One that has just brought something gets another chance first.
      const isBad = !isGood && !wasPolling && (fruitless || attempt > 2);
      const until = decision === 'next' ? NEVER : isBad && Date.now() + Math.max(retryAfter, maxReconnectInterval);
      if (until && moveOn(until)) {
        delay = 0;
      } else if (retryAfter > 0) {
        // Those who were turned away together do not come back together. Also not sooner when the page wakes up.
        delay += retryAfter;
        notBefore = performance.now() + retryAfter;
        fruitless = 0;
      }
      if (decision === 'next' && coolUntil[index] === NEVER) decision = 'fail';
    }
    if (decision === 'stop' || decision === 'fail' || !options.reconnect || attempt > options.maxReconnectAttempts) {
      end(decision === 'fail' || error ? 'failed' : 'disconnected');
      return;
    }
    // No byte for so long: more tries would not tell more.
    if (fruitless && reason === 'silent') fruitless = TRIES_BEFORE_POLLING;
    if (canPoll && fruitless >= TRIES_BEFORE_POLLING) {
      isPolling = true;
      fruitless = 0;
      probeAt = Date.now() + PROBE_EVERY;
    }
    wait(delay);
  }

  async function begin(): Promise<void> {
    const n = drop();
    controller = new AbortController();
    const { signal } = controller;
    pace.last = performance.now();
    isProbe = isPolling && Date.now() >= probeAt;
    const isPoll = isPolling && !isProbe;
    // Rounds of polling that works are no attempts.
    if (!info.connected) {
      attempt++;
      tell();
    }
    const time = isProbe ? PROBE_TIME : (options.connectTimeout || NEVER) + (isPolling ? pollingInterval : 0);
    if (n !== turn) return;
    arm(time, () => over(n, new SSEClientError('SSE_CLIENT_TIMEOUT', `after ${time} ms`)));

    let url: string | undefined;
    let response: Response | undefined;
    try {
      const context: SSEAttempt = { attempt, refresh: isRefreshing, lastEventId: host.cursor.id, signal };
      const [address, headers, pollingUrl] = await Promise.all(
        sources().map(async (value) => (typeof value === 'function' ? value(context) : value)),
      );
      if (n !== turn) return;
      const own = new Headers(headers as Readonly<Record<string, string>> | undefined);
      const streamUrl = hrefOf(address as string);
      const pollUrl = pollUrlOf(streamUrl, pollingUrl as string | undefined, pollingInterval);
      canPoll = options.fallbackToPolling && pollUrl !== undefined;
      url = isPoll ? pollUrl : streamUrl;
      const accept = isPoll ? 'application/json' : 'text/event-stream';
      if (!isPoll) fruitless++;
      pace.last = performance.now();
      response = await request(
        options,
        url as string,
        // Not exactly what EventSource asks for: servers hide statuses from that one.
        `${accept}, application/json;q=0.1`,
        host.cursor.id,
        own,
        signal,
      );
      if (n !== turn) return discard(response.body);
      const { status } = response;
      if (status !== 204) {
        const type = response.headers.get('content-type') ?? '';
        if (status !== 200 || type.split(/\s*[;,]/)[0]!.toLowerCase() !== accept) {
          arm(BODY_TIME, () => discard(reader));
          const body = await textOf(readerOf(response), BODY_START).catch(() => '');
          throw new SSEClientError(
            status === 200 ? 'SSE_CLIENT_CONTENT_TYPE' : 'SSE_CLIENT_STATUS',
            `${status} ${type}`,
            { status, body, retryable: /408|42[59]|5../.test(`${status}`) },
          );
        }
        if (isPoll) return await poll(n, response);
        await stream(n, response);
      }
      over(n, undefined, response);
    } catch (cause) {
      over(
        n,
        cause instanceof SSEClientError
          ? cause
          : new SSEClientError(url ? 'SSE_CLIENT_NETWORK' : 'SSE_CLIENT_CALLBACK', 'failed', { cause }),
        response,
      );
    }
  }

  function opened(transport: 'stream' | 'polling'): void {
    isRefreshing = isProbe = false;
    if (info.transport !== transport) {
      tell({ status: 'connected', reason: 'opened', transport, error: null });
    }
    const requested = host.cursor.id;
    // The server was not asked for what came after it. A handler may have called disconnect().
    if (info.connected && requested && !canSend(requested)) {
      host.block('gap', JSON.stringify({ reason: 'unknown', requested }), '');
    }
  }

  async function stream(n: number, response: Response): Promise<void> {
    const own = readerOf(response);
    const open = () => {
      isPolling = false;
      openedAt = lastByteAt = Date.now();
      watch(n);
      opened('stream');
    };
    // While polling, only a byte proves that the stream gets through.
    if (!isProbe) open();
    const parse = createParser(options.maxEventBytes, {
      block(type, text, id) {
        if (n === turn) host.block(type, text, id);
      },
      retry(delay) {
        base = delay;
      },
    });
    while (own && n === turn) {
      const { done, value } = await own.read();
      if (n !== turn || done) return;
      fruitless = 0;
      if (isProbe) open();
      lastByteAt = Date.now();
      parse(value);
      const held = n === turn && host.flush(value.length);
      if (held) {
        // Nobody reads: that is not the server's silence.
        arm(NEVER);
        await held;
        lastByteAt = Date.now();
        if (n === turn) watch(n);
      }
    }
  }

  /** The watchdog. Not a timer for each chunk: one that looks at the clock, and comes again when there was a byte. */
  function watch(n: number): void {
    const limit = interval ? interval + options.heartbeatTimeout : NEVER;
    // A clock that was set back is not the server's silence either.
    lastByteAt = Math.min(lastByteAt, Date.now());
    const left = lastByteAt + limit - Date.now();
    if (left > 0) arm(left, () => watch(n));
    else over(n, new SSEClientError('SSE_CLIENT_SILENT', `after ${limit} ms`));
  }

  async function poll(n: number, response: Response): Promise<void> {
    const sentAt = pace.last;
    const body = await textOf(readerOf(response), options.maxEventBytes * POLL_EVENTS);
    const blocks = readPoll(body);
    if (n !== turn) return;
    attempt = 1;
    arm(NEVER);
    opened('polling');
    for (const block of blocks) if (n === turn) host.block(...block);
    if (n === turn) await host.flush(new TextEncoder().encode(body).length);
    // Answers without events that come at once are of a server that does not wait.
    if (n === turn) wait(blocks.length > 1 ? 0 : sentAt + pollingInterval - performance.now());
  }

  return {
    start(reason = 'requested') {
      const isAgain = reason !== 'requested' || info.connected || info.reconnecting;
      drop();
      attempt = fruitless = 0;
      isPolling = isProbe = isRefreshing = false;
      coolUntil = [];
      // A page that is seen again comes no sooner than it may.
      if (info.reason !== 'hidden') notBefore = 0;
      info = idle(reason);
      wait(0, isAgain ? 'reconnecting' : 'connecting');
    },
    stop(reason) {
      drop();
      if (info.status !== 'disconnected') end('disconnected', { reason, error: null });
    },
    check() {
      if (Date.now() >= deadline) onDeadline?.();
      // Backed off or offline: now is better than later, unless the network has gone. Between two polls there is nothing to hurry.
      if (onDeadline === begin && !info.connected) wait(0, info.status);
    },
    learn(every) {
      interval = every && Math.max(every, SHORTEST_BEAT);
      if (openedAt) watch(turn);
    },
  };
}
