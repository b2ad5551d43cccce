// The real authority, the example's app, and the real nginx and Caddy with the example's own configurations.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const EXAMPLE = fileURLToPath(new URL('../../examples/gateway/', import.meta.url));
const NGINX = process.env.NGINX_BIN ?? '/usr/sbin/nginx';
const NGINX_MODULES = process.env.NGINX_MODULES ?? '/usr/lib/nginx/modules';
const CADDY = process.env.CADDY_BIN ?? '/usr/bin/caddy';
const PATIENCE = 60_000;

/** Starts the example's app on a free port. */
export async function startApp(issuer) {
  const child = spawn(process.execPath, ['server.js'], { cwd: join(EXAMPLE, 'app'), env: { ...process.env, ISSUER: issuer, PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await firstOf(child, once(createInterface({ input: child.stdout }), 'line'));
  return { port: Number(new URL(line.split(' ').at(-1)).port), stop: () => end(child, 'SIGTERM') };
}

/** Starts a proxy in front of an app and an authority, on a free port. */
export async function startProxy(kind, ports) {
  for (let attempt = 1; ; attempt += 1) {
    const folder = await mkdtemp(join(tmpdir(), `reseal-${kind}-`));
    const port = await freePort();
    const { child, said } = await { nginx: startNginx, caddy: startCaddy }[kind](folder, { ...ports, gateway: port });
    const stop = async () => {
      await end(child, 'SIGTERM');
      await rm(folder, { recursive: true, force: true });
    };
    try {
      await firstOf(child, listening(port));
      return { kind, origin: `http://127.0.0.1:${port}`, said, stop };
    } catch (error) {
      await stop();
      // Somebody else may have taken the port meanwhile.
      if (attempt === 3) throw new Error(`${kind} does not start: ${error.message}\n${said()}`);
    }
  }
}

/** The example's file, with the ports of this test (or the authority's Unix socket) and the place of the module. */
async function startNginx(folder, { authority, app, gateway, demand }) {
  let text = await readFile(join(EXAMPLE, 'nginx.conf'), 'utf8');
  const replace = (what, by) => {
    assert.equal(text.split(what).length, 2, `${what} is in nginx.conf once`);
    text = text.replace(what, by);
  };
  replace('server 127.0.0.1:4000 ', `server ${/^\d+$/.test(authority) ? `127.0.0.1:${authority}` : `unix:${authority}`} `);
  replace('server 127.0.0.1:3000 ', `server 127.0.0.1:${app} `);
  replace('listen 127.0.0.1:8080;', `listen 127.0.0.1:${gateway};`);
  replace('load_module /usr/lib/nginx/modules/', `load_module ${NGINX_MODULES}/`);
  if (demand) replace('set $gateway_demand "";', `set $gateway_demand "${demand}";`);
  // Started as root, nginx works as another user, who must get in.
  await chmod(folder, 0o755);
  const file = join(folder, 'nginx.conf');
  await writeFile(file, text);
  return run(NGINX, ['-p', folder, '-c', file, '-e', 'stderr'], { cwd: folder });
}

/** The example's file as it is. */
async function startCaddy(folder, { authority, app, gateway }) {
  const env = { ...process.env, HOME: folder, XDG_CONFIG_HOME: join(folder, 'config'), XDG_DATA_HOME: join(folder, 'data'), AUTHORITY_PORT: `${authority}`, APP_PORT: `${app}`, GATEWAY_PORT: `${gateway}` };
  await mkdir(env.XDG_DATA_HOME);
  return run(CADDY, ['run', '--adapter', 'caddyfile', '--config', join(EXAMPLE, 'Caddyfile')], { cwd: folder, env });
}

function run(program, args, options) {
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      text = (text + data).slice(-20_000);
    });
  }
  return { child, said: () => text };
}

/** What is awaited, unless the child ends before. */
async function firstOf(child, awaited) {
  const stopped = new AbortController();
  const gone = Promise.race([
    once(child, 'exit', { signal: stopped.signal }).then(([code]) => Promise.reject(new Error(`it ended with ${code}`))),
    once(child, 'error', { signal: stopped.signal }).then(([error]) => Promise.reject(error)),
  ]);
  try {
    return await Promise.race([awaited, gone]);
  } finally {
    gone.catch(() => {});
    stopped.abort();
  }
}

async function end(child, signal) {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill(signal);
  const late = setTimeout(() => child.kill('SIGKILL'), 15_000);
  await gone;
  clearTimeout(late);
}

/** A port that nobody has at this moment. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Resolves when somebody listens there. */
export async function listening(port) {
  await until(`something listens on ${port}`, () => new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false)).once('close', () => socket.destroy());
    socket.once('connect', () => socket.destroy());
  }));
}

