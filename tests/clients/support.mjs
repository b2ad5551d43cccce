// The whole world of one test file: the real authority behind a gate, a real Koa app, somebody else's site, and Chromium.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { test as plainTest } from 'node:test';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { startApp, startForeign } from './app.mjs';
import { PATIENCE, startGate, until } from './gate.mjs';

export { until };

const BINARY = process.env.RESEAL_BIN ?? fileURLToPath(new URL('../../target/debug/reseal', import.meta.url));
const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
const PASSWORD = 'correct horse battery staple';
const POLICIES = { sliding: 'web', fixed: 'remember', refresh: 'app', cookie: 'browser' };

/** A test that ends: what a page does has no timeout of its own. */
export const test = (name, work) =>
  plainTest(name, { timeout: 4 * PATIENCE * (process.env.RESEAL_LONG ? 10 : 1) }, work);

/** Rounds of what is done often: all of them with `RESEAL_LONG=1`. */
export const rounds = (short, long) => (process.env.RESEAL_LONG ? long : short);

/** Starts everything. */
export async function startWorld() {
  const stops = [];
  const stop = async () => {
    for (const step of stops.reverse()) await step();
  };
  try {
    const { issuer, service, end } = await startAuthority();
    stops.push(end);
    const gate = await startGate(issuer);
    stops.push(gate.stop);
    const foreign = await startForeign();
    stops.push(foreign.stop);
    const admin = administration(issuer, service);

    const port = await freePort();
    const clock = { ahead: 0 };
    const own = `http://127.0.0.1:${port}`;
    // The second one is the same app by another name: another site, yet one of the client's origins.
    const origins = [own, `http://localhost:${port}`];
    for (const [kind, policy] of Object.entries(POLICIES)) {
      const claims = ['name', 'email', 'phone_number', 'phone_number_verified', 'roles'];
      await admin('POST', '/v1/admin/clients', {
        client_id: kind + '-app',
        name: kind,
        policy,
        confidential: false,
        audience: [own],
        claims,
        origins,
        scope: 'notes:read',
      });
    }
    const app = await startApp({ port, issuer, service, origins, admin, now: () => Date.now() + clock.ahead * 1000 });
    stops.push(app.stop);
    const browser = await startBrowser();
    stops.push(() => browser.close());

    const world = { issuer, gate, app, foreign, admin, browser, stop };
    return Object.assign(world, {
      advance: async (seconds) => {
        await post(`${issuer}/dev/clock`, { advance: seconds });
        clock.ahead += seconds;
      },
      newUser: (record) => newUser(admin, record),
      /** A fresh profile of the browser, or of another one. */
      context: (options, another) => newContext({ ...world, browser: another ?? browser }, options),
      code: () => newestCode(issuer),
    });
  } catch (error) {
    await stop();
    throw error;
  }
}

export const startBrowser = (options) => chromium.launch({ executablePath: CHROMIUM, args: FLAGS, ...options });

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** One browser of one person: storage and cookies of its own. `open` gives a page with a session. */
async function newContext({ browser, gate, app }, options = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(PATIENCE);
  const address = (mode, more = {}) => {
    const { at = '/', api = gate.origin, ...rest } = more;
    const text = JSON.stringify({ api, clientId: `${mode}-app`, mode, ...rest });
    return `${app.origin}${at}?options=${encodeURIComponent(text)}`;
  };
  return {
    context,
    address,
    /** A page whose session has read its storage. `prepare(page)` comes before the page loads. */
    async open(mode, { prepare, ...more } = {}) {
      const page = await context.newPage();
      await prepare?.(page);
      await page.goto(address(mode, more));
      await page.evaluate(() => session.ready);
      return page;
    },
    close: () => context.close(),
  };
}

/** Logs in on the page; gives the session's id. */
export async function signIn(page, user) {
  const done = await page.evaluate((who) => outcome(() => session.login(who)), user.login);
  if (done.value?.status !== 'signed_in') throw new Error(`no login: ${JSON.stringify(done)}`);
  return page.evaluate(() => session.info.id);
}

