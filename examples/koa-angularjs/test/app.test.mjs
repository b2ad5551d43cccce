// The shop as a person uses it: every way to keep a session, in Chromium, against the real authority.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  KINDS,
  NUMBER,
  address,
  button,
  claim,
  claimIs,
  dial,
  dialSays,
  heard,
  signIn,
  signedIn,
  signedOut,
  turnOnPhone,
  useCode,
} from './page.mjs';
import { shot, startBrowser, startPerson, startShop } from './support.mjs';

let browser;
before(async () => {
  browser = await startBrowser();
});
after(() => browser?.close());

/** A shop and people in it, gone when the test is over. */
async function world(t, people = 1, options = {}) {
  const shop = await startShop();
  t.after(() => shop.stop());
  const all = await Promise.all(Array.from({ length: people }, () => startPerson(browser, shop, options)));
  for (const person of all) t.after(() => person.close());
  const noComplaints = () => {
    for (const { complaints } of all) assert.deepEqual(complaints, []);
    assert.deepEqual(
      shop.errors.filter((error) => !error.expose),
      [],
    );
  };
  return { shop, people: all, noComplaints };
}

/** What the dial says right after a login. */
const FRESH = {
  sliding: /^Can renew in \d+ min( \d+ s)?, signs out at .* if unused\.$/,
  fixed: /^Signs out at .*\.$/,
  refresh: /^Token good for \d+ min( \d+ s)?, signs out at .* if unused\.$/,
  cookie: /^Can renew in \d days, signs out at .* if unused\.$/,
};

for (const kind of KINDS) {
  describe(kind, { concurrency: false }, () => {
    test('a login, protected calls, one that is forbidden, and a sign-out', async (t) => {
      const { people, noComplaints } = await world(t);
      const page = await people[0].open(address(kind));
      assert.equal(await dial(page), 'Not signed in.');
      await shot(page, `${kind}-before`);
      await signIn(page);
      assert.match(await dialSays(page, FRESH[kind]), FRESH[kind]);

      const orders = page.locator('#orders');
      await orders.getByText('Coffee beans, 1 kg').waitFor();
      await button(page, 'Order').click();
      await orders.getByText('Ordered: Cinnamon buns.').waitFor();
      assert.equal(await orders.locator('li').count(), 3);

      await button(page, 'Takings, for admins').click();
      await orders.getByText('403: The takings are for the role "admin".').waitFor();
      assert.equal(await page.locator('.journal li', { hasText: 'Renewed' }).count(), 0, 'a 403 renews nothing');

      // Without a second factor there is nothing to log in again with.
      await button(page, 'Refund Filter papers').click();
      await orders.getByText('Turn on your phone first').waitFor();

      await claimIs(page, 'phone_number', 'null');
      const shown = await page.locator('#payload .jwt span').allTextContents();
      assert.equal(shown.length, kind === 'cookie' ? 0 : 3);
      assert.equal(await page.getByText('No script on this page sees a token').count(), kind === 'cookie' ? 1 : 0);
      await shot(page, kind);

      await button(page, 'Sign out').click();
      await signedOut(page);
      assert.equal(await dial(page), 'Ended. You signed out.');
      await page.locator('#orders').getByText('Sign in to see them.').waitFor();
      noComplaints();
    });

    test('the phone number, at once, in a second tab and in a second browser; and a stronger login', async (t) => {
      const { people, noComplaints } = await world(t, 2);
      const [here, there] = people;
      const first = await here.open(address(kind));
      await signIn(first);
      const second = await here.open(address(kind));
      await signedIn(second);
      const other = await there.open(address(kind));
      await signIn(other);
      for (const page of [first, second, other]) await claimIs(page, 'phone_number', 'null');

      await turnOnPhone(first);
      for (const page of [first, second, other]) {
        await claimIs(page, 'phone_number', NUMBER, { changed: true });
        await page.locator('#fact-phone', { hasText: `${NUMBER}, second factor` }).waitFor();
      }
      assert.equal(await first.locator('.codes li').count(), 10);
      await shot(first, `${kind}-phone`);

      // The login here has seen a code; the one in the other browser has not.
      await button(first, 'Refund Filter papers').click();
      await first.getByText('Refunded: Filter papers.').waitFor();
      await button(other, 'Refund Coffee beans, 1 kg').click();
      const dialog = other.getByRole('dialog');
      await dialog.getByRole('button', { name: 'Sign in' }).click();
      await dialog.getByRole('button', { name: 'Use it' }).waitFor();
      await dialog.getByRole('button', { name: 'Use it' }).click();
      await shot(other, `${kind}-step-up`);
      await dialog.getByRole('button', { name: 'Continue' }).click();
      await other.getByText('Refunded: Coffee beans, 1 kg.').waitFor();
      await claimIs(other, 'acr', 'aal2');
      assert.equal(await dialog.count(), 0);
      // The weaker session is gone: one in each browser.
      await button(other, 'Look again').click();
      await other.waitForFunction(() => document.querySelectorAll('#devices .lines li').length === 2);
      noComplaints();
    });

    test('the backend changes the record: in the very answer, and everywhere else', async (t) => {
      const { people, noComplaints } = await world(t, 2);
      const [here, there] = people;
      const first = await here.open(address(kind));
      await signIn(first);
      const second = await here.open(address(kind));
      await signedIn(second);
      const other = await there.open(address(kind));
      await signIn(other);

      await button(first, 'Upgrade to pro').click();
      for (const page of [first, second, other]) {
        await claimIs(page, 'attributes', '{"plan":"pro"}', { changed: true });
        await page.locator('#fact-plan', { hasText: 'pro' }).waitFor();
      }
      await first
        .getByText(
          kind === 'cookie' ? 'Changed. The shop has it at once;' : 'Changed. The new token came with this answer.',
        )
        .waitFor();
      await button(first, 'Make me an admin').click();
      await button(first, 'Take the role "admin" away').waitFor();
      await button(other, 'Takings, for admins').click();
      await other.getByText('Takings: €').waitFor();
      noComplaints();
    });

    test('a sign-out in one tab reaches the other; the other browser is ended from the list', async (t) => {
      const { people, noComplaints } = await world(t, 2);
      const [here, there] = people;
      const first = await here.open(address(kind));
      await signIn(first);
      const second = await here.open(address(kind));
      await signedIn(second);
      const other = await there.open(address(kind));
      await signIn(other);

      await button(first, 'Look again').click();
      await first
        .locator('#devices')
        .getByRole('button', { name: /^End Chrome/ })
        .click();
      await first.getByText('That session is ended').waitFor();
      await dialSays(other, /^Ended\. It was signed out from elsewhere\.$/);
      await signedOut(other);
      await shot(other, `${kind}-ended`);

      await button(first, 'Sign out').click();
      await signedOut(second);
      assert.match(await dial(second), /^Ended\./);
      noComplaints();
    });
  });
}

