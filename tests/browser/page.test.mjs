import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPage, shot, startAuthority, startBrowser } from './support.mjs';

const KINDS = ['sliding', 'fixed', 'refresh', 'cookie'];

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

const panel = (page, kind) => page.locator(`#panel-${kind}`);
const press = (page, kind, name) => panel(page, kind).getByRole('button', { name, exact: true }).click();
const heard = (page, kind, text) => panel(page, kind).locator('.log li', { hasText: text }).first().waitFor();
const face = (page, kind) => panel(page, kind).locator('.dial').getAttribute('aria-label');
const claim = async (page, kind, name) => {
  const terms = await panel(page, kind).locator('.claims dt').allTextContents();
  const values = await panel(page, kind).locator('.claims dd').allTextContents();
  return values[terms.indexOf(name)];
};

async function signInEverywhere(page) {
  for (const kind of KINDS) {
    await press(page, kind, 'Sign in');
    await heard(page, kind, 'Signed in.');
  }
}

/** The code of the newest message, read off the page's own phone. */
async function newestCode(page) {
  const text = await page.evaluate(async () => (await (await fetch('/dev/outbox')).json()).at(-1).text);
  const message = page.locator('#outbox li p').first();
  await page.waitForFunction((text) => document.querySelector('#outbox li p')?.textContent === text, text);
  return (await message.textContent()).match(/\d{6}/)[0];
}

test('one user signs in under each of the four policies, and each clock says what will happen', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  for (const kind of KINDS) assert.equal(await face(page, kind), 'Not signed in.');
  await shot(page, 'desktop-before');
  await signInEverywhere(page);
  await shot(page, 'desktop');
  assert.match(await face(page, 'sliding'), /^Renews in \d+ min.*, signs out at .* if unused\.$/);
  assert.match(await face(page, 'fixed'), /^Signs out at /);
  assert.match(await face(page, 'refresh'), /^Token good for .*, signs out at .* if unused\.$/);
  assert.match(await face(page, 'cookie'), /^Renews in \d+ days, signs out at .* if unused\.$/);
  assert.deepEqual(complaints, []);
  await close();
});

test('a sliding token renews only after half its life', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  await press(page, 'sliding', 'Sign in');
  await heard(page, 'sliding', 'Signed in.');
  await press(page, 'sliding', 'Renew');
  await heard(page, 'sliding', 'Too early');
  const before = await claim(page, 'sliding', 'exp');
  await page.getByRole('button', { name: '+10 min' }).click();
  await page.waitForFunction(() => document.querySelector('#panel-sliding .dial').getAttribute('aria-label').startsWith('Can be renewed now'));
  await press(page, 'sliding', 'Renew');
  await heard(page, 'sliding', 'Renewed.');
  assert.ok(Number(await claim(page, 'sliding', 'exp')) > Number(before));
  assert.deepEqual(complaints, []);
  await close();
});

test('an unused session ends by itself, and the broken seal says why', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  await press(page, 'sliding', 'Sign in');
  await heard(page, 'sliding', 'Signed in.');
  await page.getByRole('button', { name: '+1 h' }).click();
  await heard(page, 'sliding', 'It was not used for too long.');
  assert.equal(await face(page, 'sliding'), 'Ended. It was not used for too long.');
  await shot(page, 'ended');
  assert.deepEqual(complaints, []);
  await close();
});

test('two tabs renew at once and both stay in; an old refresh token ends the session with its reason', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  await press(page, 'refresh', 'Sign in');
  await heard(page, 'refresh', 'Signed in.');
  await press(page, 'refresh', 'Renew from two tabs');
  await heard(page, 'refresh', 'Both tabs got the same successor');
  await page.getByRole('button', { name: '+1 min' }).click();
  await press(page, 'refresh', 'Renew');
  await heard(page, 'refresh', 'Renewed.');
  await page.getByRole('button', { name: '+1 min' }).click();
  await press(page, 'refresh', 'Replay an old refresh token');
  await heard(page, 'refresh', 'An old refresh token came back');
  assert.match(await face(page, 'refresh'), /^Ended\. An old refresh token came back/);
  assert.deepEqual(complaints, []);
  await close();
});

