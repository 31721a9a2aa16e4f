// node commonjs.cjs [every other entry]: the smoke suite on the CommonJS build.
const sse = require('sse-broker');

for (const specifier of process.argv.slice(2)) require(specifier);
import('./suite.mjs').then(({ smoke }) => smoke(sse));
