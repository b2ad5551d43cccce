// What a person sees through nginx, in Chromium.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { shot, startAuthority, startBrowser } from '../browser/support.mjs';
import { Administrator, startApp, startProxy } from './support.mjs';

let authority;
let app;
let proxy;
let browser;

before(async () => {
  authority = await startAuthority();
  app = await startApp(authority.issuer);
  proxy = await startProxy('nginx', { authority: new URL(authority.issuer).port, app: app.port });
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await proxy?.stop();
  await app?.stop();
  await authority?.stop();
});

async function openContext(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    // An answer with 4xx is part of the game; the browser logs each.
    if (message.type() === 'error' && !message.text().includes('the server responded with a status of 4')) complaints.push(message.text());
  });
  return { page, complaints, close: () => context.close() };
}

async function signIn(page, { username, password }) {
  await page.waitForURL((url) => url.pathname === '/login');
  await page.locator('input[name=username]').fill(username);
  await page.locator('input[name=password]').fill(password);
  await page.locator('input[name=password]').press('Enter');
}

const claim = (page, name) => page.locator(`[data-claim=${name}]`).textContent();

for (const javaScriptEnabled of [true, false]) {
  test(`a person opens the app, signs in, lands where he was going, and signs out (${javaScriptEnabled ? 'with' : 'without'} JavaScript)`, async () => {
    const user = await new Administrator(authority).createUser(javaScriptEnabled ? 'with' : 'without', { roles: ['editor'] });
    const { page, complaints, close } = await openContext({ javaScriptEnabled });
    const target = `${proxy.origin}/?from=a%26b&to=c+d`;
    await page.goto(target);
    await shot(page, `gateway-login-${javaScriptEnabled ? 'with' : 'without'}-js`);
    await signIn(page, user);
    await page.waitForURL(target);
    assert.equal(await claim(page, 'name'), user.name);
    assert.equal(await claim(page, 'sub'), user.sub);
    assert.equal(await claim(page, 'roles'), '["editor"]');
    const [cookie, ...others] = await page.context().cookies();
    assert.deepEqual(others, []);
    assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite], ['reseal', true, 'Lax']);
    await shot(page, 'gateway-app');

    await page.getByRole('link', { name: 'Sign out' }).click();
    await page.waitForURL((url) => url.pathname === '/logout');
    await page.locator('form button').first().click();
    await page.waitForURL((url) => url.pathname !== '/logout' || url.search !== '');
    assert.deepEqual(await page.context().cookies(), []);
    await page.goto(target);
    await page.waitForURL((url) => url.pathname === '/login');
    assert.deepEqual(complaints, []);
    await close();
  });
}

test('the phone that is turned on in the app is there at once, and asked for at the next sign-in', async () => {
  const admin = new Administrator(authority);
  const user = await admin.createUser('phone');
  const number = '+4915198765432';
  const { page, complaints, close } = await openContext();
  await page.goto(proxy.origin);
  await signIn(page, user);
  await page.waitForURL(`${proxy.origin}/`);
  assert.equal(await claim(page, 'phone_number'), 'null');
  await page.getByLabel('Number').fill(number);
  await page.getByRole('button', { name: 'Send code' }).click();
  await page.getByText('The code is on its way.').waitFor();
  await page.getByLabel('Code').fill(await admin.newestCode(number));
  await page.getByRole('button', { name: 'Turn on' }).click();
  await page.locator('[data-claim=phone_number]', { hasText: number }).waitFor();
  assert.equal(await claim(page, 'acr'), 'aal2');
  await shot(page, 'gateway-app-phone');

  await page.context().clearCookies();
  await page.goto(`${proxy.origin}/?again`);
  await signIn(page, user);
  await page.locator('input[name=code]').waitFor();
  await shot(page, 'gateway-code');
  await page.locator('input[name=code]').fill(await admin.newestCode(number));
  await page.locator('input[name=code]').press('Enter');
  await page.waitForURL(`${proxy.origin}/?again`);
  assert.equal(await claim(page, 'phone_number'), number);
  assert.deepEqual(complaints, []);
  await close();
});