test('the phone number enters the token in the same answer, and the other sessions at their next renewal', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  await signInEverywhere(page);
  assert.equal(await claim(page, 'sliding', 'phone_number'), 'null');
  await page.getByLabel('Act through').selectOption('sliding');
  await page.getByLabel('Number').fill('+4915112345678');
  await page.getByRole('button', { name: 'Send code' }).click();
  await page.locator('#code-form').waitFor();
  await page.getByLabel('Code', { exact: true }).first().fill(await newestCode(page));
  await page.getByRole('button', { name: 'Verify' }).click();
  await heard(page, 'sliding', 'Resealed');
  assert.equal(await claim(page, 'sliding', 'phone_number'), '+4915112345678');
  assert.equal(await claim(page, 'sliding', 'acr'), 'aal2');
  assert.equal(await page.locator('#recovery-codes li').count(), 10);
  await shot(page, 'resealed');
  assert.equal(await claim(page, 'refresh', 'phone_number'), 'null', 'not before it renews');
  await press(page, 'refresh', 'Renew');
  await heard(page, 'refresh', 'Renewed.');
  assert.equal(await claim(page, 'refresh', 'phone_number'), '+4915112345678');

  // From now on a sign-in needs the code.
  await press(page, 'fixed', 'Sign out');
  await heard(page, 'fixed', 'Signed out.');
  await press(page, 'fixed', 'Sign in');
  const dialog = page.getByRole('dialog');
  await dialog.waitFor();
  await shot(page, 'second-factor');
  await dialog.getByLabel('Code').fill('000000');
  await dialog.getByRole('button', { name: 'Continue' }).click();
  await page.waitForFunction(() => document.getElementById('factor-says').textContent !== '');
  const code = await newestCode(page);
  await dialog.getByLabel('Code').fill(code);
  await page.keyboard.press('Enter');
  await heard(page, 'fixed', 'Signed in.');
  assert.equal(await claim(page, 'fixed', 'acr'), 'aal2');

  await page.getByRole('button', { name: 'Turn off' }).click();
  await page.waitForFunction(() => document.getElementById('phone-now').textContent === 'none');
  assert.deepEqual(complaints, []);
  await close();
});

test('signing out elsewhere ends the other sessions, and they notice', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  await signInEverywhere(page);
  await page.getByLabel('Act through').selectOption('sliding');
  await page.getByRole('button', { name: 'Sign out everywhere else' }).click();
  for (const kind of ['fixed', 'refresh', 'cookie']) {
    await heard(page, kind, 'It was signed out from elsewhere.');
    assert.match(await face(page, kind), /^Ended\. It was signed out from elsewhere/);
  }
  assert.match(await face(page, 'sliding'), /signs out at/);
  assert.deepEqual(complaints, []);
  await close();
});

test('the cookie is out of reach of scripts and its session outlives a reload', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  await press(page, 'cookie', 'Sign in');
  await heard(page, 'cookie', 'Signed in.');
  assert.equal(await page.evaluate(() => document.cookie), '');
  await page.reload();
  await page.waitForSelector('html.ready');
  assert.match(await face(page, 'cookie'), /signs out at/);
  assert.equal(await face(page, 'sliding'), 'Not signed in.');
  assert.deepEqual(complaints, []);
  await close();
});

test('the keyboard alone is enough', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'To the sessions');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'sign-in');
  await page.keyboard.press('Enter');
  await heard(page, 'sliding', 'Signed in.');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'sign-in', 'the focus stays');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Space');
  await heard(page, 'sliding', 'Too early');
  assert.deepEqual(complaints, []);
  await close();
});

for (const colorScheme of ['light', 'dark']) {
  test(`it fits a phone, ${colorScheme}`, async () => {
    const { page, complaints, close } = await openPage(browser, authority.issuer, { viewport: { width: 360, height: 740 }, colorScheme });
    await signInEverywhere(page);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 360, `${wide} px wide`);
    await shot(page, `phone-${colorScheme}`);
    assert.deepEqual(complaints, []);
    await close();
  });
}

test('a ticking clock moves nothing', async () => {
  const { page, close } = await openPage(browser, authority.issuer);
  await signInEverywhere(page);
  const shift = await page.evaluate(
    () =>
      new Promise((resolve) => {
        let sum = 0;
        new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) if (!entry.hadRecentInput) sum += entry.value;
        }).observe({ type: 'layout-shift' });
        let ticks = 0;
        new MutationObserver(() => {
          ticks += 1;
          if (ticks === 3) resolve(sum);
        }).observe(document.getElementById('clock'), { childList: true, characterData: true, subtree: true });
      }),
  );
  assert.equal(shift, 0);
  await close();
});
