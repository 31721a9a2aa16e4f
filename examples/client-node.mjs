// Follows a stream from Node and misses nothing, also over its own restarts: the last id is kept in a file.
//
//   npm install sse-broker
//   CURSOR=./cursor node examples/client-node.mjs 'http://localhost:3000/events?user_id=alice'
import { readFile, rename, writeFile } from 'node:fs/promises';
import { SSEClient } from 'sse-broker/client';

const [url] = process.argv.slice(2);
const file = process.env.CURSOR ?? './cursor';

const client = new SSEClient({
  url,
  // Called for each attempt: a token that has expired meanwhile would be refused.
  headers: () => (process.env.TOKEN ? { Authorization: `Bearer ${process.env.TOKEN}` } : {}),
  lastEventId: await readFile(file, 'utf8').catch(() => ''),
});
client.on('status', ({ status, reason, nextDelay }) => {
  console.error(`${status} (${reason})${nextDelay === null ? '' : `, next attempt in ${nextDelay} ms`}`);
});
client.on('gap', ({ reason }) => console.error(`events are missing: ${reason}`));

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => client.destroy());

client.connect();
// Ends with destroy(), and throws when the client gives up. While the body of the loop waits, events wait too.
for await (const { type, data, lastEventId } of client.events()) {
  console.log(type, JSON.stringify(data));
  // Behind the work: whoever dies in between does it again, and leaves nothing out.
  await writeFile(`${file}.new`, lastEventId);
  await rename(`${file}.new`, file);
}