/** Asks again and again until it is so. */
export async function until(what, holds) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const answer = await holds();
    if (answer) return answer;
    assert.ok(Date.now() < deadline, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** One request as it is written here: the path is not tidied, and no header is added but Host. */
export function ask(origin, path, { method = 'GET', headers = {}, body, localAddress } = {}) {
  const url = new URL(origin);
  const { promise, resolve, reject } = deferred();
  const sent = httpRequest({ host: url.hostname, port: url.port, path, method, headers, localAddress, agent: false, timeout: PATIENCE }, async (answer) => {
    try {
      const parts = await answer.toArray();
      const text = Buffer.concat(parts).toString('utf8');
      resolve({ status: answer.statusCode, headers: answer.headers, text, json: () => JSON.parse(text) });
    } catch (error) {
      reject(error);
    }
  });
  // A handshake that should have been refused was not: whoever asked learns the status.
  sent.once('upgrade', (answer, socket) => {
    socket.destroy();
    resolve({ status: answer.statusCode, headers: answer.headers, text: '' });
  });
  sent.once('timeout', () => sent.destroy(new Error(`${method} ${path}: no answer`)));
  sent.once('error', reject);
  sent.end(body);
  return promise;
}

function deferred() {
  let resolve;
  let reject;
  const promise = new Promise((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** A browser without script: it keeps cookies, and says where a request comes from. */
export class Browser {
  cookies = new Map();

  constructor(origin) {
    this.origin = origin;
  }

  get cookie() {
    return [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  }

  async ask(path, { headers = {}, ...options } = {}) {
    const cookie = this.cookie ? { cookie: this.cookie } : {};
    const answer = await ask(this.origin, path, { ...options, headers: { ...cookie, ...headers } });
    for (const line of answer.headers['set-cookie'] ?? []) this.keep(line);
    return answer;
  }

  keep(line) {
    const [pair, ...attributes] = line.split(/;\s*/);
    const [name, value] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)];
    if (value === '' || attributes.some((a) => /^max-age=(0|-.*)$/i.test(a))) this.cookies.delete(name);
    else this.cookies.set(name, value);
  }

  /** Opens a page, as a person does; follows redirects. */
  async open(path) {
    const headers = { accept: 'text/html,application/xhtml+xml', 'sec-fetch-mode': 'navigate', 'sec-fetch-site': 'none', 'sec-fetch-dest': 'document' };
    return this.follow(path, await this.ask(path, { headers }));
  }

  /** Fills in the form that has these fields, and sends it; follows redirects. */
  async submit(page, fields) {
    const form = formWith(page.text, Object.keys(fields));
    const body = new URLSearchParams({ ...form.hidden, ...fields }).toString();
    const path = this.path(form.action, page.path);
    const headers = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body), accept: 'text/html', origin: this.origin, 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate' };
    return this.follow(path, await this.ask(path, { method: 'POST', headers, body }));
  }

  async follow(path, answer) {
    for (let hops = 0; [301, 302, 303].includes(answer.status); hops += 1) {
      assert.ok(hops < 8, `redirects without end: ${answer.headers.location}`);
      path = this.path(answer.headers.location, path);
      answer = await this.ask(path, { headers: { accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-site': 'same-origin' } });
    }
    return { ...answer, path };
  }

  /** The path and query of a link on a page of this very site. */
  path(link, page) {
    const url = new URL(link || page, new URL(page, this.origin));
    assert.equal(url.origin, this.origin, `${link} leads away`);
    return url.pathname + url.search;
  }

  /** A call that a script of the page makes. */
  call(method, path, json, headers = {}) {
    const body = json === undefined ? undefined : JSON.stringify(json);
    const type = body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    return this.ask(path, { method, body, headers: { origin: this.origin, 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors', accept: 'application/json', ...type, ...headers } });
  }

  async signIn({ username, password }, path = '/') {
    const page = await this.open(path);
    return this.submit(page, { username, password });
  }
}

/** The form that has these fields: where it goes, and what it carries along. */
function formWith(html, names) {
  const attribute = (tag, name) => unescape(new RegExp(`\\s${name}\\s*=\\s*("([^"]*)"|'([^']*)'|[^\\s>]+)`, 'i').exec(tag)?.slice(1).filter((v) => v !== undefined).at(-1) ?? '');
  for (const [, tag, inside] of html.matchAll(/(<form\b[^>]*>)([\s\S]*?)<\/form>/gi)) {
    const inputs = [...inside.matchAll(/<(?:input|button|select)\b[^>]*>/gi)].map(([input]) => ({ name: attribute(input, 'name'), value: attribute(input, 'value'), type: attribute(input, 'type') }));
    if (names.every((name) => inputs.some((input) => input.name === name))) {
      const hidden = Object.fromEntries(inputs.filter((input) => input.type === 'hidden').map(({ name, value }) => [name, value]));
      return { action: attribute(tag, 'action'), hidden };
    }
  }
  assert.fail(`no form with ${names.join(', ')} in:\n${html}`);
}

function unescape(text) {
  const named = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
  return text.replace(/&(?:#(\d+)|#x([0-9a-f]+)|(\w+));/gi, (all, ten, hex, name) => (ten ? String.fromCodePoint(Number(ten)) : hex ? String.fromCodePoint(Number.parseInt(hex, 16)) : (named[name] ?? all)));
}

/** What an administrator does, at the authority itself. */
export class Administrator {
  constructor({ issuer, dev }) {
    this.issuer = issuer;
    this.service = dev.clients.service;
  }

  async call(method, path, json) {
    const { client_id, client_secret } = this.service;
    const form = new URLSearchParams({ grant_type: 'client_credentials', client_id, client_secret, scope: 'reseal:admin' });
    const { access_token } = await (await fetch(`${this.issuer}/oauth/token`, { method: 'POST', body: form })).json();
    const answer = await fetch(this.issuer + path, {
      method,
      headers: { authorization: `Bearer ${access_token}`, ...(json && { 'content-type': 'application/json' }) },
      body: json && JSON.stringify(json),
    });
    assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
    return answer.status === 204 ? undefined : answer.json();
  }

  /** A new user with a password. */
  async createUser(username, more = {}) {
    const password = `correct horse ${username} staple`;
    const user = await this.call('POST', '/v1/admin/users', { username, password, name: `Name of ${username}`, ...more });
    return { ...user, username, password };
  }

  /** The code of the newest text message to a number. */
  async newestCode(number) {
    const all = await (await fetch(`${this.issuer}/dev/outbox`)).json();
    return all.filter((message) => message.to === number).at(-1).text.match(/\d{6}/)[0];
  }
}
