// Streams for those who are logged in: a JWT in a cookie for browsers, in a header for everything else.
//
//   npm install sse-broker jose
//   PORT=3000 TOKEN_SECONDS=60 node examples/jwt.mjs
import { randomBytes } from 'node:crypto';
import http from 'node:http';
import { SignJWT } from 'jose';
import { Broker, createHandler } from 'sse-broker';
import { jwtAuthenticator } from 'sse-broker/auth';

const secret = process.env.JWT_SECRET ?? randomBytes(32).toString('hex');
const lifetime = Number(process.env.TOKEN_SECONDS ?? 60);
const issuer = 'https://login.example';
const audience = 'events';

const broker = new Broker();
// Why a token was refused; the token itself is in no message.
broker.on('error', (error) => console.error(`${error.code}: ${error.message}`));

const events = createHandler(broker, {
  authenticator: jwtAuthenticator({
    secret,
    issuer,
    audience,
    requiredClaims: ['exp'],
    tokenFrom: ['header', { cookie: 'token' }],
  }),
  onConnect: ({ id, userId, identity }) =>
    broker.sendToClient(id, 'welcome', { userId, until: new Date(identity.expiresAt).toISOString() }),
});

// What a login page does when the password was right. This one believes everybody.
async function login(req, res) {
  let body = '';
  for await (const chunk of req.setEncoding('utf8')) body += chunk;
  const user = new URLSearchParams(body).get('user') ?? '';
  const token = await new SignJWT()
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(user)
    .setIssuer(issuer)
    .setAudience(audience)
    .setExpirationTime(`${lifetime} s`)
    .sign(new TextEncoder().encode(secret));
  // HttpOnly: no script can read it. SameSite: no other site can use it. Add Secure and the prefix __Host- behind HTTPS.
  res.writeHead(200, { 'Set-Cookie': `token=${token}; HttpOnly; SameSite=Strict; Path=/; Max-Age=${lifetime}` });
  res.end(token);
}

const page = `<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>JWT</title>
<button>Log in as alice</button> <pre></pre>
<script>
  const log = (text) => document.querySelector('pre').append(text + '\\n');
  document.querySelector('button').onclick = async () => {
    await fetch('/login', { method: 'POST', body: new URLSearchParams({ user: 'alice' }) });
    const source = new EventSource('/events'); // the cookie goes along by itself
    for (const name of ['welcome', 'tick', 'closing']) {
      source.addEventListener(name, (event) => log(name + ' ' + event.data));
    }
    // 401 closes an EventSource for good: the token has expired, log in again.
    source.onerror = () => source.readyState === EventSource.CLOSED && log('log in again');
  };
</script>`;

const server = http.createServer((req, res) => {
  if (req.url === '/events') events(req, res);
  else if (req.url === '/login' && req.method === 'POST') login(req, res).catch((error) => res.destroy(error));
  else res.setHeader('Content-Type', 'text/html').end(page);
});

const ticking = setInterval(() => broker.broadcast('tick', new Date().toISOString()), 1_000);

server.listen(Number(process.env.PORT ?? 3000), () => {
  const url = `http://localhost:${server.address().port}`;
  console.log(`${url}/ in a browser, or

  TOKEN=$(curl -s -d user=alice ${url}/login)
  curl -N -H "Authorization: Bearer $TOKEN" ${url}/events
  curl -N -b "token=$TOKEN" ${url}/events

A token lives for ${lifetime} s, and so do the streams that it opens. Ctrl+C ends.`);
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    clearInterval(ticking);
    server.close();
    await broker.close();
    server.closeAllConnections();
  });
}
