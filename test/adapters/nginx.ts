/** A real nginx in front of a server of ours, with nothing set but what a test names. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { TEST_CERTIFICATE, TEST_KEY } from '../support/certificate.js';
import { freePort, isListening } from '../support/port.js';
import { skipUnless } from '../support/skip.js';
import { until } from '../support/until.js';

const NGINX = process.env.NGINX ?? '/usr/sbin/nginx';

/** Lines of configuration, by where they stand. */
export interface NginxOptions {
  /** In `location /`, beside `proxy_pass`. */
  readonly location?: string;
  /** Serves HTTP/2 over TLS instead of HTTP/1.1. */
  readonly http2?: boolean;
}

/** Starts nginx on a port of its own, until the test ends; skips the test where there is none. Gives its URL. */
export async function startNginx(
  upstream: string,
  { location = '', http2 = false }: NginxOptions = {},
): Promise<string> {
  skipUnless(existsSync(NGINX), `no nginx at ${NGINX}; apt-get install nginx-light, or set NGINX`);
  const directory = await mkdtemp(path.join(tmpdir(), 'sse-broker-nginx-'));
  const port = await freePort();
  const file = (name: string) => path.join(directory, name);
  await writeFile(file('key.pem'), TEST_KEY.trimStart());
  await writeFile(file('cert.pem'), TEST_CERTIFICATE.trimStart());
  const tls = `ssl_certificate ${file('cert.pem')}; ssl_certificate_key ${file('key.pem')};`;
  await writeFile(
    file('nginx.conf'),
    `
daemon off;
worker_processes 1;
pid ${file('pid')};
error_log ${file('error.log')} info;
events {}
http {
  access_log off;
  client_body_temp_path ${file('body')};
  proxy_temp_path ${file('proxy')};
  fastcgi_temp_path ${file('fastcgi')};
  uwsgi_temp_path ${file('uwsgi')};
  scgi_temp_path ${file('scgi')};
  server {
    listen 127.0.0.1:${port}${http2 ? ' ssl http2' : ''};
    ${http2 ? tls : ''}
    location / {
      proxy_pass ${upstream};
      ${location}
    }
  }
}
`,
  );
  const nginx: ChildProcess = spawn(NGINX, ['-c', file('nginx.conf'), '-e', file('error.log')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let output = '';
  nginx.stderr!.on('data', (chunk) => {
    output += chunk;
  });
  const ended = new Promise((resolve) => nginx.once('close', resolve));
  onTestFinished(async () => {
    nginx.kill('SIGTERM');
    await ended;
    await rm(directory, { recursive: true, force: true });
  });
  await until(() => {
    if (nginx.exitCode !== null) throw new Error(`nginx ended with ${nginx.exitCode}: ${output}`);
    return isListening(port);
  }, 'nginx to listen');
  return `${http2 ? 'https' : 'http'}://127.0.0.1:${port}`;
}
