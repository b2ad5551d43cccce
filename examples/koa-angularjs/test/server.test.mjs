// The shop's server by itself: its edges, its registration, and what it says when something is missing.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { request } from 'node:http';
import { writeFile } from 'node:fs/promises';
import { join, dirname } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createApp } from '../server/app.js';
import { createClock } from '../server/clock.js';
import { createOrders } from '../server/orders.js';
import { startShop } from './support.mjs';

let shop;
before(async () => {
  shop = await startShop();
});
after(() => shop?.stop());

/** As `fetch`, but with any Host. */
function ask(path, headers = {}, method = 'GET') {
  return new Promise((resolve, reject) => {
    const { port } = new URL(shop.url);
    request({ host: '127.0.0.1', port, path, method, headers }, (answer) => {
      let body = '';
      answer
        .on('data', (part) => (body += part))
        .on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, body }));
    })
      .on('error', reject)
      .end();
  });
}

/** Signs in as the demo user, and returns the access token. */
async function login(client_id = 'corner-shop-refresh') {
  const { username, password } = shop.dev.user;
  const answer = await fetch(`${shop.issuer}/v1/session`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ client_id, username, password }),
  });
  assert.equal(answer.status, 201);
  return (await answer.json()).access_token;
}

test('every answer has the security headers, and no page allows what is inline', async () => {
  for (const path of ['/', '/costs', '/js/main.js', '/api/orders', '/nothing']) {
    const { headers } = await ask(path);
    assert.match(
      headers['content-security-policy'],
      /^default-src 'none'; script-src 'self'; style-src 'self';.*frame-ancestors 'none'$/,
    );
    assert.ok(!headers['content-security-policy'].includes('unsafe'));
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['referrer-policy'], 'no-referrer');
  }
});

test('only what is on the list is served', async () => {
  for (const path of [
    '/server/app.js',
    '/public/index.html',
    '/../server/app.js',
    '/js/../../server/app.js',
    '/js/%2e%2e/app.js',
    '/book/../../README.md',
    '/package.json',
  ]) {
    const { status, body } = await ask(path);
    assert.equal(status, 404, path);
    assert.equal(JSON.parse(body).error, 'not_found');
  }
  const page = await ask('/');
  assert.equal(page.status, 200);
  assert.ok(page.body.includes(shop.issuer));
  assert.ok(!page.body.includes(shop.dev.clients.service.client_secret), 'the secret of the service stays here');
  assert.equal((await ask('/', { 'if-none-match': page.headers.etag })).status, 304);
  assert.equal((await ask('/', {}, 'POST')).status, 405);
});

test('a foreign name is refused, and localhost leads to the name that the cookie is for', async () => {
  const { port } = new URL(shop.url);
  assert.equal((await ask('/', { host: 'evil.example' })).status, 421);
  assert.equal((await ask('/', { host: `evil.example:${port}` })).status, 421);
  const moved = await ask('/?keep=cookie', { host: `localhost:${port}` });
  assert.equal(moved.status, 302);
  assert.equal(moved.headers.location, `${shop.url}/?keep=cookie`);
  // As a proxy asks: the whole address in the first line.
  const whole = await ask('http://evil.example/costs?a=1', { host: `localhost:${port}` });
  assert.equal(whole.status, 302);
  assert.equal(whole.headers.location, `${shop.url}/costs?a=1`);
});

test('protected calls: who has no token, what is no JSON, what is too large', async () => {
  const nobody = await fetch(`${shop.url}/api/orders`);
  assert.equal(nobody.status, 401);
  assert.equal(nobody.headers.get('www-authenticate'), 'Bearer realm="Corner Shop"');
  assert.equal((await nobody.json()).error, 'unauthorized');

  const authorization = `Bearer ${await login()}`;
  const post = (body, type = 'application/json') =>
    fetch(`${shop.url}/api/orders`, { method: 'POST', headers: { authorization, 'content-type': type }, body });
  assert.equal((await post('{"item":"Tea","cents":250}')).status, 201);
  assert.equal((await post('item=Tea&cents=250', 'application/x-www-form-urlencoded')).status, 415);
  assert.equal((await post('{')).status, 400);
  assert.equal((await post('{"item":"Tea","cents":0.5}')).status, 400);
  assert.equal((await post('null')).status, 400);
});

