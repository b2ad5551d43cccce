// The real authority in development mode, and pages that talk to it through Node's fetch.

import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Env } from '../src/env.js';
import { create } from '../src/session.js';
import type { Claims, Mode, Session, SessionOptions } from '../src/types.js';

// From where the tests are bundled to.
const BINARY = process.env.RESEAL_BIN ?? fileURLToPath(new URL('../../../../target/debug/reseal', import.meta.url));
const ORIGIN = 'http://localhost:3000';

export interface Authority {
  issuer: string;
  user: { username: string; password: string };
  /** Moves its clock, and that of the pages. */
  advance(seconds: number): Promise<void>;
  /** The code of the newest text message. */
  code(): Promise<string>;
  page(mode: Mode, options?: Partial<SessionOptions>, browser?: Browser): Page;
  stop(): Promise<void>;
}

export interface Page {
  session: Session<Claims>;
  events: string[];
  /** Requests on their way: replaced, to lose answers. */
  network: { fetch: typeof fetch };
}

/** What tabs of one browser share. */
export class Browser {
  cookie = '';
  readonly local = new Map<string, string>();
}

export async function startAuthority(): Promise<Authority> {
  const folder = await mkdtemp(join(tmpdir(), 'reseal-browser-'));
  const data = join(folder, 'data');
  const child = spawn(BINARY, ['serve', '--dev', '--listen', '127.0.0.1:0', '--data', data], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const first = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', resolve);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the authority ended with ${code}`)));
  });
  const issuer = first.split(' ').at(-1)!;
  const dev = JSON.parse(await readFile(join(data, 'dev.json'), 'utf8'));
  let offset = 0;
  const sessions: Session<Claims>[] = [];

  const page: Authority['page'] = (mode, options = {}, browser = new Browser()) => {
    const network = { fetch };
    const env = {
      fetch: async (url: string, init: RequestInit = {}) => {
        const headers = new Headers(init.headers);
        headers.set('origin', ORIGIN);
        if (init.credentials === 'include' && browser.cookie) headers.set('cookie', browser.cookie);
        const response = await network.fetch(url, { ...init, headers });
        for (const cookie of response.headers.getSetCookie()) {
          if (init.credentials === 'include') browser.cookie = /Max-Age=0/.test(cookie) ? '' : cookie.split(';')[0]!;
        }
        return response;
      },
      setTimeout,
      clearTimeout,
      Math,
      performance: { now: () => performance.now() + offset * 1000 },
      Date: { now: () => Date.now() + offset * 1000, parse: Date.parse },
      location: { href: ORIGIN + '/', origin: ORIGIN },
      localStorage: {
        getItem: (key: string) => browser.local.get(key) ?? null,
        setItem: (key: string, value: string) => void browser.local.set(key, value),
        removeItem: (key: string) => void browser.local.delete(key),
      },
    } as unknown as Env;
    const session = create<Claims>({ api: issuer, clientId: dev.clients[mode].client_id, mode, ...options }, env);
    sessions.push(session);
    const events: string[] = [];
    for (const name of ['signedin', 'claims', 'renewed', 'expiring'] as const)
      session.on(name, () => void events.push(name));
    session.on('signedout', ({ reason }) => void events.push(`signedout:${reason}`));
    return { session, events, network };
  };

  return {
    issuer,
    user: dev.user,
    page,
    async advance(seconds) {
      const init = {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ advance: seconds }),
      };
      const answer = await fetch(issuer + '/dev/clock', init);
      if (!answer.ok) throw new Error(await answer.text());
      offset += seconds;
    },
    async code() {
      const messages = (await (await fetch(issuer + '/dev/outbox')).json()) as { text: string }[];
      return /\d{6}/.exec(messages.at(-1)!.text)![0];
    },
    async stop() {
      for (const session of sessions) session.dispose();
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await gone;
      await rm(folder, { recursive: true, force: true });
    },
  };
}
