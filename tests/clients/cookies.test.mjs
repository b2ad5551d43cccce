// Mode cookie: no token in the page, and nothing that another site's form, image or script can do with the cookie.

import assert from 'node:assert/strict';
import { after, afterEach, before } from 'node:test';
import { heard, row, signIn, signedIn, startWorld, test } from './support.mjs';

const DAY = 86_400;

let world;
before(async () => (world = await startWorld()));
afterEach(() => world.gate.clear());
after(() => world?.stop());

test('the page, the app and the authority on three ports: login, calls, renewal and reload work, and no token is anywhere', async () => {
  const browser = await world.context();
  const seen = [];
  const page = await browser.open('cookie', {
    prepare: (page) =>
      page.on('response', async (response) => {
        const text = await response.text().catch(() => '');
        const headers = { ...response.headers(), 'set-cookie': '' };
        seen.push({
          url: response.url(),
          text: text.startsWith('<') || response.url().endsWith('.js') ? '' : text,
          headers: JSON.stringify(headers),
          sent: JSON.stringify({ ...response.request().headers(), cookie: '' }),
        });
      }),
  });
  assert.equal(await signedIn(page), false);
  await signIn(page, await world.newUser());
  assert.equal((await page.evaluate(() => json('/api/me'))).name, 'Grace');
  await world.advance(8 * DAY);
  assert.equal((await page.evaluate(() => hit('/api/me'))).value.status, 200);
  assert.deepEqual(await page.evaluate(() => outcome(() => session.renew())), {});
  assert.equal((await page.evaluate(() => hit('/api/upgrade?role=gold', { method: 'POST' }))).value.status, 200);
  assert.equal((await page.evaluate(() => outcome(() => session.token()))).error, 'no_token');
  await page.reload();
  await page.evaluate(() => session.ready);
  assert.equal(await page.evaluate(() => session.user.name), 'Grace');

  const token = /eyJ[\w-]{10,}\.eyJ|rsl_(rt|sc)_/;
  assert.ok(seen.length > 6);
  for (const what of seen)
    for (const part of [what.url, what.text, what.headers, what.sent]) assert.doesNotMatch(part, token, what.url);
  const inPage = await page.evaluate(async () =>
    JSON.stringify([
      document.cookie,
      { ...localStorage },
      { ...sessionStorage },
      await indexedDB.databases(),
      await caches.keys(),
      session,
    ]),
  );
  assert.doesNotMatch(inPage, token);
  assert.equal(await page.evaluate(() => document.cookie), '');
  for (const { path, scheme, cookie } of world.app.requests.filter(({ path }) => path === '/api/me')) {
    assert.deepEqual([path, scheme, cookie], ['/api/me', '', true]);
  }
  const [cookie, more] = await browser.context.cookies();
  assert.equal(more, undefined);
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, 'Lax', '/']);
  await browser.close();
});

test('a tab that was open before the login, and a session from the last visit', async () => {
  const browser = await world.context();
  const [a, b] = [await browser.open('cookie'), await browser.open('cookie')];
  await signIn(a, await world.newUser());
  await heard(b, 'signedin');
  assert.equal(await b.evaluate(() => session.user.name), 'Grace');
  await a.close();
  await b.close();
  const c = await browser.open('cookie');
  assert.equal(await signedIn(c), true);
  await heard(c, 'signedin');
  await browser.close();
});

/** The same site to browsers, so that the cookie comes along. */
const SIBLING = 'another port of this machine';

const CALLS = [
  ['POST', '/v1/session/renew'],
  ['POST', '/v1/me/phone'],
  ['POST', '/v1/session'],
  ['DELETE', '/v1/session'],
  ['DELETE', '/v1/sessions'],
  ['PATCH', '/v1/me'],
  ['PUT', '/v1/me/password'],
  ['GET', '/v1/session'],
  ['GET', '/v1/me'],
  ['GET', '/v1/sessions'],
  ['GET', '/gateway/verify'],
];