test('what is too large is refused in words, however large it is, and the next call finds a connection', async () => {
  const headers = { authorization: `Bearer ${await login()}`, 'content-type': 'application/json' };
  const post = (item) =>
    fetch(`${shop.url}/api/orders`, { method: 'POST', headers, body: JSON.stringify({ item, cents: 1 }) });
  for (const length of [5000, 200_000, 10_000_000]) {
    const refused = await post('x'.repeat(length));
    assert.equal(refused.status, 413, String(length));
    assert.equal((await refused.json()).error, 'too_large');
    assert.equal((await post('Tea')).status, 201, `after ${length}`);
  }
});

test('a method that is not there is told which are; HEAD is where GET is', async () => {
  const authorization = `Bearer ${await login()}`;
  for (const [method, path, allow] of [
    ['DELETE', '/', 'GET, HEAD'],
    ['PUT', '/api/orders', 'GET, HEAD, POST'],
    ['GET', '/api/refunds', 'POST'],
    ['POST', '/demo/messages', 'GET, HEAD'],
  ]) {
    const { status, headers, body } = await ask(path, { authorization }, method);
    assert.deepEqual([status, headers.allow, JSON.parse(body).error], [405, allow, 'method_not_allowed'], path);
  }
  assert.equal((await ask('/api/orders', {}, 'DELETE')).status, 401, 'who has no token is told nothing');
  assert.equal((await ask('/api/orders', { authorization }, 'HEAD')).status, 200);
});

test('a token for another app is refused', async () => {
  const { username, password } = shop.dev.user;
  const answer = await fetch(`${shop.issuer}/v1/session`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ client_id: shop.dev.clients.refresh.client_id, username, password }),
  });
  const { access_token } = await answer.json();
  const refused = await fetch(`${shop.url}/api/orders`, { headers: { authorization: `Bearer ${access_token}` } });
  assert.equal(refused.status, 401);
  assert.equal((await refused.json()).error, 'invalid_token');
});

test('registering again changes nothing, and another port corrects it', async (t) => {
  const { issuer, dev } = shop;
  const client = async () => {
    const { client_id, client_secret } = dev.clients.service;
    const headers = { authorization: `Basic ${Buffer.from(`${client_id}:${client_secret}`).toString('base64')}` };
    const body = new URLSearchParams({ grant_type: 'client_credentials', scope: 'reseal:admin' });
    const { access_token } = await (await fetch(`${issuer}/oauth/token`, { method: 'POST', headers, body })).json();
    return (
      await fetch(`${issuer}/v1/admin/clients/corner-shop-cookie`, {
        headers: { authorization: `Bearer ${access_token}` },
      })
    ).json();
  };
  const first = await client();
  assert.deepEqual(first.audience, [shop.url]);
  await fetch(`${issuer}/dev/clock`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"advance":10}',
  });
  const port = Number(new URL(shop.url).port);
  await assert.rejects(createApp({ issuer, service: dev.clients.service, demo: dev.user, port }), {
    code: 'EADDRINUSE',
  });
  const again = await createApp({ issuer, service: dev.clients.service, demo: dev.user, port: 0 });
  t.after(() => again.close());
  const corrected = await client();
  assert.deepEqual(corrected.audience, [again.url]);
  assert.deepEqual(corrected.origins.sort(), [again.url, again.url.replace('127.0.0.1', 'localhost')].sort());
  assert.ok(corrected.updated_at >= first.updated_at + 10);
  await again.close();

  await fetch(`${issuer}/dev/clock`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"advance":10}',
  });
  const same = await createApp({
    issuer,
    service: dev.clients.service,
    demo: dev.user,
    port: Number(new URL(again.url).port),
  });
  await same.close();
  assert.equal((await client()).updated_at, corrected.updated_at);
});

