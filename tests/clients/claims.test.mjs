// The record changes, and every page shows it: the one that asked, its neighbour, another browser; whoever changed it.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { events, heard, signIn, startWorld, until, test } from './support.mjs';

let world;
before(async () => (world = await startWorld()));
after(() => world?.stop());

const MODES = ['sliding', 'fixed', 'refresh', 'cookie'];
const shared = (mode) => (mode === 'cookie' ? {} : { storage: 'local' });

/** Two tabs of one browser, and another browser, all of one user. */
async function three(mode) {
  const user = await world.newUser();
  const [here, there] = [await world.context(), await world.context()];
  const [tab, neighbour, far] = [
    await here.open(mode, shared(mode)),
    await here.open(mode, shared(mode)),
    await there.open(mode),
  ];
  await signIn(tab, user);
  await heard(neighbour, 'signedin');
  await signIn(far, user);
  const close = async () => {
    await here.close();
    await there.close();
  };
  return { user, tab, neighbour, far, close };
}

/**
 * The other browser needs nothing but to be used: the app knows by the feed, and its answer brings the new claims. A cookie
 * brings none to the page, which asks the authority when it is looked at again.
 */
const used = (page, ready) =>
  until(async () => {
    assert.equal((await page.evaluate(() => hit('/api/me'))).value?.status, 200);
    await page.evaluate(() => void (session.info.kind === 'cookie' && dispatchEvent(new Event('focus'))));
    return page.evaluate(ready);
  }, 'the new claims');

for (const mode of MODES) {
  test(`${mode}: a new name, changed in the page, is in the payload at once, in the other tab, and in another browser`, async () => {
    const { tab, neighbour, far, close } = await three(mode);
    const out = await tab.evaluate(() =>
      outcome(async () => void (await session.call('PATCH', '/v1/me', { name: 'Grace Hopper' }))),
    );
    assert.deepEqual(out, {});
    assert.equal(await tab.evaluate(() => session.user.name), 'Grace Hopper');
    const [{ user, previous }] = await events(tab, 'claims');
    assert.deepEqual([user.name, previous.name], ['Grace Hopper', 'Grace']);
    await neighbour.waitForFunction(() => session.user.name === 'Grace Hopper');
    await heard(neighbour, 'claims');
    await used(far, () => session.user.name === 'Grace Hopper');
    for (const page of [tab, neighbour, far]) {
      assert.equal((await page.evaluate(() => json('/api/me'))).name, 'Grace Hopper', 'as the app sees it');
      assert.deepEqual(await events(page, 'signedout'), []);
    }
    await close();
  });

  test(`${mode}: turning on the second factor by phone puts the number into the payload, everywhere`, async () => {
    const { user, tab, neighbour, far, close } = await three(mode);
    const phone = '+49151' + String(Math.floor(Math.random() * 1e8)).padStart(8, '0');
    const { challenge } = await tab.evaluate(
      (phone_number) => session.call('POST', '/v1/me/phone', { phone_number }),
      phone,
    );
    const code = await world.code();
    const answer = await tab.evaluate((step) => session.call('POST', '/v1/me/phone/verify', step), { challenge, code });
    assert.ok(answer.recovery_codes.length > 0);
    assert.equal(await tab.evaluate(() => session.user.phone_number), phone);
    await neighbour.waitForFunction((phone) => session.user.phone_number === phone, phone);
    await used(far, `session.user.phone_number === '${phone}'`);

    // And a login now asks for the code.
    const again = await world.context();
    const page = await again.open(mode);
    const first = await page.evaluate((who) => session.login(who), user.login);
    assert.equal(first.status, 'second_factor_required');
    const wrong = (await world.code()) === '000000' ? '111111' : '000000';
    assert.equal(
      (await page.evaluate((code) => outcome(() => session.secondFactor({ code })), wrong)).error,
      'invalid_code',
    );
    const passed = await page.evaluate((code) => session.secondFactor({ code }), await world.code());
    assert.equal(passed.phone_number, phone);
    await again.close();
    await close();
  });

  test(`${mode}: what the backend changes through the administration API reaches every page that is used`, async () => {
    const { user, tab, neighbour, far, close } = await three(mode);
    await world.admin('PATCH', `/v1/admin/users/${user.sub}`, { roles: ['owner'] });
    for (const page of [tab, neighbour, far]) {
      await used(page, () => session.user.roles?.includes('owner'));
      await heard(page, 'claims');
    }
    await close();
  });

  test(`${mode}: what the app itself changes is in its very answer, and in the other tab`, async () => {
    const { tab, neighbour, close } = await three(mode);
    assert.deepEqual(await tab.evaluate(() => json('/api/upgrade?role=gold', { method: 'POST' })), {
      resealed: true,
    });
    if (mode === 'cookie') await used(tab, () => session.user.roles.includes('gold'));
    assert.deepEqual(await tab.evaluate(() => session.user.roles), ['gold']);
    await neighbour.waitForFunction(() => session.user.roles?.includes('gold'));
    await close();
  });
}

test('a service that leaves stale claims to the client: one renewal for 50 requests, then all pass', async () => {
  for (const mode of ['sliding', 'fixed', 'refresh']) {
    const user = await world.newUser();
    const browser = await world.context();
    const page = await browser.open(mode);
    await signIn(page, user);
    assert.equal((await page.evaluate(() => hit('/api/strict/me'))).value.status, 200);
    await world.admin('PATCH', `/v1/admin/users/${user.sub}`, { name: 'Ada' });
    // As soon as the service knows, each of the old tokens is 401 claims_changed there.
    const old = await page.evaluate(() => session.token());
    await until(
      async () =>
        (await fetch(`${world.app.origin}/api/strict/me`, { headers: { authorization: `Bearer ${old}` } })).status ===
        401,
      'the feed',
    );
    const [atGate, atApp] = [world.gate.mark(), world.app.mark()];
    const all = await page.evaluate(() => Promise.all(Array.from({ length: 50 }, () => hit('/api/strict/me'))));
    assert.deepEqual(new Set(all.map(({ value }) => value?.status)), new Set([200]), mode);
    assert.equal(world.gate.calls.length - atGate, 1, `${mode}: one renewal`);
    assert.ok(world.app.to('/api/strict/me', atApp).length <= 100);
    assert.equal(await page.evaluate(() => session.user.name), 'Ada');
    await browser.close();
  }
});
