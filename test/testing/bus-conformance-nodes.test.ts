/** The suite for several nodes finds what it is there to find, and passes a bus that does it right. */
import { describe, expect, test } from 'vitest';
import type { BusEvent } from '../../src/index.js';
import { type BusFixture, type BusSetup, busNodesConformance } from '../../src/testing/index.js';
import { type HubPort, SharedHub } from '../support/shared-bus.js';
import { type Defects, testDefects } from './defects.js';

/** Names of the cases that a hub with that defect does not pass. */
async function failures(damage: (port: HubPort) => void): Promise<string[]> {
  const create = ({ historySize, clock }: BusSetup): BusFixture => {
    const hub = new SharedHub({ historySize, clock });
    const another = () => {
      const port = hub.port();
      damage(port);
      return port;
    };
    return { bus: another(), another };
  };
  const failed: string[] = [];
  for (const { name, run } of busNodesConformance({ create, timeoutMs: 150 })) {
    await run().catch(() => failed.push(name));
  }
  return failed;
}

test('a hub of this process passes every case', async () => {
  expect(await failures(() => {})).toEqual([]);
});

describe('a node that', () => {
  const ports: HubPort[] = [];
  const defects: Defects<(port: HubPort) => void> = {
    'does not say that its bus is shared': [
      /says so/,
      (port) => Object.defineProperty(port, 'isShared', { value: false }),
    ],
    'loses every tenth event': [
      /see the same order/,
      (port) => {
        port.loses = ({ sequence }) => sequence % 10 === 0;
      },
    ],
    'is told everything twice': [
      /see the same order/,
      (port) => {
        const arrive = port.arrive.bind(port);
        port.arrive = (event: BusEvent) => {
          arrive(event);
          arrive(event);
        };
      },
    ],
    'hears what is for another': [/arrives there alone/, (port) => port.joined.add('c::of-third')],
    'takes every cursor for an unknown one': [
      /a cursor of one node/,
      (port) => {
        const read = port.read.bind(port);
        port.read = (request) => read({ ...request, after: 'another' });
      },
    ],
    'takes with it what others have joined': [
      /a node that goes/,
      (port) => {
        ports.push(port);
        const close = port.close.bind(port);
        port.close = () => {
          for (const { joined } of ports) joined.clear();
          close();
        };
      },
    ],
  };
  testDefects(defects, failures, () => {
    const create = (): BusFixture => ({ bus: new SharedHub().port() });
    return busNodesConformance({ create }).map(({ name }) => name);
  });
});