test('without development mode there is no phone and no clock to move', async (t) => {
  const { issuer, dev } = shop;
  const app = await createApp({ issuer, service: dev.clients.service, port: 0 });
  t.after(() => app.close());
  assert.equal((await fetch(`${app.url}/demo/messages`)).status, 404);
  assert.equal((await fetch(`${app.url}/demo/clock`, { method: 'POST' })).status, 404);
  assert.ok(!(await (await fetch(app.url)).text()).includes(dev.user.password));
});

/** Runs `npm start`'s script until it ends by itself. */
function start(env) {
  return new Promise((resolve) => {
    const main = fileURLToPath(new URL('../server/main.js', import.meta.url));
    const child = spawn(process.execPath, [main], {
      env: { ...process.env, PORT: '0', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (part) => (text += part));
    child.on('close', (code) => resolve({ code, text }));
  });
}

test('what is missing is said, and what to do', async () => {
  const missing = await start({ RESEAL_DEV: '/nonexistent/dev.json' });
  assert.equal(missing.code, 1);
  assert.match(missing.text, /There is no \/nonexistent\/dev\.json yet\.[\s\S]*cargo run --release -- serve --dev/);

  const folder = dirname(shop.authority.devFile);
  const elsewhere = join(folder, 'elsewhere.json');
  // Port 9 is "discard": nobody answers there.
  await writeFile(elsewhere, JSON.stringify({ ...shop.dev, issuer: 'http://127.0.0.1:9' }));
  const away = await start({ RESEAL_DEV: elsewhere });
  assert.equal(away.code, 1);
  assert.match(away.text, /http:\/\/127\.0\.0\.1:9 does not answer\.[\s\S]*serve --dev/);

  const wrong = structuredClone(shop.dev);
  wrong.clients.service.client_secret = 'not the secret';
  await writeFile(elsewhere, JSON.stringify(wrong));
  const refused = await start({ RESEAL_DEV: elsewhere });
  assert.equal(refused.code, 1);
  assert.match(refused.text, /does not know the secret/);
  assert.ok(!refused.text.includes('not the secret'));

  const taken = await start({ RESEAL_DEV: shop.authority.devFile, PORT: new URL(shop.url).port });
  assert.equal(taken.code, 1);
  assert.match(taken.text, /is taken/);
});

test('the clock follows a moved authority, and only in development mode', () => {
  let system = Date.UTC(2026, 0, 1);
  const followed = createClock({ follow: true, system: () => system });
  followed.learn(new Date(system + 1000).toUTCString());
  assert.equal(followed.now(), system, 'a second is no difference');
  followed.learn(new Date(system + 600_000).toUTCString());
  assert.equal(followed.now(), system + 600_500);
  system += 1000;
  assert.equal(followed.now(), system + 600_500);
  followed.learn('no date');
  followed.learn(null);
  assert.equal(followed.now(), system + 600_500);
  followed.learn(new Date(system).toUTCString());
  followed.set(60);
  assert.equal(followed.now(), system + 600_500, 'an answer that was under way during a move sets nothing back');
  followed.set(700);
  assert.equal(followed.now(), system + 700_000);
  const own = createClock({ follow: false, system: () => system });
  own.learn(new Date(system + 600_000).toUTCString());
  own.set(60);
  assert.equal(own.now(), system);
});

test('orders are bounded, and each user has his own', () => {
  const orders = createOrders();
  for (let i = 0; i < 150; i++) assert.ok(orders.add('one', { item: `item ${i}`, cents: 100 }));
  assert.equal(orders.of('one').length, 100);
  assert.equal(orders.of('two').length, 2);
  assert.equal(orders.refund('two', 99), null);
  assert.equal(orders.refund('two', 1).refunded, true);
  for (const body of [
    null,
    'x',
    {},
    { item: ' ', cents: 1 },
    { item: 'x', cents: -1 },
    { item: 'x', cents: '1' },
    { item: 'x'.repeat(81), cents: 1 },
  ])
    assert.equal(orders.add('one', body), null);
  for (let i = 0; i < 1000; i++) orders.of(`user ${i}`);
  assert.equal(orders.of('one').length, 2, 'who has not ordered for longest is forgotten');
});
