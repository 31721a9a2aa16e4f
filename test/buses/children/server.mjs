// A server that publishes until it is killed. Told { file, driver, log, first } it opens the history, says where it listens,
// and publishes numbers from `first` on; each number whose publish has resolved is in `log` before the next turn.
import fs from 'node:fs';
import http from 'node:http';
import { Broker, createHandler } from 'sse-broker';
import { SqliteBus } from 'sse-broker/sqlite';

process.once('message', async ({ file, driver, log, first, publishes }) => {
  const database = driver === undefined ? file : new (await import(driver)).default(file);
  const broker = new Broker({ bus: new SqliteBus({ database, historySize: 1_000_000 }), retry: 0 });
  const handler = createHandler(broker, { topicResolver: () => ['numbers'] });
  await broker.start();
  const server = http.createServer(handler).listen(0, '127.0.0.1', () => {
    process.send({ port: server.address().port });
    if (publishes) publish();
  });

  let next = first;
  async function publish() {
    const resolved = fs.openSync(log, 'a');
    for (;;) {
      const burst = Array.from({ length: 10 }, () => {
        const number = next++;
        return broker.sendToTopic('numbers', 'number', number).then(() => fs.writeSync(resolved, `${number}\n`));
      });
      await Promise.all(burst);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
});
process.send({ isReady: true });
