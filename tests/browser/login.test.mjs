// The hosted pages, with a script and without.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPage, shot, startAuthority, startBrowser } from './support.mjs';

let authority;
let browser;

before(async () => {
  authority = await startAuthority();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await authority?.stop();
});

/** A page of a new browser, and what it complains about. */
async function open(path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    // An answer with 4xx is part of the game; the browser logs each.
    if (message.type() === 'error' && !message.text().includes('the server responded with a status of 4')) complaints.push(message.text());
  });
  await page.goto(authority.issuer + path);
  return { page, complaints, close: () => context.close() };
}

async function call(method, path, body, headers = {}) {
  const answer = await fetch(authority.issuer + path, { method, body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } });
  assert.ok(answer.ok, `${path}: ${answer.status}`);
  return answer.status === 204 ? undefined : answer.json();
}

const advance = (seconds) => call('POST', '/dev/clock', { advance: seconds });
const outbox = async () => (await fetch(`${authority.issuer}/dev/outbox`)).json();
const newestCode = async () => (await outbox()).at(-1).text.match(/\d{6}/)[0];

/** Another administrator of the authority makes a user. */
async function createUser(username) {
  const { client_id, client_secret } = authority.dev.clients.service;
  const grant = await fetch(`${authority.issuer}/oauth/token`, {
    method: 'POST',
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'reseal:admin', client_id, client_secret }),
  });
  const { access_token: token } = await grant.json();
  const password = `the password of ${username}`;
  await call('POST', '/v1/admin/users', { username, name: username, password }, { authorization: `Bearer ${token}` });
  return { username, password };
}

/** Turns the second factor on for a user; his recovery codes. */
async function turnOnPhone({ username, password }, number) {
  const { access_token } = await call('POST', '/v1/session', { client_id: authority.dev.clients.sliding.client_id, username, password });
  const headers = { authorization: `Bearer ${access_token}` };
  const { challenge } = await call('POST', '/v1/me/phone', { phone_number: number }, headers);
  const { recovery_codes } = await call('POST', '/v1/me/phone/verify', { challenge, code: await newestCode() }, headers);
  await advance(31);
  return recovery_codes;
}

