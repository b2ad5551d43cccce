// A stage for tests of clients in a browser: the real authority in development mode, a server for pages with an API that
// takes its tokens, somebody else's server, and Chromium.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type Page } from 'playwright-core';

/** Milliseconds; ample, for a slow machine. */
const PATIENCE = Number(process.env.PATIENCE ?? 60_000);
const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
const FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync'];
const ICON = '<link rel="icon" href="data:,">';

export interface Stage {
  issuer: string;
  /** What the authority wrote for scripts. */
  dev: { user: { username: string; password: string }; clients: Record<string, { client_id: string }> };
  /** Where the pages and their API are. */
  origin: string;
  /** Somebody else's server, which lets every page call it. */
  foreign: string;
  /** What came to the API and to somebody else, oldest first. */
  seen: Seen[];
  /** Opens a page that runs `script`, with `options` in its query. */
  open(script: string, options?: object): Promise<Page>;
  /** Moves the authority's clock. */
  advance(seconds: number): Promise<void>;
  /** The code of the newest text message. */
  code(): Promise<string>;
  stop(): Promise<void>;
}

export interface Seen {
  host: string;
  method: string;
  path: string;
  /** A hash of the bearer token; null without one. */
  token: string | null;
  cookie: boolean;
}

/**
 * Starts it all. `binary`: the authority's, by its place in the repository. `files`: what the pages load, by path.
 */
