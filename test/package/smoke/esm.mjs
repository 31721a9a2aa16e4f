// node esm.mjs [every other entry]: the smoke suite on the ESM build.
import * as sse from 'sse-broker';
import { smoke } from './suite.mjs';

for (const specifier of process.argv.slice(2)) await import(specifier);
await smoke(sse);
