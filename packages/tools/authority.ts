// For tests of services: the real authority in development mode, with a client whose tokens are for us; a server around a
// listener.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, request as ask, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const BINARY = process.env.RESEAL_BIN ?? join(process.cwd(), 'target/debug/reseal');

/** The name of the service under test. */
export const AUDIENCE = 'https://notes.example';

interface Dev {
  issuer: string;
  user: { username: string; password: string };
  clients: Record<'sliding' | 'fixed' | 'refresh' | 'cookie', { client_id: string }> & {
    service: { client_id: string; client_secret: string };
  };
}

export interface Login {
  access_token: string;
  refresh_token?: string;
  session: { id: string; expires_at: number };
  cookie?: string;
}

export type Authority = Awaited<ReturnType<typeof startAuthority>>;

/** Starts an authority on a free port, or again on the folder and port of an earlier one. */
export async function startAuthority(earlier?: { folder: string; issuer: string }) {
  const folder = earlier?.folder ?? (await mkdtemp(join(tmpdir(), 'reseal-service-')));
  const data = join(folder, 'data');
  const listen = earlier ? new URL(earlier.issuer).host : '127.0.0.1:0';
  const child = spawn(BINARY, ['serve', '--dev', '--listen', listen, '--data', data], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const issuer = await firstLine(child);
  const dev = JSON.parse(await readFile(join(data, 'dev.json'), 'utf8')) as Dev;
  let ahead = 0;

  const call = async (method: string, path: string, more: { token?: string; body?: unknown } = {}) => {
    const headers: Record<string, string> = { 'content-type': 'application/json' };
    if (more.token) headers.authorization = `Bearer ${more.token}`;
    const body = more.body === undefined ? null : JSON.stringify(more.body);
    const answer = await fetch(issuer + path, { method, headers, body });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return { headers: answer.headers, body: (text === '' ? {} : JSON.parse(text)) as Record<string, unknown> };
  };
  const adminToken = async () => {
    const { client_id, client_secret } = dev.clients.service;
    const answer = await fetch(`${issuer}/oauth/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(`${client_id}:${client_secret}`).toString('base64')}` },
      body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'reseal:admin' }),
    });
    return ((await answer.json()) as { access_token: string }).access_token;
  };

  return {
    issuer,
    dev,
    folder,
    service: { id: dev.clients.service.client_id, secret: dev.clients.service.client_secret },
    call,
    /** A call to `/v1/admin`. */
    async admin(method: string, path: string, body?: unknown) {
      return (await call(method, `/v1/admin${path}`, { token: await adminToken(), body })).body;
    },
    /** The code of the newest text message. */
    async code() {
      const outbox = (await (await fetch(`${issuer}/dev/outbox`)).json()) as { text: string }[];
      return /\b\d{6}\b/.exec(outbox.at(-1)?.text ?? '')?.[0] as string;
    },
    /** Registers a client whose tokens are for us. */
    async client(policy: string, more: Record<string, unknown> = {}) {
      const claims = ['name', 'email', 'phone_number', 'phone_number_verified', 'roles'];
      const body = { name: policy, policy, audience: [AUDIENCE], scope: 'notes:read', claims, ...more };
      return (await this.admin('POST', '/clients', { origins: ['http://localhost:*'], ...body })).client_id as string;
    },
    /** Makes a user; gives his `sub`. */
    async user(username: string) {
      const { sub } = await this.admin('POST', '/users', { username, name: username, roles: ['reader'] });
      return sub as string;
    },
    /** Signs a user in as an administrator does who has authenticated him. */
    async login(client_id: string, sub: string, more: Record<string, unknown> = {}): Promise<Login> {
      const options = { token: await adminToken(), body: { client_id, amr: ['pwd'], ...more } };
      const { headers, body } = await call('POST', `/v1/admin/users/${sub}/sessions`, options);
      const cookie = headers.getSetCookie()[0]?.split(';')[0];
      return { ...(body as unknown as Login), ...(cookie !== undefined && { cookie }) };
    },
    /** Moves its clock forward. */
    async advance(seconds: number) {
      await call('POST', '/dev/clock', { body: { advance: seconds } });
      ahead += seconds;
    },
    /** Its clock, in milliseconds: for the `now` of a guard. */
    now: () => Date.now() + ahead * 1000,
    /** Ends it at once; its folder stays. */
    kill: () => end(child, 'SIGKILL'),
    async stop() {
      await end(child, 'SIGTERM');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (!child.stdout) throw new Error('no output');
  const lines = createInterface({ input: child.stdout });
  const line = await new Promise<string>((resolve, reject) => {
    lines.once('line', resolve);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the authority ended with ${code}`)));
  });
  return line.split(' ').at(-1) as string;
}

async function end(child: ChildProcess, signal: NodeJS.Signals) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill(signal);
  await gone;
}

export interface Reply {
  status: number;
  headers: import('node:http').IncomingHttpHeaders;
  text: string;
  /** The body, if it is JSON. */
  json: Record<string, unknown>;
}

export type Service = Awaited<ReturnType<typeof serve>>;

/** A server of this listener on a free port. */
export async function serve(listener: RequestListener) {
  const server: Server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    /** Sends a request with these headers as they are; a token goes into `Authorization`. */
    send(
      path: string,
      {
        method = 'GET',
        token,
        headers = {},
      }: { method?: string; token?: string; headers?: Record<string, string> } = {},
    ): Promise<Reply> {
      const all = token === undefined ? headers : { ...headers, Authorization: `Bearer ${token}` };
      return new Promise((resolve, reject) => {
        const request = ask({ host: '127.0.0.1', port, path, method, headers: all }, (answer) => {
          let text = '';
          answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
          answer.once('error', reject);
          answer.once('end', () => {
            const json = answer.headers['content-type']?.startsWith('application/json') ? JSON.parse(text || '{}') : {};
            resolve({ status: answer.statusCode as number, headers: answer.headers, text, json });
          });
        });
        request.once('error', reject);
        request.end();
      });
    },
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Waits until it is true; 20 s at most. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>) {
  for (const until = Date.now() + 20_000; ; await new Promise((resolve) => setTimeout(resolve, 10))) {
    if (await holds()) return;
    if (Date.now() > until) throw new Error(`never: ${what}`);
  }
}