for (const [where, origin] of [
  ['another site', () => world.foreign.crossSite],
  [SIBLING, () => world.foreign.origin],
]) {
  /** A signed-in user past the half-life, whom an ordinary call would renew; what the authority says must not change. */
  async function victim() {
    const user = await world.newUser();
    const browser = await world.context();
    const page = await browser.open('cookie');
    const id = await signIn(page, user);
    await world.advance(8 * DAY);
    const state = async () => [
      await row(world, id),
      await world.admin('GET', `/v1/admin/users/${user.sub}`),
      await browser.context.cookies(),
    ];
    const before = await state();
    const mark = world.gate.mark();
    const attacker = await browser.context.newPage();
    await attacker.goto(`${origin()}/page`);
    return {
      attacker,
      api: world.gate.origin,
      app: world.app.origin,
      /**
       * `used`: the app was asked to read something, which is a use of the session like any other. `sent`: calls that
       * change something did carry the cookie.
       */
      async unharmed({ used = false, sent = false } = {}) {
        const answers = world.gate.calls.slice(mark);
        assert.ok(answers.length > 0, 'the attack reached the authority');
        const withCookie = answers.filter(({ method, cookie }) => cookie && method !== 'GET').length;
        assert.equal(withCookie > 0, sent, 'what SameSite keeps back, and what it does not');
        assert.deepEqual(
          answers.filter(({ setsCookie }) => setsCookie),
          [],
          'no Set-Cookie',
        );
        const [now, then] = [await state(), before].map((state) => (used ? withoutUse(state) : state));
        assert.deepEqual(now, then);
        assert.equal((await page.evaluate(() => hit('/api/me'))).value.status, 200, 'the user goes on');
        await browser.close();
      },
    };
  }

  test(`a form of ${where} changes nothing`, async () => {
    const { attacker, api, app, unharmed } = await victim();
    for (const action of [
      `${api}/v1/session/renew`,
      `${api}/v1/me/phone`,
      `${api}/v1/session`,
      `${app}/api/upgrade?role=evil`,
    ]) {
      for (const enctype of ['application/x-www-form-urlencoded', 'text/plain', 'multipart/form-data']) {
        await attacker.evaluate(
          ([action, enctype]) =>
            new Promise((resolve) => {
              const frame = Object.assign(document.createElement('iframe'), { name: 'frame' });
              const form = Object.assign(document.createElement('form'), {
                action,
                enctype,
                method: 'POST',
                target: 'frame',
              });
              const field = Object.assign(document.createElement('input'), {
                name: '{"phone_number":"+491510000000","x":"',
                value: '"}',
              });
              form.append(field);
              document.body.append(frame, form);
              frame.onload = () => resolve(frame.remove());
              form.submit();
            }),
          [action, enctype],
        );
      }
      // And as a whole page, where a Lax cookie may come along.
      await attacker.evaluate((action) => {
        const form = Object.assign(document.createElement('form'), { action, method: 'POST' });
        document.body.append(form);
        form.submit();
      }, action);
      await attacker.waitForURL(action);
      await attacker.goto(`${origin()}/page`);
    }
    await unharmed({ sent: where === SIBLING });
  });

  test(`an image, a script, a link of ${where} changes nothing, and shows nothing`, async () => {
    const { attacker, api, app, unharmed } = await victim();
    for (const url of [
      `${api}/v1/session`,
      `${api}/v1/me`,
      `${api}/gateway/verify`,
      `${api}/v1/session/renew`,
      `${app}/api/me`,
    ]) {
      const read = await attacker.evaluate(async (url) => {
        const load = (tag, how) =>
          new Promise((resolve) => {
            const element = Object.assign(document.createElement(tag), {
              onload: () => resolve('loaded'),
              onerror: () => resolve('nothing'),
            });
            Object.assign(element, how);
            document.head.append(element);
          });
        return [
          await load('img', { src: url }),
          await load('script', { src: url }).then((what) => (window.stolen ? 'stolen' : what)),
          await load('link', { rel: 'stylesheet', href: url }),
        ];
      }, url);
      assert.equal(read[0], 'nothing', url);
      assert.notEqual(read[1], 'stolen');
      assert.notEqual(read[2], 'loaded', url);
    }
    // A link that the user follows: a reading call, which may come with the cookie.
    await attacker.goto(`${api}/v1/session`);
    await unharmed({ used: where === SIBLING });
  });

  test(`a script of ${where} changes nothing, and reads nothing`, async () => {
    const { attacker, api, app, unharmed } = await victim();
    const all = await attacker.evaluate(
      async ([api, app, calls]) => {
        const readable = [];
        const targets = [
          ...calls.map(([method, path]) => [method, api + path]),
          ['POST', `${app}/api/upgrade?role=evil`],
          ['GET', `${app}/api/me`],
        ];
        for (const [method, url] of targets) {
          for (const mode of ['cors', 'no-cors']) {
            for (const type of [undefined, 'text/plain', 'application/json']) {
              const body = method === 'GET' ? undefined : type === undefined ? '' : '{}';
              const init = {
                method,
                mode,
                credentials: 'include',
                body,
                headers: type ? { 'content-type': type } : {},
              };
              try {
                const answer = await fetch(url, init);
                const text = await answer.text();
                // A refusal may be read; what matters is what it says.
                if (text && answer.ok) readable.push([method, url, mode, answer.status, text]);
              } catch {
                // Not readable, or not even sent.
              }
            }
          }
        }
        return readable;
      },
      [api, app, CALLS],
    );
    assert.deepEqual(all, []);
    await unharmed({ used: where === SIBLING, sent: where === SIBLING });
  });
}

test('an origin that the client lists, on another site: Lax cookies stay behind, so the page is nobody there', async () => {
  const browser = await world.context();
  const page = await browser.open('cookie');
  await signIn(page, await world.newUser());
  const other = await browser.context.newPage();
  await other.goto(browser.address('cookie').replace('127.0.0.1', 'localhost'));
  await other.evaluate(() => session.ready);
  assert.equal(await signedIn(other), false);
  assert.equal(await signedIn(page), true);
  await browser.close();
});

/** Row, user and cookies, without what each use moves. */
const withoutUse = ([{ renewed_at, idle_expires_at, ...row }, user, cookies]) => [
  row,
  user,
  cookies.map(({ expires, ...cookie }) => cookie),
];
