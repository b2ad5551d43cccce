// Whoever signs out is signed out: in every tab, and whatever answers come late.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { events, heard, signIn, signedIn, startWorld, until, test } from './support.mjs';

let world;
before(async () => (world = await startWorld()));
after(() => world?.stop());

const stored = (page) =>
  page.evaluate(() => ({
    local: Object.keys(localStorage).filter((k) => localStorage[k].includes('eyJ')),
    session: Object.keys(sessionStorage).filter((k) => sessionStorage[k].includes('eyJ')),
  }));
const NOTHING = { local: [], session: [] };

test('sign-out in one tab while a request is under way in another: its renewed token, come late, revives nothing', async () => {
  const browser = await world.context();
  const [a, b] = [
    await browser.open('sliding', { storage: 'local' }),
    await browser.open('sliding', { storage: 'local' }),
  ];
  await signIn(a, await world.newUser());
  await heard(b, 'signedin');
  await world.advance(11 * 60);
  await b.evaluate(() => void (window.late = hit('/api/slow?id=late')));
  await until(() => world.app.holds('late'), 'the slow request');
  assert.deepEqual(await a.evaluate(() => outcome(() => session.signOut())), {});
  await heard(b, 'signedout', { reason: 'signed_out' });
  world.app.release('late');
  const { value } = await b.evaluate(() => window.late);
  assert.equal(value.status, 200, 'the answer itself still arrives');
  await gone(browser, [a, b], 'sliding');
  await browser.close();
});

test('sign-out in one tab while another renews: the answer, come late, revives nothing', async () => {
  const browser = await world.context();
  const [a, b] = [
    await browser.open('refresh', { storage: 'local' }),
    await browser.open('refresh', { storage: 'local' }),
  ];
  await signIn(a, await world.newUser());
  await heard(b, 'signedin');
  const held = world.gate.rule({ path: '/oauth/token', hold: true, times: 1 });
  await b.evaluate(() => void (window.late = outcome(() => session.renew())));
  await held.answered();
  assert.deepEqual(await a.evaluate(() => outcome(() => session.signOut())), {});
  await heard(b, 'signedout', { reason: 'signed_out' });
  held.release();
  assert.equal((await b.evaluate(() => window.late)).error, 'signed_out');
  await gone(browser, [a, b], 'refresh');
  await browser.close();
});

for (const storage of ['memory', 'session', 'local']) {
  test(`sign-out in the very tab that renews (${storage}): the answer, come late, revives nothing, not even over the next user's login`, async () => {
    const browser = await world.context();
    const page = await browser.open('refresh', { storage });
    const first = await signIn(page, await world.newUser());
    const held = world.gate.rule({ path: '/oauth/token', hold: true, times: 1 });
    await page.evaluate(() => void (window.late = outcome(() => session.renew())));
    await held.answered();
    assert.deepEqual(await page.evaluate(() => outcome(() => session.signOut())), {});
    assert.deepEqual(await stored(page), NOTHING);
    const next = await world.newUser({ name: 'Ada' });
    const second = await signIn(page, next);
    assert.notEqual(second, first);
    held.release();
    await page.evaluate(() => window.late);
    assert.equal(await page.evaluate(() => session.user.sub), next.sub);
    assert.equal((await page.evaluate(() => json('/api/me'))).sub, next.sub);
    await browser.close();
  });
}

test('memory: sign-out reaches the tabs of the same user, and no other', async () => {
  const browser = await world.context();
  const [user, stranger] = [await world.newUser(), await world.newUser()];
  const [a, b, c] = [await browser.open('refresh'), await browser.open('refresh'), await browser.open('refresh')];
  await signIn(a, user);
  await signIn(b, user);
  await signIn(c, stranger);
  assert.deepEqual(await a.evaluate(() => outcome(() => session.signOut())), {});
  await heard(b, 'signedout');
  assert.equal((await b.evaluate(() => outcome(() => session.token()))).error, 'signed_out');
  assert.equal((await c.evaluate(() => hit('/api/me'))).value.status, 200);
  assert.equal(await signedIn(c), true);
  await browser.close();
});

