// An untouched app behind the real nginx and the real Caddy, with the example's configurations.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, mkdtemp } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startAuthority } from '../browser/support.mjs';
import { Administrator, ask, Browser, freePort, listening, startApp, startProxy, until } from './support.mjs';

const { WebSocket } = createRequire(new URL('../../examples/gateway/app/', import.meta.url))('ws');
const OURS = 'reseal';
const EVIL = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' };

let authority;
let app;
let admin;
let authorityPort;

before(async () => {
  authority = await startAuthority();
  authorityPort = new URL(authority.issuer).port;
  admin = new Administrator(authority);
  app = await startApp(authority.issuer);
});

after(async () => {
  await app?.stop();
  await authority?.stop();
});

/** Headers as the app got them, by name in lower case. */
function received(answer) {
  const raw = answer.json();
  const found = new Map();
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i].toLowerCase();
    found.set(name, [...(found.get(name) ?? []), raw[i + 1]]);
  }
  return found;
}

const payload = (bearer) => JSON.parse(Buffer.from(bearer.split('.')[1], 'base64url').toString('utf8'));

/** Opens a WebSocket; resolves with the socket, or with the status of the refusal. */
function openSocket(origin, headers) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(`${origin.replace('http', 'ws')}/ws`, { headers, handshakeTimeout: 30_000 });
    const greeting = new Promise((heard) => ws.once('message', (data) => heard(String(data))));
    ws.once('open', () => resolve({ ws, greeting }));
    ws.once('unexpected-response', (_, answer) => {
      answer.resume();
      resolve({ status: answer.statusCode });
      ws.terminate();
    });
    ws.once('error', reject);
  });
}

/** Tries to log in at the origin from another address of this machine; the answer. */
function logIn(origin, { dev }, { from, password = dev.user.password, headers = {} }) {
  const body = JSON.stringify({ client_id: dev.clients.cookie.client_id, username: dev.user.username, password });
  const own = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), origin, 'sec-fetch-site': 'same-origin' };
  return ask(origin, '/v1/session', { method: 'POST', body, localAddress: from, headers: { ...own, ...headers } });
}

/** The address that the authority noted for the session of a login. */
async function addressOf(origin, login) {
  assert.equal(login.status, 201, login.text);
  const [cookie] = login.headers['set-cookie'][0].split(';');
  const { items } = (await ask(origin, '/v1/sessions', { headers: { cookie } })).json();
  return items.find(({ current }) => current).ip;
}

const LIES = { 'X-Forwarded-For': '198.51.100.7', 'x-forwarded-for': '198.51.100.8, 127.0.0.1', Forwarded: 'for=198.51.100.9', 'X-Real-IP': '198.51.100.10', X_Forwarded_For: '198.51.100.11' };