export async function startStage(root: string, files: Record<string, string>): Promise<Stage> {
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (const step of stops.splice(0).reverse()) await step();
  };
  try {
    const authority = await startAuthority(process.env.RESEAL_BIN ?? join(root, 'target/debug/reseal'));
    stops.push(authority.stop);
    const seen: Seen[] = [];
    const own = await listen(pagesAndApi(authority.issuer, files, seen));
    stops.push(own.stop);
    const foreign = await listen(elsewhere(seen));
    stops.push(foreign.stop);
    const browser = await chromium.launch({ ...(CHROMIUM ? { executablePath: CHROMIUM } : {}), args: FLAGS });
    stops.push(() => browser.close());
    return {
      issuer: authority.issuer,
      dev: authority.dev,
      origin: own.origin,
      foreign: foreign.origin,
      seen,
      open: (script, options = {}) =>
        open(browser, `${own.origin}/page/${script}`, { api: authority.issuer, ...options }),
      advance: async (seconds) => {
        const body = JSON.stringify({ advance: seconds });
        const answer = await fetch(`${authority.issuer}/dev/clock`, { method: 'POST', headers: JSON_TYPE, body });
        if (!answer.ok) throw new Error(`/dev/clock: ${answer.status}`);
      },
      code: async () => {
        const outbox = (await (await fetch(`${authority.issuer}/dev/outbox`)).json()) as { text: string }[];
        return /\b\d{6}\b/.exec(outbox.at(-1)?.text ?? '')?.[0] ?? '';
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** What somebody might make of a token to have it adopted: newer by all it says, and signed by nobody. */
export function forge(token: string, claims: object): string {
  const [header = '', payload = ''] = token.split('.');
  const said = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { iat: number; exp: number; rev: number };
  const now = { ...said, iat: said.iat + 100, exp: said.exp + 100, rev: said.rev + 100, ...claims };
  return `${header}.${Buffer.from(JSON.stringify(now)).toString('base64url')}.AA`;
}

/** The repository, seen from a bundled test under `packages/NAME/node_modules/.tests`. */
export const repository = (test: string) => fileURLToPath(new URL('../../../../', test));

/** A page in a browser context of its own, whose storage and cookies go with it. */
async function open(browser: Browser, url: string, options: object): Promise<Page> {
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  // The browser may be closing, too.
  page.on('close', () => void context.close().catch(() => {}));
  await page.goto(`${url}?options=${encodeURIComponent(JSON.stringify(options))}`);
  return page;
}

const JSON_TYPE = { 'content-type': 'application/json' };

function pagesAndApi(issuer: string, files: Record<string, string>, seen: Seen[]): Handler {
  return async (request, response) => {
    const path = new URL(request.url ?? '/', 'http://local').pathname;
    const reply = (status: number, body: unknown, headers: Record<string, string> = {}) =>
      response.writeHead(status, { ...JSON_TYPE, 'cache-control': 'no-store', ...headers }).end(JSON.stringify(body));
    const file = files[path];
    if (file !== undefined)
      return response.writeHead(200, { 'content-type': 'text/javascript; charset=utf-8' }).end(file);
    if (path.startsWith('/page/')) {
      const page = `<!doctype html><base href="/">${ICON}<body><script src="/${path.slice('/page/'.length)}"></script>`;
      return response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page);
    }
    note(seen, request, path);
    if (path === '/api/away') return response.writeHead(302, { location: query(request).get('to') ?? '/' }).end();
    if (path === '/template.html')
      return response.writeHead(200, { 'content-type': 'text/html' }).end('<p>{{1 + 1}}</p>');
    const authorization = request.headers.authorization ?? '';
    if (path === '/api/silent') return reply(401, REFUSAL);
    if (path === '/api/never') return reply(401, REFUSAL, { 'www-authenticate': 'Bearer error="invalid_token"' });
    if (path === '/api/forbidden') {
      return reply(403, { error: 'insufficient_scope' }, { 'www-authenticate': 'Bearer error="insufficient_scope"' });
    }
    if (authorization === '') return reply(401, { error: 'unauthorized' }, { 'www-authenticate': 'Bearer' });
    const asked = await fetch(`${issuer}/v1/me`, { headers: { authorization } });
    const me = (await asked.json()) as Record<string, unknown>;
    if (!asked.ok)
      return reply(asked.status, me, { 'www-authenticate': asked.headers.get('www-authenticate') ?? 'Bearer' });
    const renewed = path === '/api/sliding' ? await renew(issuer, authorization) : undefined;
    return reply(200, { ...me, body: await text(request) }, renewed ? { 'renewed-access-token': renewed } : {});
  };
}

const REFUSAL = { error: 'invalid_token', error_description: 'Never good enough.' };

/** As a middleware renews on the way: the new token, if it was time for one. */
async function renew(issuer: string, authorization: string): Promise<string | undefined> {
  const answer = await fetch(`${issuer}/v1/session/renew`, { method: 'POST', headers: { authorization } });
  return ((await answer.json()) as { access_token?: string }).access_token;
}

function elsewhere(seen: Seen[]): Handler {
  return (request, response) => {
    const headers = {
      'access-control-allow-origin': request.headers.origin ?? '*',
      'access-control-allow-credentials': 'true',
      'access-control-allow-headers': request.headers['access-control-request-headers'] ?? '*',
    };
    if (request.method === 'OPTIONS') return response.writeHead(204, headers).end();
    note(seen, request, new URL(request.url ?? '/', 'http://local').pathname);
    const planted = query(request).get('plant');
    if (planted)
      Object.assign(headers, {
        'renewed-access-token': planted,
        'access-control-expose-headers': 'renewed-access-token',
      });
    return response.writeHead(200, { ...headers, ...JSON_TYPE }).end('{}');
  };
}

const query = ({ url = '/' }: http.IncomingMessage) => new URL(url, 'http://local').searchParams;

function note(seen: Seen[], { headers, method = '' }: http.IncomingMessage, path: string): void {
  const { authorization, host = '', cookie } = headers;
  const token = authorization ? createHash('sha256').update(authorization).digest('hex') : null;
  seen.push({ host, method, path, token, cookie: cookie !== undefined });
}

async function text(request: http.IncomingMessage): Promise<string> {
  let all = '';
  for await (const chunk of request.setEncoding('utf8')) all += chunk;
  return all;
}

type Handler = (...exchange: Parameters<http.RequestListener>) => unknown;

async function listen(handler: Handler): Promise<{ origin: string; stop(): Promise<void> }> {
  const server = http.createServer(async (request, response) => {
    try {
      await handler(request, response);
    } catch {
      // The authority is gone, or who asked: at the end of a test both may be.
      response.destroy();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    async stop() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

async function startAuthority(binary: string): Promise<Pick<Stage, 'issuer' | 'dev' | 'stop'>> {
  const folder = await mkdtemp(join(tmpdir(), 'reseal-stage-'));
  const data = join(folder, 'data');
  const child = spawn(binary, ['serve', '--dev', '--listen', '127.0.0.1:0', '--data', data], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const gone = once(child, 'exit');
  const first = await Promise.race([
    once(createInterface({ input: child.stdout }), 'line'),
    gone.then(([code]) => Promise.reject(new Error(`the authority ended with ${code}`))),
  ]);
  return {
    issuer: String(first[0]).split(' ').at(-1) ?? '',
    dev: JSON.parse(await readFile(join(data, 'dev.json'), 'utf8')),
    async stop() {
      child.kill('SIGTERM');
      await gone;
      await rm(folder, { recursive: true, force: true });
    },
  };
}
