/**
 * Whatever happens to nodes, messages and clients: after a quiet time every living node sees exactly who is connected, and
 * has told each coming and going once, in turn.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Identity } from '../../../src/index.js';
import type { StrictSink } from '../../support/strict-sink.js';
import { Nodes, nameOf, type TestNode } from './nodes.js';

const USERS: readonly Identity[] = [
  { userId: 'alice' },
  { userId: 'bob' },
  { userId: 'alice', tenantId: 'acme' },
  { userId: 'carol', tenantId: 'acme' },
];

type Step =
  | { readonly what: 'connect'; readonly node: number; readonly user: number }
  | { readonly what: 'leave'; readonly which: number }
  | { readonly what: 'cut' | 'mend' | 'stop' | 'go' | 'kill' | 'lossy' | 'whole' | 'close'; readonly node: number }
  | { readonly what: 'add' }
  | { readonly what: 'pass'; readonly ms: number };

const node = fc.nat({ max: 5 });
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ what: fc.constant('connect' as const), node, user: fc.nat({ max: 3 }) }) },
    { weight: 4, arbitrary: fc.record({ what: fc.constant('leave' as const), which: fc.nat({ max: 30 }) }) },
    {
      weight: 3,
      arbitrary: fc.record({ what: fc.constantFrom('cut', 'mend', 'stop', 'go', 'lossy', 'whole'), node }),
    },
    { weight: 1, arbitrary: fc.record({ what: fc.constantFrom('kill', 'close'), node }) },
    { weight: 1, arbitrary: fc.constant({ what: 'add' as const }) },
    {
      weight: 5,
      arbitrary: fc.record({ what: fc.constant('pass' as const), ms: fc.constantFrom(20, 100, 700, 2_000, 5_000) }),
    },
  ),
  { minLength: 5, maxLength: 40 },
);

/** One run: nodes, and what a model of them knows. */
class Run {
  readonly nodes = new Nodes();
  readonly living = new Set<TestNode>();
  readonly stopped = new Set<TestNode>();
  readonly streams: { readonly node: TestNode; readonly sink: StrictSink; readonly name: string }[] = [];

  async add(): Promise<void> {
    if (this.living.size < 5) this.living.add(await this.nodes.add());
  }

  running(): TestNode[] {
    return [...this.living].filter((one) => !this.stopped.has(one));
  }

  async do(step: Step): Promise<void> {
    if (step.what === 'add') return this.add();
    if (step.what === 'pass') return this.nodes.pass(step.ms, this.running(), step.ms < 100 ? 20 : 100);
    if (step.what === 'leave') {
      const [stream] = this.streams.splice(step.which % Math.max(1, this.streams.length), 1);
      stream?.sink.close();
      return;
    }
    const target = [...this.living][step.node % this.living.size]!;
    const isStopped = this.stopped.has(target);
    switch (step.what) {
      case 'connect':
        // One whose bus is down cannot join, and ends: no stream.
        if (!isStopped && !target.port.isCut) this.#connect(target, USERS[step.user]!);
        return;
      case 'cut':
        target.port.isCut = true;
        return;
      case 'mend':
        target.port.isCut = false;
        return;
      case 'lossy': {
        let n = 0;
        target.port.loses = ({ key }) => key.startsWith('n:') && n++ % 2 === 0;
        return;
      }
      case 'whole':
        target.port.loses = () => false;
        return;
      case 'stop':
        target.port.isPaused = true;
        this.stopped.add(target);
        return;
      case 'go':
        this.#go(target);
        return;
      default:
        if (this.living.size === 1 || isStopped) return;
        this.living.delete(target);
        if (step.what === 'kill') this.nodes.kill(target);
        for (const stream of this.streams.filter((one) => one.node === target)) {
          this.streams.splice(this.streams.indexOf(stream), 1);
          if (step.what === 'close') stream.sink.close();
        }
        if (step.what === 'close') await target.broker.close({ timeoutMs: 20 });
    }
  }

  heal(): void {
    for (const one of this.living) {
      one.port.isCut = false;
      one.port.loses = () => false;
      this.#go(one);
    }
  }

  #connect(target: TestNode, identity: Identity): void {
    const { sink } = target.connect(identity);
    const name = nameOf({ userId: identity.userId!, tenantId: identity.tenantId });
    this.streams.push({ node: target, sink, name });
  }

  #go(target: TestNode): void {
    if (!this.stopped.delete(target)) return;
    // Its timers run first, over all the time that it missed; then it reads what has waited.
    const ahead = Math.max(...[...this.living].map(({ clock }) => clock.monotonic()));
    target.clock.advance(Math.max(0, ahead - target.clock.monotonic()));
    target.port.isPaused = false;
    target.port.flush();
  }
}

test('after a quiet time every node sees who is connected, and each was told in turn', async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (script) => {
      const run = new Run();
      await run.add();
      await run.add();
      for (const step of script) await run.do(step as Step);
      run.heal();
      await run.nodes.pass(9_000, [...run.living]);
      const expected = [...new Set(run.streams.map(({ name }) => name))].sort();
      for (const { users, told, broker, port, errors } of run.living) {
        expect(users()).toEqual(expected);
        for (const { userId, tenantId } of USERS) {
          const name = nameOf({ userId: userId!, tenantId });
          const streams = run.streams.filter((stream) => stream.name === name).length;
          const asked = tenantId === undefined ? broker.presence : broker.tenant(tenantId).presence;
          const own = asked.connections(userId!).filter((connection) => connection.tenantId === tenantId);
          expect(own).toHaveLength(streams);
          // Joined and left, in turn, beginning with joined and ending with how it is.
          const history = told.filter((one) => one.slice(1) === name).map((one) => one[0]);
          expect(history).toEqual(history.map((_, i) => (i % 2 === 0 ? '+' : '-')));
          expect(history.length % 2 === 1).toBe(streams > 0);
        }
        expect(broker.getClusterStats()).toMatchObject({
          totalNodes: run.living.size,
          totalClients: run.streams.length,
          totalUsers: expected.length,
        });
        expect(port.status().state).toBe('up');
        expect(errors).toEqual([]);
      }
      for (const { sink } of run.streams) sink.close();
      for (const { broker } of run.living) await broker.close({ timeoutMs: 20 });
    }),
    { numRuns: 60 },
  );
}, 60_000);