/** Signed in as the page sees it. */
export const signedIn = (page) => page.evaluate(() => session.user !== null);

/** Waits until the page has heard of an event (with this detail). */
export const heard = (page, event, detail = {}) =>
  page.waitForFunction(
    ([event, detail]) =>
      heard.find(
        (h) =>
          h.event === event && Object.entries(detail).every(([k, v]) => JSON.stringify(h[k]) === JSON.stringify(v)),
      ),
    [event, detail],
    { timeout: PATIENCE, polling: 50 },
  );

/** What the page heard of one kind of event. */
export const events = (page, event) => page.evaluate((event) => heard.filter((h) => h.event === event), event);

/** Asks for a token until there is one: a client that was refused waits before it tries again. */
export const backAgain = (page) =>
  until(async () => (await page.evaluate(() => outcome(() => session.token()))).value, 'a good token');

/**
 * A device whose clock can be wrong and can be set: `Date` is off by `seconds`, while timers and `performance` go on as on
 * Linux, where they stand still in sleep. Later: `deviceClock(seconds)` in the page.
 */
export const wrongClock = (seconds) => (page) =>
  page.addInitScript((seconds) => {
    const Real = Date;
    let ahead = seconds * 1000;
    window.Date = class extends Real {
      constructor(...args) {
        if (args.length === 0) super(Real.now() + ahead);
        else super(...args);
      }
      static now() {
        return Real.now() + ahead;
      }
    };
    window.deviceClock = (by) => (ahead += by * 1000);
  }, seconds);

/** The row and timeline of a session. */
export const row = (world, id) => world.admin('GET', `/v1/admin/sessions/${id}`);

async function newUser(admin, record = {}) {
  const username = `user-${Math.random().toString(36).slice(2)}`;
  const { sub } = await admin('POST', '/v1/admin/users', { username, password: PASSWORD, name: 'Grace', ...record });
  return { sub, login: { username, password: PASSWORD } };
}

/** The administration API, with a token that is fetched anew when the clock has outrun it. */
function administration(issuer, { client_id, client_secret }) {
  let token;
  const ask = (method, path, body) =>
    fetch(issuer + path, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE),
    });
  const renew = async () => {
    const form = new URLSearchParams({
      grant_type: 'client_credentials',
      client_id,
      client_secret,
      scope: 'reseal:admin',
    });
    const answer = await fetch(`${issuer}/oauth/token`, {
      method: 'POST',
      body: form,
      signal: AbortSignal.timeout(PATIENCE),
    });
    token = (await answer.json()).access_token;
  };
  return async (method, path, body) => {
    let answer = token && (await ask(method, path, body));
    if (!answer || answer.status === 401) {
      await renew();
      answer = await ask(method, path, body);
    }
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.status === 204 ? undefined : answer.json();
  };
}

async function newestCode(issuer) {
  const messages = await (await fetch(`${issuer}/dev/outbox`)).json();
  return messages.at(-1).text.match(/\d{6}/)[0];
}

async function startAuthority() {
  const folder = await mkdtemp(join(tmpdir(), 'reseal-clients-'));
  const data = join(folder, 'data');
  const child = spawn(BINARY, ['serve', '--dev', '--listen', '127.0.0.1:0', '--data', data], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const gone = once(child, 'exit');
  const [first] = await Promise.race([
    once(createInterface({ input: child.stdout }), 'line'),
    gone.then(([code]) => Promise.reject(new Error(`the authority ended with ${code}`))),
  ]);
  const dev = JSON.parse(await readFile(join(data, 'dev.json'), 'utf8'));
  return {
    issuer: first.split(' ').at(-1),
    service: dev.clients.service,
    async end() {
      child.kill('SIGTERM');
      await gone;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function post(url, body) {
  const answer = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
}

/** A port that is free now; the app's address must be known before it starts. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