describe('clocks', { concurrency: false }, () => {
  test('sliding: a used session is renewed past half of its life, and an unused one ends', async (t) => {
    const { people, noComplaints } = await world(t);
    const page = await people[0].open(address('sliding'));
    await signIn(page);
    const before = await claim(page, 'exp').locator('span').textContent();
    await button(page, '+10 min').click();
    await heard(page, 'Renewed.');
    await dialSays(page, FRESH.sliding);
    assert.ok(Number(await claim(page, 'exp').locator('span').textContent()) >= Number(before) + 600);

    await page.getByLabel('Make that call').uncheck();
    await button(page, '+10 min').click();
    await dialSays(page, /^Renews with the next call, signs out at .* if unused\.$/);
    await button(page, '+10 min').click();
    await dialSays(page, /^Ran out at .*\. The next call will say so\.$/);
    assert.equal(await page.locator('.journal li', { hasText: 'Renewed.' }).count(), 1, 'nothing used it');
    await page.getByLabel('Make that call').check();
    await dialSays(page, /^Ended\. It was not used for too long\.$/);
    await signedOut(page);
    await shot(page, 'ended');
    noComplaints();
  });

  test('refresh: eight hours later one is still in, with a new token', async (t) => {
    const { people, noComplaints } = await world(t);
    const page = await people[0].open(address('refresh'));
    await signIn(page);
    await button(page, '+8 h').click();
    await heard(page, 'Renewed.');
    await dialSays(page, FRESH.refresh);
    await button(page, 'Order').click();
    await page.getByText('Ordered: Cinnamon buns.').waitFor();
    noComplaints();
  });

  test('the long-lived token and the cookie do not mind eight hours', async (t) => {
    const { people, noComplaints } = await world(t);
    for (const kind of ['fixed', 'cookie']) {
      const page = await people[0].open(address(kind));
      await signIn(page);
      await button(page, '+8 h').click();
      await heard(page, 'The clock was moved: +8 h.');
      await button(page, 'Order').click();
      await page.getByText('Ordered: Cinnamon buns.').waitFor();
      await page.close();
    }
    noComplaints();
  });
});

