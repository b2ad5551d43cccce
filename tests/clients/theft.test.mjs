// A stolen refresh token: the second party to use it ends the session, and the page is told why.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { events, heard, row, signIn, signedIn, startWorld, until, test } from './support.mjs';

const GRACE = 10;

let world;
before(async () => (world = await startWorld()));
after(() => world?.stop());

/** What a script that was injected into the page takes from localStorage. */
const steal = (page) => page.evaluate(() => JSON.stringify({ ...localStorage }).match(/rsl_rt_[\w-]+/)[0]);

async function present(refresh_token) {
  const form = new URLSearchParams({ grant_type: 'refresh_token', client_id: 'refresh-app', refresh_token });
  const answer = await fetch(`${world.issuer}/oauth/token`, { method: 'POST', body: form });
  return { status: answer.status, ...(await answer.json()) };
}

async function twoTabs() {
  const browser = await world.context();
  const [a, b] = [
    await browser.open('refresh', { storage: 'local' }),
    await browser.open('refresh', { storage: 'local' }),
  ];
  const id = await signIn(a, await world.newUser());
  await heard(b, 'signedin');
  return { browser, a, b, id };
}

async function toldOfTheft({ browser, a, b, id }) {
  for (const page of [a, b]) {
    await heard(page, 'signedout', { reason: 'reuse_detected' });
    assert.equal((await events(page, 'signedout')).length, 1);
    assert.equal(await signedIn(page), false);
    assert.doesNotMatch(await page.evaluate(() => JSON.stringify({ ...localStorage })), /eyJ|rsl_rt_/);
  }
  assert.equal((await row(world, id)).end_reason, 'reuse_detected');
  await browser.close();
}

test('a thief replays an old refresh token: the session ends, and both tabs are told', async () => {
  const tabs = await twoTabs();
  const old = await steal(tabs.a);
  for (let i = 0; i < 3; i += 1) {
    await world.advance(2 * GRACE + 1);
    await tabs.a.evaluate(() => session.renew());
  }
  const access = await tabs.a.evaluate(() => session.token());
  const { error, reason } = await present(old);
  assert.deepEqual([error, reason], ['invalid_grant', 'reuse_detected']);
  // The app refuses the living access token within a second, and so the page learns of it.
  await until(
    async () =>
      (await fetch(`${world.app.origin}/api/me`, { headers: { authorization: `Bearer ${access}` } })).status === 401,
    'the feed',
  );
  assert.equal((await tabs.b.evaluate(() => hit('/api/me'))).value?.status, 401);
  await toldOfTheft(tabs);
});

test('a thief uses the newest refresh token first: when its owner renews the session ends for both', async () => {
  const tabs = await twoTabs();
  const stolen = await present(await steal(tabs.a));
  assert.equal(stolen.status, 200);
  await world.advance(2 * GRACE + 1);
  const next = await present(stolen.refresh_token);
  assert.equal(next.status, 200);
  await world.advance(2 * GRACE + 1);
  const out = await tabs.a.evaluate(() => outcome(() => session.renew()));
  assert.deepEqual([out.error, out.reason], ['signed_out', 'reuse_detected']);
  assert.deepEqual((await present(next.refresh_token)).error, 'invalid_grant');
  await toldOfTheft(tabs);
});

test('a thief who shares a moment with the owner is found out at the next renewal but one', async () => {
  const tabs = await twoTabs();
  const token = await steal(tabs.a);
  await tabs.a.evaluate(() => session.renew());
  // Within the grace he gets the very successor that the owner has.
  const twin = await present(token);
  assert.equal(twin.status, 200);
  assert.equal(twin.refresh_token, await steal(tabs.a));
  await world.advance(2 * GRACE + 1);
  await tabs.a.evaluate(() => session.renew());
  await world.advance(2 * GRACE + 1);
  await tabs.a.evaluate(() => session.renew());
  await world.advance(2 * GRACE + 1);
  assert.equal((await present(twin.refresh_token)).reason, 'reuse_detected');
  await tabs.b.evaluate(() => outcome(() => session.renew()));
  await toldOfTheft(tabs);
});
