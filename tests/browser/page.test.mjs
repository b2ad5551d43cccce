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

test('the phone number enters the token in the same answer, and the other sessions at their next renewal', async (t) => {
  // An authority of its own: where this fails half way the user keeps a second factor.
  const authority = await startAuthority();
  t.after(() => authority.stop());
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
  // The phone answers slowly: until it does, the dialog shows no message, and never the one of an earlier question.
  let answer;
  const asked = new Promise((resolve) => (answer = resolve));
  await page.route('**/dev/outbox', async (route) => {
    await asked;
    await route.continue();
  });
  await press(page, 'fixed', 'Sign in');
  const dialog = page.getByRole('dialog');
  await dialog.waitFor();
  assert.equal(await dialog.locator('li p').count(), 0);
  answer();
  // Nothing behind an open dialog can be reached: its code must be in it.
  const message = await dialog.locator('li p').textContent();
  await shot(page, 'second-factor');
  assert.ok(message.includes(await newestCode(page)), message);
  await dialog.getByLabel('Code').fill('000000');
  await dialog.getByRole('button', { name: 'Continue' }).click();
  await page.waitForFunction(() => document.getElementById('factor-says').textContent !== '');
  const code = await newestCode(page);
  await dialog.getByLabel('Code').fill(code);
  await page.keyboard.press('Enter');
  // The second time in this panel: the first sign-in needed no code.
  await panel(page, 'fixed').locator('.log li', { hasText: 'Signed in.' }).nth(1).waitFor();
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

test('tabs share the cookie, and each sees what another did with it', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  const other = await page.context().newPage();
  await other.goto(authority.issuer);
  await other.waitForSelector('html.ready');
  const session = async (page) => (await page.evaluate(async () => (await (await fetch('/v1/session')).json()).id));

  await press(page, 'cookie', 'Sign in');
  await heard(other, 'cookie', 'Another tab signed in.');
  assert.match(await face(other, 'cookie'), /signs out at/);
  await press(other, 'cookie', 'Sign in');
  await heard(page, 'cookie', 'Another tab signed in.');
  assert.equal(await session(page), await session(other));
  await press(other, 'cookie', 'Sign out');
  await heard(page, 'cookie', 'Another tab signed out.');
  assert.equal(await face(page, 'cookie'), 'Ended. You signed out.');
  assert.equal(await panel(other, 'cookie').locator('.log li', { hasText: 'Another tab signed out.' }).count(), 0);
  assert.deepEqual(complaints, []);
  await close();
});

test('when the authority does not answer the page says so, and stops when it does again', async () => {
  const { page, close } = await openPage(browser, authority.issuer);
  await page.route('**/*', (route) => route.abort());
  await page.getByRole('button', { name: '+1 min' }).click();
  await page.getByRole('status').filter({ hasText: 'does not answer' }).waitFor();
  await page.unroute('**/*');
  await page.waitForFunction(() => document.getElementById('status').textContent === '');
  await close();
});

test('a sign-in that is too long ago for a change is told in words of the page', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  await press(page, 'fixed', 'Sign in');
  await heard(page, 'fixed', 'Signed in.');
  await page.getByRole('button', { name: '+10 min' }).click();
  await page.getByRole('button', { name: 'Send code' }).click();
  await page.getByText('You signed in too long ago for this.').waitFor();
  assert.deepEqual(complaints, []);
  await close();
});

test('when the last session is over there are no devices and nothing to act through', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  await press(page, 'sliding', 'Sign in');
  await page.locator('#devices li').first().waitFor();
  assert.match(await page.locator('#devices li').first().textContent(), /\(this one\)/);
  await page.getByRole('button', { name: '+1 h' }).click();
  await heard(page, 'sliding', 'It was not used for too long.');
  await page.waitForFunction(() => document.querySelectorAll('#devices li').length === 0);
  assert.equal(await page.getByRole('button', { name: 'Save' }).getAttribute('aria-disabled'), 'true');
  await page.getByLabel('Name', { exact: true }).focus();
  await page.keyboard.press('Enter');
  await page.getByText('Sign in to one of the four first.').waitFor();
  assert.deepEqual(complaints, []);
  await close();
});

test('a record that was changed elsewhere is shown when a renewal brings it', async () => {
  const { page, complaints, close } = await openPage(browser, authority.issuer);
  await press(page, 'refresh', 'Sign in');
  await heard(page, 'refresh', 'Signed in.');
  const { user, clients } = authority.dev;
  const call = (method, path, token, body) =>
    fetch(`${authority.issuer}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify(body),
    }).then((answer) => answer.json());
  const login = await call('POST', '/v1/session', '', { client_id: clients.sliding.client_id, ...user });
  await call('PATCH', '/v1/me', login.access_token, { name: 'Changed Elsewhere' });
  await press(page, 'refresh', 'Renew');
  await heard(page, 'refresh', 'Renewed.');
  assert.equal(await claim(page, 'refresh', 'name'), 'Changed Elsewhere');
  await page.waitForFunction(() => document.getElementById('name').value === 'Changed Elsewhere');
  assert.deepEqual(complaints, []);
  await close();
});

/** Texts that stand out from what is behind them by less than WCAG AA asks for. Controls that are switched off are exempt. */
const faint = (page) =>
  page.evaluate(() => {
    const parse = (colour) => {
      const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
      return { rgb: [r, g, b], a };
    };
    const over = (top, alpha, bottom) => top.map((c, i) => c * alpha + bottom[i] * (1 - alpha));
    const light = (rgb) => {
      const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (node) => {
      const layers = [];
      for (let at = node; at; at = at.parentElement) layers.unshift(parse(getComputedStyle(at).backgroundColor));
      return layers.reduce((under, layer) => over(layer.rgb, layer.a, under), [255, 255, 255]);
    };
    const found = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
      const node = text.parentElement;
      if (!text.data.trim() || node.closest('[aria-disabled=true], svg, script, style, noscript, template') || !node.checkVisibility()) continue;
      let alpha = 1;
      for (let at = node; at; at = at.parentElement) alpha *= Number(getComputedStyle(at).opacity);
      const ground = behind(node);
      const { rgb, a } = parse(getComputedStyle(node).color);
      const [one, two] = [light(over(rgb, a * alpha, ground)), light(ground)];
      const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
      if (ratio < 4.5) found.push(`${text.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
    }
    return found;
  });

for (const colorScheme of ['light', 'dark']) {
  test(`every text stands out enough, ${colorScheme}`, async () => {
    const { page, close } = await openPage(browser, authority.issuer, { colorScheme });
    assert.deepEqual(await faint(page), [], 'signed out');
    await signInEverywhere(page);
    await press(page, 'refresh', 'Renew');
    await heard(page, 'refresh', 'Renewed.');
    await page.getByLabel('Name', { exact: true }).fill(`A name in the ${colorScheme}`);
    await page.getByRole('button', { name: 'Save' }).click();
    await heard(page, 'sliding', 'Resealed');
    assert.deepEqual(await faint(page), [], 'live, with claims that changed');
    await page.getByRole('button', { name: '+1 h' }).click();
    await heard(page, 'sliding', 'It was not used for too long.');
    assert.deepEqual(await faint(page), [], 'ended');
    await close();
  });
}

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
