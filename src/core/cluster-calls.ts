/**
 * Questions to other nodes, and their answers: what reaches a client wherever it is.
 *
 * A question knows whom it waits for: the nodes that live when it is asked. It ends with the answer that settles it, when
 * all have answered or are gone, or at its deadline; a node that dies while it is asked holds up nobody for longer.
 */
import { type Answer, type ClusterCall, isForAll } from './cluster-message.js';
import { ERROR_CODES, type ErrorCode, SseError } from './errors.js';

/** What a node that was asked did: undefined where it has no such client. */
export type CallResult = boolean | number | undefined;

interface Question {
  readonly request: ClusterCall;
  /** Monotonic ms. */
  readonly deadline: number;
  readonly waitingFor: Set<string>;
  readonly resolve: (result: CallResult) => void;
  readonly reject: (error: unknown) => void;
  sum: number;
}

export class ClusterCalls {
  readonly #open = new Map<number, Question>();
  #lastId = 0;

  /** Questions that wait for answers. */
  get size(): number {
    return this.#open.size;
  }

  /**
   * Asks `nodeIds`; `send` puts the question on its way, and a rejection of it ends it. Counts of several nodes are added
   * up; for everything else the first node that has the client settles it.
   */
  ask(
    request: ClusterCall,
    nodeIds: readonly string[],
    deadline: number,
    send: (id: number) => Promise<void>,
  ): Promise<CallResult> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const question: Question = { request, deadline, waitingFor: new Set(nodeIds), resolve, reject, sum: 0 };
      this.#open.set(id, question);
      send(id).catch((error: unknown) => {
        if (this.#open.delete(id)) reject(error);
      });
    });
  }

  answered({ id, from, value, error }: Answer): void {
    const question = this.#open.get(id);
    if (question === undefined) return;
    if (error !== undefined) {
      this.#open.delete(id);
      question.reject(errorOf(error));
      return;
    }
    question.waitingFor.delete(from);
    if (value !== undefined && !isForAll(question.request)) {
      this.#open.delete(id);
      question.resolve(value);
      return;
    }
    question.sum += Number(value ?? 0);
    this.#settle(id, question);
  }

  /** A node is gone: nobody waits for it any more. */
  gone(nodeId: string): void {
    for (const [id, question] of this.#open) if (question.waitingFor.delete(nodeId)) this.#settle(id, question);
  }

  /** Ends what is due. */
  expire(now: number): void {
    for (const [id, { deadline, waitingFor, request, reject }] of this.#open) {
      if (deadline > now) continue;
      this.#open.delete(id);
      reject(unanswered(request, waitingFor.size));
    }
  }

  /** Ends everything: this node goes. */
  close(): void {
    for (const { reject } of this.#open.values()) {
      reject(new SseError('SSE_ERR_BROKER_CLOSED', 'the broker was closed before other nodes had answered'));
    }
    this.#open.clear();
  }

  #settle(id: number, { request, waitingFor, sum, resolve }: Question): void {
    if (waitingFor.size > 0) return;
    this.#open.delete(id);
    resolve(isForAll(request) ? sum : undefined);
  }
}

function unanswered({ call }: ClusterCall, nodes: number): SseError {
  return new SseError(
    'SSE_ERR_CLUSTER_TIMEOUT',
    `${nodes} of the other nodes did not answer '${call}' in time; it may have been carried out there`,
  );
}

/** An error of another node, as it would be thrown here. */
function errorOf({ code, message }: { readonly code: string; readonly message: string }): SseError {
  return new SseError(Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'SSE_ERR_INTERNAL', message);
}
