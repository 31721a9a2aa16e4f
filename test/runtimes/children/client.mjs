// Runs one scenario on this runtime, and ends by itself: client.mjs <scenario> <url of the server>
import { scenarios } from './scenarios.mjs';

const [name, url] = process.argv.slice(2);
const unhandled = [];
process.on('unhandledRejection', (error) => unhandled.push(String(error)));
const saw = await scenarios[name](url);
console.log(JSON.stringify({ ...saw, unhandled }));
