/**
 * One stream for all tabs of a name. Whoever holds the Web Lock leads: it has the engine, and hands every block on over a
 * BroadcastChannel. The others follow, and wait for the lock.
 *
 * Why nothing is lost and nothing comes twice:
 *
 * - A tab's place in the stream is its own cursor. Blocks come to a follower in the order in which the leader got them, and
 *   from one leader at a time.
 * - A leader that closes or crashes has posted a block or has not. What it posted reaches every tab before the lock is
 *   given to the next one, as a rule, so the next leader's cursor is that of all; what it had not posted is after that
 *   cursor, and comes again from the server. A tab that is ahead of the new leader all the same, because the new one was
 *   busy, leaves out by id what it has. So nobody has to find the oldest cursor, which opaque ids would not allow.
 * - A leader that stands still keeps its lock. Followers ask for a sign of life when they have heard nothing for a while;
 *   after two questions without an answer one of them takes the lock away. (Two, because the answer to the first may wait
 *   behind the timer of a follower that stood still itself.) All follow the new leader only: what the old one still posts
 *   when it thaws is not heard, and it finds its lock gone and joins again from its cursor.
 * - A tab that joins with a cursor, after a page load or out of the back/forward cache, or that hears of a leader it was
 *   not told about, says where it is and gets what it missed out of the last blocks that the leader remembers. Where that
 *   does not reach back, it is told a gap.
 *
 * Addresses, headers and token functions are each tab's own. A leader that was refused for good leaves; the next tab tries
 * with its own.
 */
import { BEAT, MOST_BLOCKS, MOST_TEXT } from './constants.js';
import type { Cursor } from './cursor.js';
import type { Engine, EngineHost } from './engine-contract.js';
import { SSEClientError } from './errors.js';
import type { Block } from './poll.js';
import { changed, idle } from './status.js';
import type { SSEStatusInfo } from './types.js';
import { type Locks, web } from './web.js';

/** What tabs say to each other. Each is one of: a question, an answer or announcement (`info`), blocks, a wish. */
interface Message {
  /** Who says it. Others of this origin may use a channel of this name, but hardly this word. */
  readonly sseTab: string;
  /** For one tab only. */
  readonly to?: string | undefined;
  /** Where the asker is; null where it only wants a sign of life. */
  readonly ask?: string | null;
  /** The stream is to be opened anew. */
  readonly again?: boolean;
  readonly info?: SSEStatusInfo;
  readonly cursor?: string;
  /** Where the asker was, and what it missed after that; null where that is not remembered. */
  readonly at?: string | null | undefined;
  readonly missed?: readonly Block[] | null;
  readonly blocks?: readonly Block[];
}

/** What tabs need to share; undefined where it is missing. */
export function locksFor(name: string): Locks | undefined {
  try {
    // Forbidden to pages of no origin.
    new web.BroadcastChannel!(name).close();
    return web.navigator!.locks;
  } catch {}
}

