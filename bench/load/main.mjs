/**
 * The load client: a process that opens connections, reads event streams, and checks everything that arrives.
 */
import { nowMicros } from '../shared/clock.mjs';
import { answer } from '../shared/ipc.mjs';
import { startAcks } from './acks.mjs';
import { Fleet } from './fleet.mjs';

/** @type {Fleet | null} */
let current = null;
let markedAt = 0;
let deliveredAtMark = 0;
let readsAtMark = 0;
let cpuAtMark = process.cpuUsage();
/** @type {() => void} */
let stopAcks = () => {};

function fleet() {
  if (current === null) throw new Error('connect first');
  return current;
}

function report() {
  const { tally } = fleet();
  const cpu = process.cpuUsage(cpuAtMark);
  const micros = nowMicros() - markedAt;
  return {
    deliveries: tally.delivered - deliveredAtMark,
    reads: tally.reads - readsAtMark,
    seconds: micros / 1e6,
    latency: tally.latency.summary(),
    faults: tally.faults(),
    otherEvents: Object.fromEntries(tally.otherEvents),
    notes: tally.notes,
    /** Share of one core; near 1 the load client is what was measured. */
    load: (cpu.user + cpu.system) / micros,
  };
}

answer({
  async connect({ plan, ackPort }) {
    current = new Fleet(plan);
    const began = nowMicros();
    await current.connect();
    if (ackPort !== undefined) stopAcks = await startAcks(ackPort, current);
    const open = current.steady.filter((connection) => connection.state === 'open').length;
    return { open, stalled: current.stalled.length, seconds: (nowMicros() - began) / 1e6 };
  },
  /** What is reported starts here: warm-up is over. Faults are kept. */
  mark() {
    const { tally } = fleet();
    tally.latency.reset();
    deliveredAtMark = tally.delivered;
    readsAtMark = tally.reads;
    cpuAtMark = process.cpuUsage();
    markedAt = nowMicros();
  },
  async drain({ published, patienceMs }) {
    await fleet().drain(published, patienceMs);
    return report();
  },
  async churn({ plan }) {
    return await fleet().churn(plan);
  },
  report,
  async stall({ count }) {
    await fleet().stall(count);
  },
  leaveStalled() {
    fleet().leaveStalled();
  },
  leave() {
    stopAcks();
    fleet().leave();
  },
});
