/** Cases of the bus conformance suite: the carrier loses the history of a namespace, and another begins. */
import assert from 'node:assert/strict';
import type { ReadResult } from '../core/bus.js';
import { isSseError } from '../core/errors.js';
import { A, type Add, assertGrowing, B, dataOf, QUIET } from './bus-case.js';
import type { Recorder } from './bus-recorder.js';

/** What a node was told, as far as it matters here. */
const told = ({ losses }: Recorder) => losses.map(({ reason, keys, head }) => [reason, keys, head?.epoch]);

/** A bus that has just lost everything may need a moment to find its feet, and says so. */
async function answered<T>(node: Recorder, question: () => T | Promise<T>): Promise<T> {
  const deadline = Date.now() + node.timeoutMs;
  for (;;) {
    try {
      return await question();
    } catch (error) {
      if (!(isSseError(error) && error.retryable) || Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

export function addEpochs(add: Add, shared: boolean): void {
  add('epoch: every head names it, and it lasts as long as the history', {}, async (node) => {
    const { epoch } = await node.bus.head();
    assert.equal(typeof epoch, 'string');
    const [id] = await node.publish(A, '1');
    assert.equal((await node.read([A], id!)).head.epoch, epoch);
    assert.equal((await node.bus.head()).epoch, epoch);
  });

  for (const question of ['read', 'head'] as const) {
    add(
      `epoch: ${question} is answered out of another history only when that was told`,
      {},
      async (node, { fixture }) => {
        await node.publish(A, 'old');
        await node.delivered(1, A);
        const before = await node.bus.head();
        await fixture.loseHistory!();
        let page: ReadResult | undefined;
        if (question === 'read') page = await answered(node, () => node.read([A, B], before.id));
        // Out of what a node has in memory: it has not noticed, and says nothing else.
        if (page !== undefined && page.head.epoch === before.epoch) {
          assert.deepEqual([page.loss, node.losses], [undefined, []]);
          page = undefined;
        }
        const head = page?.head ?? (await answered(node, () => node.bus.head()));
        assert.notEqual(head.epoch, before.epoch);
        assert.deepEqual(told(node), [['epoch', undefined, head.epoch]], 'told before it was answered');
        const { events, loss, head: at } = page ?? (await node.read([A, B], before.id));
        assert.deepEqual([events, loss, at.epoch], [[], 'epoch', head.epoch]);
        // From here on it goes as with the first one.
        const [id] = await node.publish(B, 'new');
        await node.delivered(1, B);
        assert.deepEqual(dataOf(node.events), ['old', 'new']);
        assertGrowing(node.of(B));
        assert.equal((await node.read([A, B], head.id)).loss, undefined);
        assert.deepEqual((await node.read([A, B], id!)).head.epoch, head.epoch);
        assert.equal(node.losses.length, 1, 'told once');
      },
    );
  }

  if (!shared) return;
  add(
    'epoch: a node that learns late tells it before anything of the new history',
    {},
    async (node, { fixture, start }) => {
      const other = await start(await fixture.another!(), A, QUIET);
      await node.publish(A, 'old');
      await other.delivered(1, A);
      await fixture.loseHistory!();
      const { epoch } = await answered(node, () => node.bus.head());
      await node.publish(A, 'new 1', 'new 2');
      await other.eventually(() => other.losses.length > 0, 'the loss to be told');
      await node.publish(A, 'end');
      await other.eventually(() => other.dataOf(A).includes('end'), 'what came after it');
      assert.deepEqual(told(other), [['epoch', undefined, epoch]]);
      const first = other.events.findIndex(({ data }) => data !== 'old');
      assert.equal(other.losses[0]!.before, first, 'before the first event of it');
    },
  );
}
