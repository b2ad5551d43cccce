// Whom the token is for: the app's own origins and the authority, and nobody else.

import assert from 'node:assert/strict';
import { after, afterEach, before } from 'node:test';
import { events, signIn, signedIn, startWorld, test } from './support.mjs';

let world;
before(async () => (world = await startWorld()));
afterEach(() => {
  world.foreign.seen.length = 0;
  world.gate.clear();
});
after(() => world?.stop());

const MODES = ['sliding', 'fixed', 'refresh', 'cookie'];

for (const mode of MODES) {
  test(`${mode}: a foreign origin gets neither token nor cookie, and no answer of its own is adopted`, async () => {
    const browser = await world.context();
    const page = await browser.open(mode);
    const user = await world.newUser();
    await signIn(page, user);
    const mark = world.gate.mark();
    for (const origin of [world.foreign.origin, world.foreign.crossSite]) {
      const out = await page.evaluate(
        async (origin) => [
          await hit(`${origin}/plain`),
          await hit(`${origin}/401`),
          await hit(`${origin}/plant`),
          await outcome(() => session.fetch(new URL(`${origin}/url`))),
          await outcome(() => session.fetch(new Request(`${origin}/request`))),
          // Looks like the app, is not.
          await hit(`${origin}/x?${location.origin}/api/me#@${location.host}`),
          await hit(origin.replace('//', `//${location.host.replace(':', '%3A')}@`) + '/user', {}),
          await outcome(() => session.prepare(`${origin}/prepare`)),
        ],
        origin,
      );
      assert.deepEqual(
        out.slice(0, 6).map(({ value }) => value?.status),
        [200, 401, 200, 200, 200, 200],
      );
      assert.equal(out[7].value, null);
    }
    assert.ok(world.foreign.seen.length >= 12);
    for (const { authorization, cookie, preflight } of world.foreign.seen) {
      assert.equal(authorization, undefined);
      assert.equal(cookie, undefined);
      assert.ok(!/authorization/i.test(preflight ?? ''), 'not even asked for');
    }
    assert.equal(world.gate.calls.length, mark, 'a foreign 401 renews nothing');
    assert.equal(await page.evaluate(() => session.user.sub), user.sub);
    assert.equal((await page.evaluate(() => json('/api/me'))).sub, user.sub);
    await browser.close();
  });

  test(`${mode}: a redirect from the app to a foreign origin takes no token along`, async () => {
    const browser = await world.context();
    const page = await browser.open(mode);
    await signIn(page, await world.newUser());
    // A page with another name for this machine would be another site, where no cookie goes either.
    for (const origin of mode === 'cookie'
      ? [world.foreign.crossSite]
      : [world.foreign.origin, world.foreign.crossSite]) {
      for (const path of ['/landed', '/401', '/plant']) {
        await page.evaluate((to) => hit(`/api/away?to=${encodeURIComponent(to)}`), origin + path);
      }
    }
    const landed = world.foreign.seen.filter(({ path }) => path);
    assert.ok(landed.length > 0, 'the redirect was followed');
    for (const { authorization, cookie } of world.foreign.seen) {
      assert.equal(authorization, undefined);
      assert.equal(cookie, undefined);
    }
    assert.equal(await signedIn(page), true);
    assert.deepEqual(await events(page, 'signedout'), []);
    await browser.close();
  });
}

test('a second own origin gets the token when the page lists it, and not else', async () => {
  const browser = await world.context();
  const other = world.app.origin.replace('127.0.0.1', 'localhost');
  const user = await world.newUser();
  const without = await browser.open('refresh');
  await signIn(without, user);
  assert.equal((await without.evaluate((other) => hit(`${other}/api/me`), other)).value.status, 401);
  assert.equal(world.app.requests.at(-1).scheme, '');

  const listed = await browser.open('refresh', { origins: [world.app.origin, other] });
  await signIn(listed, user);
  assert.equal((await listed.evaluate((other) => hit(`${other}/api/me`), other)).value.status, 200);
  // Its 401 counts as well: a renewal, and once more.
  await world.advance(6 * 60);
  assert.equal((await listed.evaluate((other) => hit(`${other}/api/me`), other)).value.status, 200);
  await browser.close();
});

test('an Authorization of the caller goes out as it is, and its 401 renews nothing', async () => {
  const browser = await world.context();
  const page = await browser.open('refresh');
  await signIn(page, await world.newUser());
  const [atGate, atApp] = [world.gate.mark(), world.app.mark()];
  const statuses = await page.evaluate(async () => {
    const own = [
      { headers: { Authorization: 'Bearer mine' } },
      { headers: new Headers({ authorization: 'Bearer mine' }) },
      { headers: [['AUTHORIZATION', 'Bearer mine']] },
    ];
    const got = [];
    for (const init of own) got.push((await hit('/broken/401', init)).value.status);
    got.push((await outcome(() => session.fetch(new Request('/broken/401', own[0])))).value.status);
    return got;
  });
  assert.deepEqual(statuses, [401, 401, 401, 401]);
  const sent = world.app.to('/broken/401', atApp);
  assert.equal(sent.length, 4);
  assert.equal(new Set(sent.map(({ auth }) => auth)).size, 1);
  assert.equal(world.gate.calls.length, atGate);
  assert.equal(await signedIn(page), true);
  await browser.close();
});

test('what a request has is kept: method, headers, body, and the answer as the app sent it', async () => {
  const browser = await world.context();
  const page = await browser.open('refresh');
  await signIn(page, await world.newUser());
  const bytes = await page.evaluate(async () => {
    const form = new FormData();
    form.set('file', new Blob(['x'.repeat(1000)]), 'x.txt');
    return [
      (await json('/api/count', { method: 'POST', body: 'abc', headers: { 'content-type': 'text/plain' } })).bytes,
      (await json('/api/count', { method: 'PUT', body: new Uint8Array(70_000) })).bytes,
      (await (await session.fetch(new Request('/api/count', { method: 'POST', body: 'abcd' }))).json()).bytes,
      (await json('/api/count', { method: 'POST', body: form })).bytes > 1000,
    ];
  });
  assert.deepEqual(bytes, [3, 70_000, 4, true]);
  await browser.close();
});