for (const kind of ['nginx', 'caddy']) {
  describe(kind, () => {
    let proxy;
    const browser = () => new Browser(proxy.origin);
    const signedIn = async (name, more) => {
      const user = await admin.createUser(`${kind}-${name}`, more);
      const visitor = browser();
      const page = await visitor.signIn(user);
      assert.equal(page.status, 200, page.text);
      assert.equal(page.headers['x-served-by'], 'app');
      return { visitor, user };
    };

    before(async () => {
      proxy = await startProxy(kind, { authority: authorityPort, app: app.port });
    });
    after(() => proxy?.stop());

    test('who is not signed in is sent to sign in when he opens a page, and refused when a script asks', async () => {
      const target = '/some/page?x=1&y=%26&z=a+b%20c';
      for (const headers of [{ 'sec-fetch-mode': 'navigate', accept: '*/*' }, { accept: 'text/html,*/*;q=0.8' }]) {
        const page = await ask(proxy.origin, target, { headers });
        assert.equal(page.status, 302);
        const url = new URL(page.headers.location, proxy.origin);
        assert.equal(url.origin, proxy.origin);
        assert.equal(url.pathname, '/login');
        assert.equal(url.searchParams.get('return_to'), target);
        assert.equal(page.headers['x-served-by'], undefined);
        assert.equal(page.headers['cache-control'], 'no-store');
      }
      const scripts = [
        { headers: { accept: 'application/json', 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'same-origin' } },
        { headers: { accept: 'text/html', 'sec-fetch-mode': 'cors' } },
        { headers: {} },
        { method: 'POST', headers: { accept: 'text/html', 'sec-fetch-mode': 'navigate', origin: proxy.origin, 'content-length': '3' }, body: 'x=y' },
      ];
      for (const options of scripts) {
        const call = await ask(proxy.origin, '/api/me', options);
        assert.equal(call.status, 401, JSON.stringify(options));
        assert.equal(call.json().error, 'unauthorized');
        assert.equal(call.headers['www-authenticate'], 'Bearer');
        assert.equal(call.headers['cache-control'], 'no-store');
        assert.equal(call.headers.authorization, undefined);
        assert.equal(call.headers['x-served-by'], undefined);
      }
    });

    test('after the sign-in page the app sees the claims, by plain koa-jwt', async () => {
      const user = await admin.createUser(`${kind}-claims`, { email: `${kind}@example.com`, roles: ['editor', 'a,b'] });
      const visitor = browser();
      const login = await visitor.open('/api/me?back=here&more=1');
      assert.match(login.headers['content-type'], /^text\/html/);
      const wrong = await visitor.submit(login, { username: user.username, password: 'wrong' });
      assert.notEqual(wrong.headers['x-served-by'], 'app');
      const page = await visitor.submit(wrong, { username: user.username, password: user.password });
      assert.equal(page.path, '/api/me?back=here&more=1', 'back to where he was going');
      const claims = page.json();
      assert.equal(claims.sub, user.sub);
      assert.equal(claims.name, user.name);
      assert.equal(claims.email, `${kind}@example.com`);
      assert.deepEqual(claims.roles, ['a,b', 'editor']);
      assert.equal(claims.iss, authority.issuer);
      assert.equal(claims.acr, 'aal1');

      const headers = received(await visitor.call('GET', '/api/headers'));
      assert.deepEqual(headers.get('x-auth-subject'), [user.sub]);
      assert.deepEqual(headers.get('x-auth-session'), [claims.sid]);
      assert.deepEqual(headers.get('x-auth-acr'), ['aal1']);
      assert.deepEqual(headers.get('x-auth-name'), [user.name]);
      assert.deepEqual(headers.get('x-auth-email'), [`${kind}@example.com`]);
      assert.deepEqual(headers.get('x-auth-roles'), ['a%2Cb,editor']);
    });

    test('a phone number is in the claims of the very next request, and from then on a code is asked for', async () => {
      const { visitor, user } = await signedIn('phone');
      assert.equal((await visitor.call('GET', '/api/me')).json().phone_number, null);
      const number = `+49151${kind === 'nginx' ? '12345678' : '87654321'}`;
      const begun = await visitor.call('POST', '/v1/me/phone', { phone_number: number });
      assert.equal(begun.status, 202, begun.text);
      const done = await visitor.call('POST', '/v1/me/phone/verify', { challenge: begun.json().challenge, code: await admin.newestCode(number) });
      assert.equal(done.status, 200, done.text);
      assert.equal(done.json().access_token, undefined, 'the browser holds no token');
      const claims = (await visitor.call('GET', '/api/me')).json();
      assert.equal(claims.phone_number, number);
      assert.equal(claims.phone_number_verified, true);
      assert.equal(claims.acr, 'aal2');

      const again = browser();
      const second = await again.signIn(user, '/api/me');
      assert.notEqual(second.headers['x-served-by'], 'app');
      assert.equal((await again.call('GET', '/api/me')).status, 401, 'a password alone is not enough');
      const page = await again.submit(second, { code: await admin.newestCode(number) });
      assert.equal(page.path, '/api/me');
      const stronger = page.json();
      assert.equal(stronger.phone_number, number);
      assert.equal(stronger.acr, 'aal2');
      for (const method of ['pwd', 'sms', 'mfa']) assert.ok(stronger.amr.includes(method), `${stronger.amr}`);
    });

    test('what only the proxy may say never comes from outside', async () => {
      const { visitor, user } = await signedIn('smuggler');
      const smuggled = {
        Authorization: 'Bearer forged',
        'X-Auth-Subject': 'root',
        'x-auth-roles': 'admin',
        'X-AUTH-Name': 'Root',
        'x-auth-email': 'root@example.com',
        'x-auth-anything': 'x',
        'X-Original-Method': 'GET',
        'X-Original-Uri': '/evil',
        'X-Original-Upgrade': 'x',
        'X-Forwarded-Method': 'GET',
        'X-Forwarded-Uri': '/evil',
        'X-Forwarded-User': 'root',
        Forwarded: 'for=1.2.3.4',
        X_Auth_Subject: 'root',
        'X-Auth_Subject': 'root',
        x_original_method: 'GET',
      };
      const headers = received(await visitor.call('GET', '/api/headers', undefined, smuggled));
      const [bearer] = headers.get('authorization');
      assert.equal(payload(bearer).sub, user.sub);
      assert.deepEqual(headers.get('x-auth-subject'), [user.sub]);
      assert.deepEqual(headers.get('x-auth-name'), [user.name]);
      // This user has no e-mail address and no role: then the app gets no such header, or an empty one.
      for (const name of ['x-auth-email', 'x-auth-roles']) assert.equal((headers.get(name) ?? []).join(''), '', name);
      const known = ['x-auth-subject', 'x-auth-session', 'x-auth-acr', 'x-auth-name', 'x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-auth-email', 'x-auth-roles'];
      for (const name of headers.keys()) assert.ok(known.includes(name) || !/^(x[-_](auth|original|forwarded)|forwarded)/.test(name), `${name} came through`);
      assert.deepEqual(headers.get('x-forwarded-for'), ['127.0.0.1']);

      // None of it makes a change look like reading, and none of it signs anybody in.
      for (const name of ['X-Original-Method', 'X-Forwarded-Method', 'x_original_method', 'X-HTTP-Method-Override']) {
        const cross = await visitor.call('POST', '/api/notes', { a: 1 }, { ...EVIL, [name]: 'GET' });
        assert.equal(cross.status, 403, name);
      }
      for (const path of ['/api/me', '/v1/me']) {
        const stranger = await ask(proxy.origin, path, { headers: { ...smuggled, Authorization: bearer } });
        assert.equal(stranger.status, 401, `${path}: a stolen token alone opens nothing from outside`);
      }
      // Naming headers as hop-by-hop takes none away that protects.
      const hop = { connection: 'close, Authorization, X-Auth-Subject, X-Original-Method, X-Forwarded-Method, Origin, Sec-Fetch-Site, Cookie' };
      assert.ok([401, 403].includes((await visitor.call('POST', '/api/notes', { a: 1 }, { ...EVIL, ...hop })).status));
      const own = await visitor.call('GET', '/api/headers', undefined, { connection: 'close, Authorization, X-Auth-Subject' });
      assert.equal(own.status, 200, 'nor any that says who it is');
      assert.equal(payload(received(own).get('authorization')[0]).sub, user.sub);
      assert.deepEqual(received(own).get('x-auth-subject'), [user.sub]);
    });

    test('a change must come from a page of the app', async () => {
      const { visitor, user } = await signedIn('origin');
      const length = { 'content-length': '4', 'content-type': 'text/plain' };
      const post = (headers) => visitor.ask('/api/notes', { method: 'POST', body: 'note', headers: { ...length, ...headers } });
      for (const refused of [EVIL, { origin: 'https://evil.example' }, { 'sec-fetch-site': 'same-site' }, { origin: 'null' }, {}]) {
        const answer = await post(refused);
        assert.equal(answer.status, 403, JSON.stringify(refused));
        assert.equal(answer.json().error, 'cross_site_request');
        assert.equal(answer.headers['x-served-by'], undefined, 'the app never saw it');
        assert.equal(answer.headers['set-cookie'], undefined);
      }
      for (const allowed of [{ origin: proxy.origin }, { 'sec-fetch-site': 'same-origin' }]) {
        const answer = await post(allowed);
        assert.equal(answer.status, 201, answer.text);
        assert.deepEqual(answer.json(), { by: user.sub, text: 'note' }, 'with its whole body');
      }
      for (const method of ['PUT', 'PATCH', 'DELETE', 'PROPFIND']) assert.equal((await visitor.ask('/api/notes', { method, headers: EVIL })).status, 403, method);
      assert.equal((await visitor.ask('/api/me', { headers: { 'sec-fetch-site': 'cross-site' } })).status, 200, 'a link from elsewhere opens');
      assert.equal((await visitor.ask('/v1/me', { method: 'PATCH', body: '{"name":"x"}', headers: { 'content-type': 'application/json', 'content-length': '12', ...EVIL } })).status, 403);
    });

    test('a large body reaches the app and not the authority', async () => {
      const { visitor } = await signedIn('body');
      // More than the authority takes, and than the app does: it is the app that says so.
      const body = 'x'.repeat(200_000);
      const answer = await visitor.ask('/api/notes', { method: 'POST', body, headers: { origin: proxy.origin, 'content-length': body.length } });
      assert.equal(answer.status, 413);
      assert.equal(answer.headers['x-served-by'], 'app');
    });

    test("the session cookie never reaches the app, and the app's own cookies do", async () => {
      const { visitor } = await signedIn('cookies');
      const cookie = `${OURS}=${visitor.cookies.get(OURS)}`;
      const planted = '__Host-reseal=planted';
      const cases = [
        [cookie, undefined],
        [`${cookie}; a=1`, 'a=1'],
        [`a=1; ${cookie}`, 'a=1'],
        [`a=1; ${cookie}; b=2`, 'a=1; b=2'],
        [`a=1;${cookie};b=2`, 'a=1;b=2'],
        [`${planted}; a=1; ${cookie}; b=2; ${planted}`, 'a=1; b=2'],
        [`a=1; ${planted}; ${planted}; ${cookie}`, 'a=1'],
        [`x__Host-reseal=1; reseal2=2; xreseal=3; ${cookie}; __Host-reseal2=4; __host-reseal=5; a=reseal=6`, 'x__Host-reseal=1; reseal2=2; xreseal=3; __Host-reseal2=4; __host-reseal=5; a=reseal=6'],
        [`a="b c"; ${cookie}; empty=; =x; bare`, 'a="b c"; empty=; =x; bare'],
      ];
      for (const [sent, kept] of cases) {
        const answer = await ask(proxy.origin, '/api/headers', { headers: { cookie: sent } });
        assert.equal(answer.status, 200, sent);
        assert.equal(received(answer).get('cookie')?.join('; '), kept, sent);
      }
      // As many as a header holds, several headers, odd spaces: whatever arrives, ours is not in it.
      const odd = [[cookie, ...Array(100).fill(planted), 'a=1'].join('; '), [`a=1`, cookie, planted], [`b=1;;;\t ${cookie} ; c=2`], `${cookie};${';'.repeat(6000)}a=1`, `${cookie}; a=${' '.repeat(6000)}1`];
      for (const sent of odd) {
        const answer = await ask(proxy.origin, '/api/headers', { headers: { cookie: sent } });
        assert.equal(answer.status, 200, answer.text);
        const got = (received(answer).get('cookie') ?? []).join('; ');
        assert.ok(!got.includes('planted') && !got.includes(visitor.cookies.get(OURS)), got);
      }
      // Given twice, it counts as absent.
      assert.equal((await ask(proxy.origin, '/api/me', { headers: { cookie: `${cookie}; ${cookie}` } })).status, 401);
    });

    test('a renewed cookie travels beside those of the app', async () => {
      const { visitor } = await signedIn('renewed');
      assert.deepEqual((await visitor.call('GET', '/api/headers')).headers['set-cookie'], ['theme=dark; path=/; httponly'], 'before the half-life there is nothing to renew');
      const before = (await visitor.call('GET', '/v1/session')).json().session ?? (await visitor.call('GET', '/v1/session')).json();
      const moved = await fetch(`${authority.issuer}/dev/clock`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ advance: 8 * 86_400 }) });
      assert.equal(moved.status, 200);
      // The app's library goes by the clock of this machine, and takes no token from the future for old.
      for (const [path, status] of [['/api/headers', 200], ['/nowhere', 404]]) {
        if (status === 404) await fetch(`${authority.issuer}/dev/clock`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ advance: 8 * 86_400 }) });
        const answer = await visitor.call('GET', path);
        assert.equal(answer.status, status, path);
        const names = answer.headers['set-cookie'].map((line) => line.split('=')[0]);
        assert.deepEqual(names.sort(), status === 200 ? [OURS, 'theme'] : [OURS], path);
      }
      const now = (await visitor.call('GET', '/v1/session')).json();
      assert.ok((now.session ?? now).idle_expires_at > before.idle_expires_at);
    });

    test('WebSockets work, and only from pages of the app', async () => {
      const { visitor, user } = await signedIn('socket');
      const headers = { cookie: visitor.cookie, origin: proxy.origin };
      const { ws, greeting, status } = await openSocket(proxy.origin, headers);
      assert.equal(status, undefined);
      assert.equal(await greeting, `hello ${user.name}`);
      const echo = new Promise((resolve) => ws.once('message', (data) => resolve(String(data))));
      ws.send('round and back');
      assert.equal(await echo, 'round and back');
      ws.terminate();
      assert.equal((await openSocket(proxy.origin, { cookie: visitor.cookie, origin: 'https://evil.example' })).status, 403);
      assert.equal((await openSocket(proxy.origin, { cookie: visitor.cookie })).status, 403, 'without an origin');
      assert.equal((await openSocket(proxy.origin, { cookie: visitor.cookie, origin: 'https://evil.example', 'X-Original-Upgrade': '', 'X-Original-Method': 'GET' })).status, 403);
      assert.equal((await openSocket(proxy.origin, { origin: proxy.origin })).status, 401, 'not signed in');
    });

    test('nothing else of the authority can be reached, however the path is written', async () => {
      const { visitor, user } = await signedIn('paths');
      const paths = [
        '/gateway/verify', '/gateway/verify/', '/gateway/verify?x', '/gateway//verify', '/gateway/./verify', '/gateway/%76erify', '/gateway', '/gateway/', '/Gateway/verify', '/gateway/assets/../verify',
        '/gateway/assets/..%2fverify', '/gateway/assets/%2e%2e/verify', '/gateway/internal/verify', '//gateway/verify', '/login/../gateway/verify', '/login/..%2fgateway%2fverify',
        '/v1/admin/users', '/v1/admin/clients', '//v1/admin/users', '/v1//admin/users', '/v1/..%2fv1/admin/users', '/v1/%61dmin/users', '/V1/admin/users', '/v1/session/../admin/users', '/v1/me/..%2fadmin%2fusers', '/v1/me/%2e%2e/admin/users',
        '/v1/sessions/..%2f..%2fmetrics', '/v1/sessions/..%2Fadmin%2Fusers', '/v1/sessions/x/../../admin/users', '/v1/sessions/..', '/v1/feed', '/v1/feed/', '/v1/session%2f..%2ffeed', '/v1/me;/../feed', '/v1/me%00', '/v1/me%0a', '/v1/me/', '/v1/me/phone%2fverify/..%2f..%2f..%2ffeed',
        '/dev/outbox', '/dev/config.json', '/dev/clock', '/%64ev/outbox', '//dev/outbox', '/dev%2foutbox', '/metrics', '/metrics/', '/health/live', '/health/ready', '/openapi.json', '/jwks.json', '/.well-known/oauth-authorization-server',
        '/oauth/token', '/oauth/introspect', '/oauth/revoke', '/login/../oauth/token', '/logout/../metrics', '/login%2f..%2fmetrics', '/login/%2e%2e/metrics', '/login\\..\\metrics', '/login?/../metrics', '/page.css',
      ];
      // The app answers; or the proxy; or the authority that it knows no such path. Strangers may be told to sign in.
      const judge = (answer, where, knocks) => {
        assert.equal(answer.headers.authorization, undefined, where);
        assert.equal(answer.headers['x-auth-subject'], undefined, where);
        if (answer.headers['x-served-by'] === 'app' || (knocks && answer.status === 401)) return;
        assert.ok([400, 404].includes(answer.status), where);
        if (answer.headers['content-type']?.startsWith('application/json')) assert.equal(answer.json().error, 'not_found', where);
      };
      for (const path of paths) {
        for (const visit of [visitor, browser()]) {
          const answer = await visit.ask(path, { headers: { accept: 'application/json' } });
          const where = `${path}: ${answer.status} ${answer.text.slice(0, 200)}`;
          if (path.startsWith('/login?')) assert.ok(answer.status === 303 ? answer.headers.location === '/' : /<form/.test(answer.text), where);
          else judge(answer, where, visit !== visitor);
        }
      }
      for (const path of ['/oauth/token', '/dev/clock', '/v1/admin/users', '/v1/sessions/..%2fadmin%2fusers', '/oauth/introspect']) {
        const answer = await visitor.call('POST', path, { advance: 1 });
        judge(answer, `${path}: ${answer.status} ${answer.text}`, false);
      }
      // What begins like the gateway's own is not even asked about.
      for (const path of ['/gateway', '/gateway/', '/gateway/verify', '/gateway//verify', '//gateway/verify', '/gateway/%76erify', '/gateway/internal/verify']) {
        const answer = await visitor.ask(path);
        assert.equal(answer.status, 404, path);
        assert.equal(answer.headers['x-served-by'], undefined, path);
      }
      // What the proxy reads is what the authority gets. (Caddy leaves needless escapes as they are; the authority knows none.)
      for (const path of ['/v1//me', '/v1/./me', '/v1/session/../me', ...(kind === 'nginx' ? ['/v1/%6de'] : [])]) {
        const answer = await visitor.call('GET', path);
        assert.equal(answer.status, 200, path);
        assert.equal(answer.json().sub, user.sub, path);
      }
      // And what is meant for the front end can be.
      for (const path of ['/v1/me', '/v1/session', '/v1/sessions', '/login', '/logout']) assert.notEqual((await visitor.call('GET', path)).headers['x-served-by'], 'app', path);
      assert.equal((await visitor.call('GET', '/v1/me')).status, 200);
      const [{ id }] = (await visitor.call('GET', '/v1/sessions')).json().items;
      assert.equal((await visitor.call('DELETE', `/v1/sessions/${id}`)).status, 204);
      assert.equal((await visitor.call('GET', '/api/me')).status, 401);
    });

    test('signing out ends it, and the next request is refused', async () => {
      const { visitor } = await signedIn('out');
      const cookie = visitor.cookie;
      const page = await visitor.open('/logout');
      assert.match(page.headers['content-type'], /^text\/html/);
      assert.equal((await visitor.call('GET', '/api/me')).status, 200, 'looking at the page ends nothing');
      const cross = await visitor.ask('/logout', { method: 'POST', headers: { ...EVIL, 'content-length': '0', 'content-type': 'application/x-www-form-urlencoded' } });
      assert.equal(cross.status, 403);
      assert.equal((await visitor.call('GET', '/api/me')).status, 200);
      await visitor.submit(page, {});
      assert.equal(visitor.cookies.has(OURS), false, 'the cookie is gone');
      const call = await ask(proxy.origin, '/api/me', { headers: { cookie } });
      assert.equal(call.status, 401);
      assert.equal(call.json().reason, 'signed_out');
      assert.equal((await ask(proxy.origin, '/', { headers: { cookie, accept: 'text/html' } })).status, 302);
    });

    test('a client has the address that the proxy saw, whatever it says itself', async () => {
      const config = '[server]\ntrusted_proxies = ["127.0.0.1"]\n[login]\nburst_per_address = 3\n';
      const trusting = await startAuthority({ config });
      const front = await startProxy(kind, { authority: new URL(trusting.issuer).port, app: app.port });
      try {
        assert.equal(await addressOf(front.origin, await logIn(front.origin, trusting, { from: '127.0.0.9' })), '127.0.0.9');
        assert.equal(await addressOf(front.origin, await logIn(front.origin, trusting, { from: '127.0.0.10', headers: LIES })), '127.0.0.10');
        // Who is no proxy is not believed.
        assert.equal(await addressOf(front.origin, await logIn(trusting.issuer, trusting, { from: '127.0.0.11', headers: LIES })), '127.0.0.11');
        // One who guesses passwords is stopped, and nobody else behind the same proxy.
        const guess = (from, n) => logIn(front.origin, trusting, { from, password: 'wrong', headers: { 'X-Forwarded-For': `198.51.100.${n}`, Forwarded: `for=198.51.100.${n}` } });
        const seen = [];
        for (let n = 0; n < 6; n += 1) seen.push((await guess('127.0.0.12', n)).status);
        assert.deepEqual(seen.slice(0, 3), [401, 401, 401]);
        assert.equal(seen.at(-1), 429, seen);
        assert.equal((await guess('127.0.0.13', 1)).status, 401);
      } finally {
        await front.stop();
        await trusting.stop();
      }
    });

    test('a proxy that is not trusted is the client itself', async () => {
      assert.equal(await addressOf(proxy.origin, await logIn(proxy.origin, authority, { from: '127.0.0.9', headers: LIES })), '127.0.0.1');
    });

    if (kind === 'nginx') {
      test('the authority behind a Unix socket', async () => {
        const folder = await mkdtemp(join(tmpdir(), 'reseal-unix-'));
        // nginx works as another user.
        await chmod(folder, 0o755);
        const socket = join(folder, 'reseal.sock');
        const config = '[server]\ntrusted_proxies = ["unix"]\nsocket_mode = "0666"\n';
        const hidden = await startAuthority({ folder, listen: ['127.0.0.1:0', `unix:${socket}`], config });
        const front = await startProxy(kind, { authority: socket, app: app.port });
        try {
          assert.equal(await addressOf(front.origin, await logIn(front.origin, hidden, { from: '127.0.0.9', headers: LIES })), '127.0.0.9');
          // Over TCP nobody is trusted, this machine included.
          assert.equal(await addressOf(front.origin, await logIn(hidden.issuer, hidden, { from: '127.0.0.1', headers: LIES })), '127.0.0.1');
        } finally {
          await front.stop();
          await hidden.stop();
        }
      });
    }

    test('a session that an administrator ends is refused at the next request', async () => {
      const { visitor } = await signedIn('ended');
      const { sid } = (await visitor.call('GET', '/api/me')).json();
      await admin.call('DELETE', `/v1/admin/sessions/${sid}`);
      const call = await visitor.call('GET', '/api/me');
      assert.equal(call.status, 401);
      assert.equal(call.json().reason, 'revoked');
    });

    test('no query of the user is taken for a demand of the proxy', async () => {
      const { visitor, user } = await signedIn('query');
      for (const query of ['acr=aal2&max_age=0&client_id=nobody', 'nonsense&acr=x', '?', '%00']) {
        const call = await visitor.call('GET', `/api/me?${query}`);
        assert.equal(call.status, 200, query);
        assert.equal(call.json().sub, user.sub);
      }
    });

    test('a changed role is in the claims of the next request', async () => {
      const { visitor, user } = await signedIn('role', { roles: ['admin'] });
      assert.deepEqual((await visitor.call('GET', '/api/me')).json().roles, ['admin']);
      await admin.call('PATCH', `/v1/admin/users/${user.sub}`, { roles: [] });
      assert.deepEqual((await visitor.call('GET', '/api/me')).json().roles, []);
    });

    test('who has as many roles as a record holds is let in with all of them', async () => {
      const roles = Array.from({ length: 64 }, (_, i) => `${String(i).padStart(2, '0')}-${'r'.repeat(61)}`);
      const { visitor } = await signedIn('roles', { roles });
      assert.deepEqual((await visitor.call('GET', '/api/me')).json().roles, roles);
    });

    test('whatever answers in the place of the authority, without a token nothing reaches the app', async () => {
      let says = [];
      const other = createServer((_, answer) => answer.writeHead(...says).end()).listen(0, '127.0.0.1');
      await once(other, 'listening');
      const front = await startProxy(kind, { authority: other.address().port, app: app.port });
      try {
        for (const said of [[200], [204], [206], [200, { 'X-Auth-Subject': 'root' }], [200, { Authorization: 'Basic x' }], [302, { Location: '/' }], [400], [404], [429], [500]]) {
          says = said;
          for (const accept of ['application/json', 'text/html']) {
            const answer = await ask(front.origin, '/api/me', { headers: { accept, cookie: `${OURS}=x` } });
            assert.ok([502, 503].includes(answer.status), `${said}: ${answer.status}`);
            assert.equal(answer.headers['x-served-by'], undefined);
          }
        }
        says = [401];
        assert.equal((await ask(front.origin, '/', { headers: { accept: 'text/html' } })).status, 401, 'no page to sign in at, so nobody is sent to one');
      } finally {
        await front.stop();
        other.closeAllConnections();
        other.close();
      }
    });

    if (kind === 'nginx')
      test('a place may demand a second factor, and says so to a person and to a script', async () => {
        const strict = await startProxy(kind, { authority: authorityPort, app: app.port, demand: '?acr=aal2' });
        try {
          const user = await admin.createUser(`${kind}-demand`);
          const visitor = new Browser(strict.origin);
          const page = await visitor.signIn(user, '/api/me');
          assert.equal(page.headers['x-served-by'], undefined);
          const call = await visitor.call('GET', '/api/me');
          assert.equal(call.status, 401, call.text);
          assert.equal(call.json().error, 'insufficient_user_authentication');
          assert.equal(call.headers['x-auth-subject'], undefined);
          const opened = await visitor.ask('/api/me', { headers: { accept: 'text/html' } });
          assert.equal(opened.status, 302);
          assert.equal(new URL(opened.headers.location, strict.origin).searchParams.get('acr'), 'aal2');
        } finally {
          await strict.stop();
        }
      });

    test('while the authority is away nobody is signed in or out', async () => {
      const { visitor } = await signedIn('away');
      const cookie = visitor.cookie;
      await authority.kill();
      try {
        for (const [path, headers] of [['/api/me', { accept: 'application/json' }], ['/', { accept: 'text/html', 'sec-fetch-mode': 'navigate' }], ['/v1/me', {}], ['/login', { accept: 'text/html' }]]) {
          const answer = await visitor.ask(path, { headers });
          assert.ok([502, 503].includes(answer.status), `${path}: ${answer.status}`);
          assert.equal(answer.headers['x-served-by'], undefined);
          assert.equal(answer.headers['set-cookie'], undefined);
          if (path === '/api/me' || path === '/') assert.equal(answer.headers['retry-after'], '2', path);
        }
        assert.ok([502, 503].includes((await ask(proxy.origin, '/api/me')).status), 'nor is a stranger told to sign in');
      } finally {
        // Somebody may hold the port for a moment: any connection from this machine can be given it.
        const { folder } = authority;
        authority = await until('the authority is back', () => startAuthority({ folder, listen: `127.0.0.1:${authorityPort}` }).catch(() => undefined));
      }
      await listening(authorityPort);
      await until('the session works again', async () => (await visitor.call('GET', '/api/me')).status === 200);
      assert.equal(visitor.cookie, cookie);
    });

    test('the app away is no affair of the session', async () => {
      const other = await startProxy(kind, { authority: authorityPort, app: await freePort() });
      try {
        const user = await admin.createUser(`${kind}-noapp`);
        const visitor = new Browser(other.origin);
        const page = await visitor.signIn(user, '/api/me');
        assert.ok([502, 503].includes(page.status), `${page.status}`);
        assert.equal((await visitor.call('GET', '/v1/me')).status, 200);
      } finally {
        await other.stop();
      }
    });
  });
}