async function signIn(page, { username, password }) {
  await page.getByLabel('Username').fill(username);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

const session = async (page) => (await page.request.get(`${authority.issuer}/v1/session`)).status();

for (const javaScriptEnabled of [true, false]) {
  const how = javaScriptEnabled ? 'with a script' : 'without a script';
  const name = (what) => `${what}-${javaScriptEnabled}`;

  test(`signing in, signing out (${how})`, async () => {
    const user = await createUser(name('ada'));
    const { page, complaints, close } = await open('/login?return_to=/jwks.json%3Fa%3D1', { javaScriptEnabled });
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute('name')), 'username');
    await shot(page, name('login'));
    await signIn(page, { ...user, password: 'wrong' });
    await page.getByRole('alert').getByText('Wrong username or password.').waitFor();
    assert.equal(await page.getByLabel('Username').inputValue(), user.username);
    assert.equal(await page.getByLabel('Password').inputValue(), '');
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute('name')), 'password');
    await shot(page, name('login-wrong'));
    await page.getByLabel('Password').fill(user.password);
    await page.getByLabel('Password').press('Enter');
    await page.waitForURL(`${authority.issuer}/jwks.json?a=1`);
    assert.equal(await session(page), 200);

    await page.goto(`${authority.issuer}/login?return_to=/jwks.json`);
    assert.equal(page.url(), `${authority.issuer}/jwks.json`, 'he is signed in');
    await page.goto(`${authority.issuer}/logout`);
    assert.match(await page.getByRole('img').last().getAttribute('aria-label'), /igns out .* if unused\.$/);
    await page.getByText('Signs out by itself at').waitFor();
    await shot(page, name('logout'));
    assert.equal(await session(page), 200, 'looking at the page ends nothing');
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByRole('heading', { name: 'You are signed out.' }).waitFor();
    assert.equal(await session(page), 401);
    assert.deepEqual(await page.context().cookies(), []);
    assert.deepEqual(complaints, []);
    await close();
  });

  test(`the second step, another message, and a recovery code (${how})`, async () => {
    const user = await createUser(name('bob'));
    const [recovery] = await turnOnPhone(user, javaScriptEnabled ? '+4915112345678' : '+4915112345679');
    const { page, complaints, close } = await open('/login?acr=aal2&return_to=/jwks.json', { javaScriptEnabled });
    await signIn(page, user);
    await page.getByText(`six digits to ••• ${javaScriptEnabled ? 78 : 79}`).waitFor();
    await shot(page, name('code'));
    const code = page.getByLabel('Code', { exact: true });
    await code.fill('000 000');
    await page.getByRole('button', { name: 'Continue', exact: true }).click();
    await page.getByRole('alert').getByText(/The code is wrong\. 4 tries are left\./).waitFor();
    await page.getByRole('button', { name: 'Send another message' }).click();
    await page.getByRole('alert').getByText('You can try again in').waitFor();
    await advance(31);
    const sent = (await outbox()).length;
    await page.getByRole('button', { name: 'Send another message' }).click();
    await page.getByText('A new code is on its way.').waitFor();
    assert.equal((await outbox()).length, sent + 1);
    await code.fill(await newestCode());
    await code.press('Enter');
    await page.waitForURL(`${authority.issuer}/jwks.json`);
    assert.equal((await (await page.request.get(`${authority.issuer}/v1/session`)).json()).acr, 'aal2');

    await page.goto(`${authority.issuer}/login?prompt=login&return_to=/jwks.json`);
    assert.equal(await page.getByLabel('Username').inputValue(), user.username);
    await signIn(page, user);
    await page.getByText('Use a recovery code').click();
    await page.getByLabel('Recovery code').fill(recovery);
    await shot(page, name('recovery'));
    await page.getByRole('button', { name: 'Continue with it' }).click();
    await page.waitForURL(`${authority.issuer}/jwks.json`);
    assert.equal(await session(page), 200);
    assert.deepEqual(complaints, []);
    await close();
  });
}

test('a form is sent once, however often the button is pressed, and again after going back', async () => {
  const user = await createUser('carl');
  const { page, complaints, close } = await open('/login?return_to=/jwks.json');
  await page.waitForSelector('html.ready');
  let posts = 0;
  page.on('request', (request) => (posts += request.method() === 'POST' ? 1 : 0));
  await page.getByLabel('Username').fill(user.username);
  await page.getByLabel('Password').fill(user.password);
  await page.evaluate(() => {
    const form = document.querySelector('form');
    for (let n = 0; n < 5; n += 1) form?.requestSubmit();
  });
  await page.waitForURL(`${authority.issuer}/jwks.json`);
  assert.equal(posts, 1);
  await page.goto(`${authority.issuer}/login?prompt=login&return_to=/jwks.json`);
  await signIn(page, { ...user, password: 'wrong' });
  await page.getByRole('alert').waitFor();
  await page.goBack();
  await signIn(page, user);
  await page.waitForURL(`${authority.issuer}/jwks.json`);
  assert.deepEqual(complaints, []);
  await close();
});