for (const mode of ['sliding', 'fixed', 'refresh', 'cookie']) {
  test(`${mode}: sign-out in one tab reaches the other, and the authority`, async () => {
    const browser = await world.context();
    const options = mode === 'cookie' ? {} : { storage: 'local' };
    const [a, b] = [await browser.open(mode, options), await browser.open(mode, options)];
    const id = await signIn(a, await world.newUser());
    await heard(b, 'signedin');
    await a.evaluate(() => session.signOut());
    await heard(b, 'signedout');
    assert.equal(await signedIn(b), false);
    await until(
      async () => (await world.admin('GET', `/v1/admin/sessions/${id}`)).end_reason === 'signed_out',
      'the end at the authority',
    );
    await gone(browser, [a, b], mode);
    await browser.close();
  });

  test(`${mode}: signing out everywhere, another browser is told why at its next use`, async () => {
    const user = await world.newUser();
    const [here, there] = [await world.context(), await world.context()];
    const [a, b] = [await here.open(mode), await there.open(mode)];
    await signIn(a, user);
    const id = await signIn(b, user);
    assert.deepEqual(await a.evaluate(() => outcome(() => session.signOut({ everywhere: true }))), {});
    assert.equal(await signedIn(a), false);
    const { end_reason } = await world.admin('GET', `/v1/admin/sessions/${id}`);
    // The app hears of it by the feed; the page by its next answer.
    await until(async () => (await b.evaluate(() => hit('/api/me'))).value?.status !== 200, 'the refusal');
    await heard(b, 'signedout', { reason: end_reason });
    assert.equal((await events(b, 'signedout')).length, 1);
    await here.close();
    await there.close();
  });
}

test('a session that an administrator ended: the page is told so', async () => {
  const browser = await world.context();
  const page = await browser.open('refresh', { storage: 'local' });
  const id = await signIn(page, await world.newUser());
  await world.admin('DELETE', `/v1/admin/sessions/${id}`);
  await until(async () => (await page.evaluate(() => hit('/api/me'))).value?.status !== 200, 'the refusal');
  await heard(page, 'signedout', { reason: 'revoked' });
  assert.deepEqual(await stored(page), NOTHING);
  await browser.close();
});

test('cookie: what the page asked before it signed out, and hears after it, revives nothing', async () => {
  const browser = await world.context();
  const [a, b] = [await browser.open('cookie'), await browser.open('cookie')];
  await signIn(a, await world.newUser());
  await heard(b, 'signedin');
  const held = world.gate.rule({ path: '/v1/session', method: 'GET', hold: true, times: 1 });
  await a.evaluate(() => session.call('PATCH', '/v1/me', { name: 'Ada' }));
  await held.answered();
  await b.evaluate(() => void (window.out = outcome(() => session.signOut())));
  await until(() => browser.context.cookies().then(({ length }) => length === 0), 'the end of the cookie');
  held.release();
  assert.deepEqual(await b.evaluate(() => window.out), {});
  for (const page of [a, b]) {
    await heard(page, 'signedout');
    assert.equal(await signedIn(page), false);
  }
  await browser.close();
});

test('cookie: where the authority is away the sign-out fails, and says so', async () => {
  const browser = await world.context();
  const page = await browser.open('cookie');
  await signIn(page, await world.newUser());
  const away = world.gate.away();
  assert.equal((await page.evaluate(() => outcome(() => session.signOut()))).error, 'unavailable');
  away.end();
  assert.equal(await signedIn(page), true);
  assert.deepEqual(await page.evaluate(() => outcome(() => session.signOut())), {});
  assert.equal(await signedIn(page), false);
  assert.deepEqual(await browser.context.cookies(), []);
  await browser.close();
});

test('tokens: where the authority is away the sign-out holds in this browser', async () => {
  const browser = await world.context();
  const page = await browser.open('refresh', { storage: 'local' });
  await signIn(page, await world.newUser());
  const away = world.gate.away();
  await page.evaluate(() => outcome(() => session.signOut()));
  away.end();
  await gone(browser, [page], 'refresh');
  await browser.close();
});

/** Signed out in these pages, in the storage, and in a page that opens now. */
async function gone(browser, pages, mode) {
  const fresh = await browser.open(mode, mode === 'cookie' ? {} : { storage: 'local' });
  for (const page of [...pages, fresh]) {
    assert.equal(await signedIn(page), false);
    assert.deepEqual(await stored(page), NOTHING);
    assert.equal(
      (await page.evaluate(() => outcome(() => session.token()))).error,
      mode === 'cookie' ? 'no_token' : 'signed_out',
    );
    assert.equal((await page.evaluate(() => hit('/api/me'))).value.status, 401, 'as nobody');
  }
}
