// Holds the history file that it is told, until it is killed or told to let go. Waits for it as long as it is told, in ms.
import { SqliteBus } from 'sse-broker/sqlite';

const receiver = { deliver() {}, lost() {}, status() {}, error() {} };
const [file, lockTimeout = '5000'] = process.argv.slice(2);
const bus = new SqliteBus({ database: file, lockTimeout: Number(lockTimeout) });
await bus.start(receiver);
await bus.publish({ key: 't::a', event: 'e', data: 'of the holder', json: false, timestamp: 0, expiresAt: 0 });
process.once('message', async () => {
  await bus.close();
  process.disconnect();
});
process.send('holding');