test('after signing in the browser goes on to another port of this machine, and never to a place that is not listed', async () => {
  const user = await createUser('dora');
  const { createServer } = await import('node:http');
  const elsewhere = createServer((_, answer) => answer.end('elsewhere')).listen(0, '127.0.0.1');
  await new Promise((resolve) => elsewhere.once('listening', resolve));
  const target = `http://127.0.0.1:${elsewhere.address().port}/x?a=1&b=2`;
  // Where the app sends the browser from there is its own affair.
  const app = createServer((_, answer) => answer.writeHead(302, { location: target }).end()).listen(0, '127.0.0.1');
  await new Promise((resolve) => app.once('listening', resolve));
  const { page, complaints, close } = await open(`/login?return_to=${encodeURIComponent(`http://localhost:${app.address().port}/`)}`);
  await signIn(page, user);
  await page.waitForURL(target);
  await page.goto(`${authority.issuer}/login?return_to=https://evil.example/`);
  await page.getByText('a place that this site does not know').waitFor();
  await page.getByRole('link', { name: 'Sign in without it' }).click();
  await page.waitForURL(`${authority.issuer}/`);
  assert.deepEqual(complaints, []);
  await close();
  for (const server of [elsewhere, app]) {
    server.closeAllConnections();
    server.close();
  }
});

test('a page of another origin signs nobody in or out', async () => {
  const user = await createUser('eve');
  const { createServer } = await import('node:http');
  const page2 = (path, fields) => `<!doctype html><form method="post" action="${authority.issuer}${path}">${fields}<button>Go</button></form>`;
  const fields = `<input name="username" value="${user.username}"><input name="password" value="${user.password}">`;
  const evil = createServer((request, answer) => {
    answer.setHeader('content-type', 'text/html');
    // Not an origin that the client lists: another name of this machine would be one.
    answer.setHeader('referrer-policy', 'no-referrer');
    answer.end(request.url === '/in' ? page2('/login', fields) : page2('/logout', ''));
  }).listen(0, '127.0.0.2');
  await new Promise((resolve) => evil.once('listening', resolve));
  const origin = `http://127.0.0.2:${evil.address().port}`;
  const { page, close } = await open('/login?return_to=/jwks.json');
  await page.goto(`${origin}/in`);
  await page.getByRole('button').click();
  await page.getByRole('heading', { name: 'From another site' }).waitFor();
  assert.equal(await session(page), 401);
  await page.goto(`${authority.issuer}/login?return_to=/jwks.json`);
  await signIn(page, user);
  await page.waitForURL(`${authority.issuer}/jwks.json`);
  await page.goto(`${origin}/out`);
  await page.getByRole('button').click();
  await page.getByRole('heading', { name: 'From another site' }).waitFor();
  assert.equal(await session(page), 200);
  await close();
  evil.close();
});

for (const colorScheme of ['light', 'dark']) {
  test(`on a phone, ${colorScheme}: one column, nothing cut off, enough contrast`, async () => {
    const { page, close } = await open('/login', { colorScheme, viewport: { width: 375, height: 740 } });
    await page.getByLabel('Username').fill('x');
    await page.getByLabel('Password').fill('y');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('alert').waitFor();
    await shot(page, `login-phone-${colorScheme}`);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 375);
    const ratios = await page.evaluate(() => {
      const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
      const light = (color) => {
        const [r, g, b] = color.match(/[\d.]+/g).map(Number);
        return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
      };
      const behind = (node) => {
        for (let at = node; at; at = at.parentElement) {
          const color = getComputedStyle(at).backgroundColor;
          if (!color.endsWith(', 0)') && color !== 'transparent') return color;
        }
        return 'rgb(255, 255, 255)';
      };
      return [...document.querySelectorAll('h1, p, label, button, .error')].map((node) => {
        const [one, two] = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
        return [node.textContent.trim(), (one + 0.05) / (two + 0.05)];
      });
    });
    for (const [text, ratio] of ratios) assert.ok(ratio >= 4.5, `${text}: ${ratio}`);
    await close();
  });
}

test('the development page still has its look', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  const radius = await page.locator('.panel').first().evaluate((node) => getComputedStyle(node).borderRadius);
  const height = await page.locator('.panel button').first().evaluate((node) => getComputedStyle(node).minHeight);
  assert.deepEqual([radius, height], ['8px', '40px']);
  assert.deepEqual(complaints, []);
  await close();
});