/** An {@link Engine} for a whole group. `create` makes the one that is used while this tab leads. */
export function createGroup(
  name: string,
  cursor: Cursor,
  host: EngineHost,
  create: (host: EngineHost) => Engine,
): Engine {
  const id = `${Math.random()}`;
  let info = idle();
  /** Set while this tab is in the group. */
  let channel: InstanceType<NonNullable<typeof web.BroadcastChannel>> | undefined;
  /** Set while this tab leads: gives the lock back. */
  let release: (() => void) | undefined;
  /** Whom this tab follows; empty until its answer is here. */
  let leader = '';
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** Aborted when the wait for the lock, or the lock, is no longer this tab's affair. */
  let claim: AbortController | undefined;
  /** Beats since the leader was heard; in the first of them nothing is asked yet. */
  let silence = 0;
  /** The leader did not know this tab's cursor when it was last asked. */
  let isUnknown = false;

  let recent: Block[] = [];
  let recentText = 0;
  let batch: Block[] = [];

  const engine = create({
    ...host,
    block(...block) {
      batch.push(block);
      deliver(block);
    },
    flush(bytes) {
      post();
      // A slow loop of this tab does not hold back the others.
      host.flush(bytes);
      return undefined;
    },
    status(next) {
      // What an engine says that was just told to stop is of no interest.
      if (!release) return;
      tell(next);
      // Refused for good: perhaps another tab has a better token. Ended for good, or told to stay away: that is meant for all.
      if (next.status !== 'failed') state();
      if (/fail|dis/.test(next.status)) leave();
    },
  });

  const send = (message: Omit<Message, 'sseTab'>) => channel?.postMessage({ sseTab: id, ...message });
  const ask = () => send({ ask: leader ? null : cursor.id });

  function tell(changes: Partial<SSEStatusInfo>): void {
    info = changed(info, changes);
    host.status(info);
  }

  function state(to?: string, at?: string | null): void {
    const { error } = info;
    // A clone of an error would keep neither its class nor its code.
    send({
      to,
      at,
      missed: since(at),
      cursor: cursor.id,
      info: { ...info, error: error && { ...error, message: error.message } },
    });
  }

  function post(): void {
    if (batch.length) send({ blocks: batch });
    batch = [];
  }

  function deliver(block: Block): void {
    recent.push(block);
    recentText += block[1]?.length ?? 0;
    while (recent.length > MOST_BLOCKS || recentText > MOST_TEXT) recentText -= recent.shift()![1]?.length ?? 0;
    host.block(...block);
  }

  /** What came after `from`; null where nobody remembers. */
  function since(from?: string | null): readonly Block[] | null {
    // A tab that begins here begins now.
    if (!from || from === cursor.id) return [];
    const index = recent.map(([, , blockId]) => blockId).lastIndexOf(from);
    return index < 0 ? null : recent.slice(index + 1);
  }

  function hear(message: Message): void {
    const { sseTab: from, to, at, missed, blocks } = message;
    if (release) {
      if (message.ask !== undefined) {
        post();
        state(from, message.ask);
      }
      if (message.again) engine.start();
      return;
    }
    if (to && to !== id) return;
    if (from === leader || message.info) silence = -1;
    if (message.info) {
      if (at != null) {
        // It asked more than once, and an earlier answer has brought it further.
        if (at !== cursor.id) return;
        // A leader that has just begun may be behind this tab for a moment: it is asked again before that is a gap. One that
        // is not connected yet does not know where it will be.
        isUnknown = !missed && !(isUnknown && message.info.connected);
        if (!isUnknown) {
          leader = from;
          // Not remembered: told as a server tells it.
          const gap = JSON.stringify({ reason: 'evicted', requested: at, resumedFrom: message.cursor });
          take(missed ?? [['gap', gap, message.cursor]]);
          if (!at) take([['', undefined, message.cursor]]);
        } else if (message.info.connected) return;
      } else if (from !== leader) {
        // Just announced: all that the last leader posted is here. Otherwise it was announced while this tab stood still.
        leader = leader && !to ? from : '';
        if (!leader) return void ask();
      }
      const { error, transport } = message.info;
      tell({
        ...message.info,
        transport: transport && 'shared',
        error: error && new SSEClientError(error.code, error.message, error),
      });
      if (info.status === 'disconnected') leave();
    } else if (from === leader && blocks) take(blocks);
  }

  function take(blocks: readonly Block[]): void {
    // A handler may leave.
    for (const block of blocks) if (channel) deliver(block);
    host.flush(0);
  }

  function beat(): void {
    clearTimeout(timer);
    if (release || !channel) return;
    timer = setTimeout(beat, BEAT * (1 + Math.random() / 2));
    if (++silence > 2) {
      silence = 0;
      lead(true);
    } else if (silence > 0) ask();
  }

  /** Leads as soon as nobody else does, or at once. */
  function lead(steal: boolean): void {
    claim?.abort();
    claim = new AbortController();
    const { signal } = claim;
    const start = () => {
      // All follow from here on, before the first block.
      state();
      engine.start(leader ? 'handed-over' : 'requested');
    };
    web
      .navigator!.locks!.request(name, steal ? { steal } : { signal }, () =>
        signal.aborted
          ? undefined
          : new Promise<void>((resolve) => {
              release = resolve;
              if (!recent[0]) recent.push(['', undefined, cursor.id]);
              start();
            }),
      )
      .catch(() => {
        if (signal.aborted) return;
        if (release) {
          // Taken away: this tab stood still.
          leave();
          engine.stop('handed-over');
          join();
        } else {
          // Locks are forbidden here.
          release = () => {};
          start();
        }
      });
  }

  function join(): void {
    channel = new web.BroadcastChannel!(name);
    channel.onmessage = ({ data }) => {
      if ((data as Message | null)?.sseTab) hear(data as Message);
    };
    leader = '';
    silence = 0;
    isUnknown = false;
    beat();
    lead(false);
  }

  /** Out of the group; whoever waits for the lock gets it. */
  function leave(): void {
    post();
    claim?.abort();
    channel?.close();
    channel = undefined;
    recent = [];
    recentText = 0;
    release?.();
    release = undefined;
    beat();
  }

  return {
    ...engine,
    start(reason = 'requested') {
      if (release) engine.start(reason);
      else if (channel) send({ again: true });
      else {
        join();
        tell({ ...idle(reason), status: 'connecting' });
      }
    },
    stop(reason) {
      leave();
      engine.stop(reason);
      if (info.status !== 'disconnected') tell(idle(reason));
    },
  };
}
