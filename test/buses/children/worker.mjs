// A thread that starts a bus of `module` on `file`, says how that went, and keeps what it has until it is told to let go.
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';

const { module, file } = workerData;
const { SqliteBus } = await import(pathToFileURL(module));
const bus = new SqliteBus({ database: file, lockTimeout: 0 });
const said = await bus.start({ deliver() {}, lost() {}, status() {}, error() {} }).then(
  () => ({ code: 'started' }),
  ({ code, message }) => ({ code, message }),
);
parentPort.once('message', async () => {
  await bus.close();
  parentPort.close();
});
parentPort.postMessage(said);