describe('the page', { concurrency: false }, () => {
  test('memory is gone with a reload, the tab keeps its own, the choice is in the address', async (t) => {
    const { people, noComplaints } = await world(t);
    const page = await people[0].open('/');
    await page.getByRole('link', { name: /^2\.3/ }).click();
    await page.waitForURL(/keep=refresh/);
    for (const [name, stays] of [
      ['Memory', false],
      ['This tab', true],
    ]) {
      await page.getByRole('link', { name, exact: true }).click();
      await page.getByRole('link', { name, exact: true }).and(page.locator('[aria-current]')).waitFor();
      await signIn(page);
      await page.reload();
      await (stays ? signedIn(page) : signedOut(page));
    }
    const other = await people[0].open(new URL(page.url()).search.replace(/^/, '/'));
    await signedOut(other);
    await page.getByRole('link', { name: /Cookie/ }).click();
    await page.waitForURL(/keep=cookie/);
    await signIn(page);
    const reached = await page.evaluate(() => JSON.stringify([document.cookie, { ...localStorage }, location.href]));
    assert.ok(!reached.includes('rsl_sc_'), reached);
    noComplaints();
  });

  test('two tabs with a memory each: the number comes with the next small call', async (t) => {
    const { people, noComplaints } = await world(t);
    const [first, second] = [
      await people[0].open(address('refresh', 'memory')),
      await people[0].open(address('refresh', 'memory')),
    ];
    for (const page of [first, second]) {
      await signIn(page);
      await claimIs(page, 'phone_number', 'null');
    }
    await turnOnPhone(first);
    for (const page of [first, second]) await claimIs(page, 'phone_number', NUMBER, { changed: true });
    noComplaints();
  });

  test('a login that is older than five minutes says the password again; signing out everywhere ends all', async (t) => {
    const { people, noComplaints } = await world(t, 2);
    const [page, other] = [await people[0].open(address('refresh')), await people[1].open(address('cookie'))];
    await signIn(other);
    await signIn(page);
    await button(page, '+10 min').click();
    await heard(page, 'Renewed.');
    const card = page.locator('#phone');
    await card.getByRole('button', { name: 'Send code' }).click();
    await card
      .getByLabel('Password')
      .fill(
        await page
          .locator('#desk')
          .evaluate(() => JSON.parse(document.getElementById('settings').textContent).demo.password),
      );
    await turnOnPhone(page);
    await claimIs(page, 'phone_number', NUMBER, { changed: true });

    await button(page, 'Sign out everywhere').click();
    await signedOut(page);
    await signedOut(other);
    assert.match(await dial(other), /^Ended\./);
    noComplaints();
  });

  test('sliding: "Renew now" before the half-life writes nothing, and says so', async (t) => {
    const { people, noComplaints } = await world(t);
    const page = await people[0].open(address('sliding'));
    await signIn(page);
    await button(page, 'Renew now').click();
    await heard(page, 'Too early to renew: nothing was written.');
    noComplaints();
  });

  test('the authority away: nobody is signed out, and who has a token goes on', async (t) => {
    const { shop, people } = await world(t, 2);
    const [token, cookie] = [await people[0].open(address('sliding')), await people[1].open(address('cookie'))];
    for (const page of [token, cookie]) {
      await signIn(page);
      await page.locator('#live').getByText('The Koa app knows you at revision').waitFor();
    }
    await shop.authority.stop();
    await cookie.locator('#live').getByText('No answer; you stay signed in.').waitFor();
    await button(token, 'Order').click();
    await token.getByText('Ordered: Cinnamon buns.').waitFor();
    await button(token, 'Upgrade to pro').click();
    await token.locator('#record').getByText('You stay signed in; try again.').waitFor();
    for (const page of [token, cookie]) assert.equal(await button(page, 'Sign out').count(), 1);
    // What cannot be told to the authority is done here all the same, where that is possible; and neither is called the other.
    await button(token, 'Sign out everywhere').click();
    await heard(token, 'You are signed out here; elsewhere it could not be done.');
    await signedOut(token);
    await button(cookie, 'Sign out').click();
    await heard(cookie, 'You stay signed in; try again.');
    assert.equal(await button(cookie, 'Sign out').count(), 1);
  });

  test('a wrong password and a wrong code are said in words', async (t) => {
    const { people, noComplaints } = await world(t);
    const page = await people[0].open(address('refresh', 'memory'));
    const desk = page.locator('#desk');
    const right = await desk.getByLabel('Password').inputValue();
    await desk.getByLabel('Password').fill('not the password');
    await button(page, 'Sign in').click();
    await desk.getByText('The name or the password is wrong.').waitFor();
    await desk.getByLabel('Password').fill(right);
    await signIn(page);
    const card = page.locator('#phone');
    await card.getByRole('button', { name: 'Send code' }).click();
    const code = card.getByLabel('Code', { exact: true });
    await useCode(page, code);
    const wrong = String((Number(await code.inputValue()) + 1) % 1_000_000).padStart(6, '0');
    await code.fill(wrong);
    await card.getByRole('button', { name: 'Verify' }).click();
    await card.getByText('The code is wrong.').waitFor();
    await useCode(page, code);
    await card.getByRole('button', { name: 'Verify' }).click();
    await card.getByText('It is on.').waitFor();

    // From now on a login asks for it; and it can be turned off again.
    await button(page, 'Sign out').click();
    await signedOut(page);
    await desk.getByRole('button', { name: 'Sign in' }).click();
    await desk.getByRole('button', { name: 'Use it' }).click();
    await desk.getByRole('button', { name: 'Continue' }).click();
    await signedIn(page);
    await claimIs(page, 'acr', 'aal2');
    await button(page, 'Turn off').click();
    await claimIs(page, 'phone_number', 'null', { changed: true });
    noComplaints();
  });

  test('a field that is empty or wrong is said at the field, and nothing is sent', async (t) => {
    const { people, noComplaints } = await world(t);
    const page = await people[0].open(address('refresh', 'memory'));
    const sent = [];
    page.on('request', (request) => request.method() === 'POST' && sent.push(request.url()));
    const refused = async (field, value, press) => {
      const before = sent.length;
      await field.fill(value);
      await button(page, press).click();
      assert.notEqual(await field.evaluate((node) => node.validationMessage), '');
      assert.ok(await field.evaluate((node) => node === document.activeElement), 'and the field has the focus');
      assert.equal(sent.length, before);
    };
    const desk = page.locator('#desk');
    for (const label of ['Username', 'Password']) {
      const right = await desk.getByLabel(label).inputValue();
      await refused(desk.getByLabel(label), '', 'Sign in');
      await desk.getByLabel(label).fill(right);
    }
    await signIn(page);
    const price = page.getByLabel('Price, €');
    for (const wrong of ['', '0', '-1', '1.005', '10000.01']) await refused(price, wrong, 'Order');
    await price.fill('1');
    await refused(page.getByLabel('Item'), '', 'Order');
    const card = page.locator('#phone');
    const number = card.getByLabel('Phone number');
    await refused(number, '', 'Send code');
    for (const wrong of ['   ', '0151', '+'.repeat(100_000)]) {
      await number.fill(wrong);
      await button(page, 'Send code').click();
      await card.getByText(/^phone_number: /).waitFor();
    }
    await number.fill(NUMBER);
    await button(page, 'Send code').click();
    const code = card.getByLabel('Code', { exact: true });
    await code.waitFor();
    await refused(code, '', 'Verify');
    await code.fill('   ');
    await button(page, 'Verify').click();
    await card.getByText('The code is wrong. 4 tries left.').waitFor();
    await button(page, 'Back').click();
    await card.getByText('The code is wrong.').waitFor({ state: 'detached' });
    noComplaints();
  });

  test('by keyboard: the focus stays near what it was used for, and can be seen', async (t) => {
    const { people, noComplaints } = await world(t, 2);
    const page = await people[0].open(address('refresh', 'memory'));
    const press = async (control) => {
      await control.focus();
      await page.keyboard.press('Enter');
    };
    const focusIsIn = (id) =>
      page.waitForFunction((id) => {
        const here = document.activeElement;
        return here !== document.body && here.closest(id) && getComputedStyle(here).outlineStyle === 'solid';
      }, id);
    await press(page.locator('#desk').getByRole('button', { name: 'Sign in' }));
    await signedIn(page);
    await focusIsIn('#desk');
    await press(button(page, 'Send code'));
    const code = page.locator('#phone').getByLabel('Code', { exact: true });
    await useCode(page, code);
    await press(button(page, 'Verify'));
    await page.getByText('It is on.').waitFor();
    await focusIsIn('#phone');
    await press(button(page, 'Refund Filter papers'));
    await page.getByText('Refunded: Filter papers.').waitFor();
    await focusIsIn('#orders');
    await press(button(page, 'Turn off'));
    await page.getByText('It is off.').waitFor();
    await focusIsIn('#phone');

    const other = await people[1].open(address('refresh'));
    await signIn(other);
    await press(button(page, 'Look again'));
    const end = page.locator('#devices').getByRole('button', { name: /^End Chrome/ });
    await press(end);
    await page.getByText('That session is ended').waitFor();
    await end.waitFor({ state: 'detached' });
    await focusIsIn('#devices');
    await press(button(page, 'Sign out'));
    await signedOut(page);
    await focusIsIn('#desk');
    noComplaints();
  });

  test('on a phone nothing hangs over, and everything can be used', async (t) => {
    const { shop, people, noComplaints } = await world(t, 1, {
      viewport: { width: 360, height: 740 },
      isMobile: true,
      hasTouch: true,
    });
    const page = await people[0].open(address('sliding'));
    const wide = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(await wide(), 0);
    await shot(page, 'phone-before');
    await signIn(page);
    await turnOnPhone(page);
    await claimIs(page, 'phone_number', NUMBER, { changed: true });
    assert.equal(await wide(), 0);
    await shot(page, 'phone');
    await page.getByRole('link', { name: 'What each choice costs' }).first().click();
    await page.getByRole('heading', { name: 'What each choice costs' }).waitFor();
    assert.equal(await wide(), 0);
    await shot(page, 'phone-costs');
    // And on the way from there to a desk.
    for (const path of ['/costs', address('cookie'), address('refresh')]) {
      await page.goto(`${shop.url}${path}`);
      for (const width of [320, 480, 640, 720, 800, 1080, 1264]) {
        await page.setViewportSize({ width, height: 900 });
        assert.equal(await wide(), 0, `${path} at ${width}`);
      }
    }
    noComplaints();
  });

  for (const colorScheme of ['light', 'dark']) {
    test(`every text can be read: ${colorScheme}`, async (t) => {
      const { people, noComplaints } = await world(t, 1, { colorScheme });
      const page = await people[0].open(address('refresh'));
      await signIn(page);
      await button(page, 'Upgrade to pro').click();
      await claimIs(page, 'attributes', '{"plan":"pro"}', { changed: true });
      const ratios = await page.evaluate(contrasts);
      for (const [pair, ratio, least] of ratios) assert.ok(ratio >= least, `${pair}: ${ratio.toFixed(2)}`);
      assert.ok(ratios.length >= 16);
      await shot(page, colorScheme);
      const costs = await people[0].open('/costs');
      await shot(costs, `costs-${colorScheme}`);
      noComplaints();
    });
  }

  test('nothing moves when the clock ticks, and all controls have a name', async (t) => {
    const { people, noComplaints } = await world(t);
    const page = await people[0].open(address('sliding'));
    await signIn(page);
    await claimIs(page, 'phone_number', 'null');
    const places = () =>
      page.evaluate(() =>
        [...document.querySelectorAll('h2, button, input')]
          .map((node) => Object.values(node.getBoundingClientRect().toJSON()).join())
          .join('\n'),
      );
    await page.locator('#live').getByText('The Koa app knows you at revision').waitFor();
    const before = await places();
    const said = await dial(page);
    await page.waitForFunction((said) => document.querySelector('.dial').getAttribute('aria-label') !== said, said);
    assert.equal(await places(), before);
    const nameless = await page.evaluate(
      () =>
        [...document.querySelectorAll('input')].filter((node) => node.labels.length === 0 && !node.ariaLabel).length,
    );
    assert.equal(nameless, 0);
    noComplaints();
  });

  test('the second page stands without a script, and leads on to the book', async (t) => {
    const { shop, people, noComplaints } = await world(t, 1, { javaScriptEnabled: false });
    const page = await people[0].open('/costs');
    await page.getByRole('heading', { name: 'Compared' }).waitFor();
    const links = await page.locator('a[href^="/"]').evaluateAll((all) => all.map((a) => a.getAttribute('href')));
    assert.ok(links.some((link) => link.startsWith('/book/')));
    for (const link of new Set(links)) assert.equal((await fetch(shop.url + link)).status, 200, link);
    noComplaints();
  });
});

/** Runs in the page: contrast of the colours that stand on each other (WCAG 2.2, 1.4.3 and 1.4.11). */
function contrasts() {
  const canvas = document.createElement('canvas').getContext('2d');
  const rgb = (name) => {
    canvas.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name);
    return [1, 3, 5].map((at) => parseInt(canvas.fillStyle.slice(at, at + 2), 16) / 255);
  };
  const light = (name) => {
    const [r, g, b] = rgb(name).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const texts = ['--ink', '--quiet', '--red', '--green', '--brass'].flatMap((text) =>
    ['--paper', '--card'].map((ground) => [text, ground, 4.5]),
  );
  const others = [
    ['--green', '--mark', 4.5],
    ['--quiet', '--mark', 4.5],
    ['--ink', '--track', 4.5],
    ['--arc', '--card', 3],
    ['--green', '--card', 3],
    ['--red', '--card', 3],
    ['--field', '--card', 3],
  ];
  return [...texts, ...others].map(([a, b, least]) => [`${a} on ${b}`, ratio(a, b), least]);
}
