/** Brokers on one hub, with a clock of their own each, so that a node can be stopped while the others run. */
import { onTestFinished } from 'vitest';
import { Broker, type BrokerOptions, type Identity, type OnlineUser } from '../../../src/index.js';
import { ManualClock } from '../../support/manual-clock.js';
import { type HubPort, quiet, SharedHub } from '../../support/shared-bus.js';
import { StrictSink } from '../../support/strict-sink.js';

export interface TestNode {
  readonly broker: Broker;
  readonly port: HubPort;
  readonly clock: ManualClock;
  /** `+alice`, `-alice`: what its listeners were told, with the tenant as `acme/alice`. */
  readonly told: string[];
  /** `+name`, `-name reason` of other nodes. */
  readonly nodes: string[];
  readonly errors: string[];
  connect(identity?: Identity, topics?: readonly string[]): { readonly id: string; readonly sink: StrictSink };
  /** Users online as this node sees it, in order. */
  users(): string[];
}

export const nameOf = ({ userId, tenantId }: OnlineUser): string =>
  tenantId === undefined ? userId : `${tenantId}/${userId}`;

export class Nodes {
  readonly hub: SharedHub;
  readonly all: TestNode[] = [];
  readonly #options: BrokerOptions;

  constructor(options: BrokerOptions = {}) {
    this.hub = new SharedHub({ historySize: 100 });
    this.#options = { nodeTimeout: 3_000, presenceGrace: 1_000, nodeAnswerTimeout: 500, ...options };
  }

  /** One more node, started. */
  async add(options: BrokerOptions = {}): Promise<TestNode> {
    const node = this.make(options);
    await node.broker.start();
    await quiet();
    return node;
  }

  make(options: BrokerOptions = {}): TestNode {
    const port = this.hub.port();
    const clock = new ManualClock();
    const broker = new Broker({ bus: port, clock, nodeName: `n${this.all.length}`, ...this.#options, ...options });
    const told: string[] = [];
    const nodes: string[] = [];
    const errors: string[] = [];
    broker.on('userJoined', (user) => told.push(`+${nameOf(user)}`));
    broker.on('userLeft', (user) => told.push(`-${nameOf(user)}`));
    broker.on('nodeJoined', ({ name }) => nodes.push(`+${name}`));
    broker.on('nodeLeft', ({ name }, reason) => nodes.push(`-${name} ${reason}`));
    broker.on('error', ({ code }) => errors.push(code));
    onTestFinished(async () => {
      port.isPaused = false;
      await broker.close({ timeoutMs: 50 });
    });
    const node: TestNode = {
      broker,
      port,
      clock,
      told,
      nodes,
      errors,
      connect: (identity, topics) => {
        const sink = StrictSink.forTest();
        return { id: broker.connect({ sink, identity, topics }), sink };
      },
      users: () => [...broker.presence.users()].map(nameOf).sort(),
    };
    this.all.push(node);
    return node;
  }

  /** Lets `ms` pass on all nodes that run, in small steps, with everything that is sent meanwhile. */
  async pass(ms: number, running: readonly TestNode[] = this.all, step = 100): Promise<void> {
    for (let passed = 0; passed < ms; passed += step) {
      for (const { clock } of running) clock.advance(step);
      await quiet();
    }
  }

  /** Kills a node as `kill -9` does: nothing goes out, nothing comes in. */
  kill({ port }: TestNode): void {
    port.isCut = true;
    port.close();
  }
}
