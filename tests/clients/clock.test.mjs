// Time: sleep, a clock that is wrong or jumps, pages that nobody looks at. Timers here never fire because a test waited.

import assert from 'node:assert/strict';
import { after, afterEach, before } from 'node:test';
import { backAgain, events, heard, row, signIn, signedIn, startWorld, until, wrongClock, test } from './support.mjs';

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;
const MODES = ['sliding', 'fixed', 'refresh', 'cookie'];

let world;
before(async () => (world = await startWorld()));
afterEach(() => world.gate.clear());
after(() => world?.stop());

const at = (mode) => (mode === 'cookie' ? {} : { storage: 'local' });
const me = (page) => page.evaluate(() => hit('/api/me'));
const wake = (page) =>
  page.evaluate(() => void document.dispatchEvent(new Event('visibilitychange', { bubbles: true })));

/**
 * The two ways in which a machine sleeps. Where the monotonic clock stands still (Linux, macOS) timers are late by the
 * whole sleep; where it goes on (Windows) they all fire at once on waking.
 */
const SLEEPERS = {
  'timers stand still': {
    prepare: wrongClock(0),
    sleep: (page, seconds) => page.evaluate((seconds) => deviceClock(seconds), seconds),
  },
  'timers fire at once': {
    prepare: (page) => page.clock.install(),
    sleep: (page, seconds) => page.clock.fastForward(seconds * 1000),
  },
};

/** Whether each kind of session outlives a sleep of 8 hours, and why not. */
const AFTER_8_HOURS = { sliding: 'idle_timeout', fixed: null, refresh: null, cookie: null };

for (const [how, { prepare, sleep }] of Object.entries(SLEEPERS)) {
  for (const mode of MODES) {
    const reason = AFTER_8_HOURS[mode];
    test(`${mode}: 8 hours of sleep (${how}): ${reason ? `the user is signed out, and told ${reason}` : 'the session lives'}`, async () => {
      const browser = await world.context();
      const page = await browser.open(mode, { ...at(mode), prepare });
      const id = await signIn(page, await world.newUser());
      const mark = world.gate.mark();
      await world.advance(8 * HOUR);
      await sleep(page, 8 * HOUR);
      await wake(page);
      if (reason) {
        assert.notEqual((await me(page)).value?.status, 200);
        await heard(page, 'signedout', { reason });
        assert.equal((await events(page, 'signedout')).length, 1);
        assert.equal(await signedIn(page), false);
      } else {
        assert.equal((await me(page)).value?.status, 200);
        assert.equal(await signedIn(page), true);
        assert.deepEqual(await events(page, 'signedout'), []);
        assert.equal((await row(world, id)).ended_at, undefined);
      }
      assert.ok(world.gate.calls.length - mark <= 4, `${world.gate.calls.length - mark} calls`);
      await browser.close();
    });
  }

  test(`refresh: waking is enough, nobody has to do anything (${how})`, async () => {
    const browser = await world.context();
    const page = await browser.open('refresh', { storage: 'local', prepare });
    await signIn(page, await world.newUser());
    const mark = world.gate.mark();
    await world.advance(8 * HOUR);
    await sleep(page, 8 * HOUR);
    await wake(page);
    await heard(page, 'renewed');
    assert.equal(world.gate.count('/oauth/token', mark), 1);
    await browser.close();
  });

  test(`waking offline, then online: nobody is signed out (${how})`, async () => {
    const browser = await world.context();
    const page = await browser.open('refresh', { storage: 'local', prepare });
    await signIn(page, await world.newUser());
    await browser.context.setOffline(true);
    await world.advance(8 * HOUR);
    await sleep(page, 8 * HOUR);
    await wake(page);
    assert.equal((await page.evaluate(() => outcome(() => session.token()))).error, 'unavailable');
    assert.equal(await signedIn(page), true);
    await browser.context.setOffline(false);
    await heard(page, 'renewed');
    assert.equal((await me(page)).value?.status, 200);
    assert.deepEqual(await events(page, 'signedout'), []);
    await browser.close();
  });
}

for (const [mode, sleep, reason] of [
  ['fixed', 8 * DAY, 'max_lifetime'],
  ['refresh', 15 * DAY, 'idle_timeout'],
  ['cookie', 15 * DAY, 'idle_timeout'],
]) {
  test(`${mode}: asleep for longer than the session may live: signed out, and told ${reason}`, async () => {
    const browser = await world.context();
    const page = await browser.open(mode, { ...at(mode), prepare: wrongClock(0) });
    await signIn(page, await world.newUser());
    await world.advance(sleep);
    await page.evaluate((seconds) => deviceClock(seconds), sleep);
    await wake(page);
    await me(page);
    await heard(page, 'signedout', { reason });
    await browser.close();
  });
}

for (const off of [2 * DAY, -2 * DAY]) {
  const wrong = `2 days ${off > 0 ? 'ahead' : 'behind'}`;
  for (const mode of MODES) {
    test(`${mode}: a device clock ${wrong}`, async () => {
      const browser = await world.context();
      const page = await browser.open(mode, { ...at(mode), prepare: wrongClock(off) });
      const id = await signIn(page, await world.newUser());
      const right = (await row(world, id)).started_at;
      const now = await page.evaluate(() => session.now());
      assert.ok(Math.abs(now - right) < 30, `off by ${now - right} s`);
      const mark = world.gate.mark();
      for (let i = 0; i < 3; i += 1) assert.equal((await me(page)).value?.status, 200);
      assert.equal(world.gate.calls.length, mark, 'the clock alone renews nothing');

      // A reload has no answer of the authority to tell the time by, only what was kept.
      await page.reload();
      await page.evaluate(() => session.ready);
      assert.equal(await signedIn(page), true);
      assert.equal((await me(page)).value?.status, 200);
      assert.ok(world.gate.calls.length - mark <= (mode === 'cookie' ? 2 : 1));

      // And renewals happen when they are due by the authority's clock.
      const due = { sliding: 11 * MINUTE, fixed: HOUR, refresh: 6 * MINUTE, cookie: 8 * DAY }[mode];
      await world.advance(due);
      for (let i = 0; i < 3; i += 1) assert.equal((await me(page)).value?.status, 200);
      assert.equal(await signedIn(page), true);
      assert.deepEqual(await events(page, 'signedout'), []);
      assert.ok(world.gate.calls.length - mark <= 5, `${world.gate.calls.length - mark} calls`);
      await browser.close();
    });

    test(`${mode}: a device clock that jumps ${wrong} while the page is open`, async () => {
      const browser = await world.context();
      const page = await browser.open(mode, { ...at(mode), prepare: wrongClock(0) });
      const id = await signIn(page, await world.newUser());
      const mark = world.gate.mark();
      await page.evaluate((seconds) => deviceClock(seconds), off);
      await wake(page);
      for (let i = 0; i < 5; i += 1) assert.equal((await me(page)).value?.status, 200);
      assert.equal(await signedIn(page), true);
      // It asked the authority at most, and its answer put the clock right.
      assert.ok(world.gate.calls.length - mark <= 3, `${world.gate.calls.length - mark} calls`);
      if (world.gate.calls.length > mark) {
        const [now, { started_at }] = [await page.evaluate(() => session.now()), await row(world, id)];
        assert.ok(Math.abs(now - started_at) < 60, `off by ${now - started_at} s`);
      }
      // The token dies while the page believes something else.
      if (mode === 'refresh') {
        await world.advance(6 * MINUTE);
        // Not at once: the token may be younger than a second, and is not renewed twice in one.
        await until(async () => (await me(page)).value?.status === 200, 'a good token');
      }
      assert.deepEqual(await events(page, 'signedout'), []);
      await browser.close();
    });
  }
}

/** Lets arrive at the authority whatever the page has sent by now: what it sends after that comes after that. */
const settled = (page) =>
  page.evaluate(async (api) => {
    for (let i = 0; i < 4; i += 1) await fetch(`${api}/health/live`, { mode: 'no-cors' }).catch(() => {});
  }, world.gate.origin);

/** The browser's own word for a tab that nobody sees. */
const show = (page, visible) =>
  page.evaluate(
    (state) => {
      Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
      Object.defineProperty(document, 'hidden', { value: state === 'hidden', configurable: true });
      document.dispatchEvent(new Event('visibilitychange', { bubbles: true }));
    },
    visible ? 'visible' : 'hidden',
  );

test('refresh: a visible page renews ahead of the end by itself; a hidden one only when it is looked at again', async () => {
  const browser = await world.context();
  const page = await browser.open('refresh', { prepare: (page) => page.clock.install() });
  await signIn(page, await world.newUser());
  const pass = async (seconds) => {
    await world.advance(seconds);
    await page.clock.fastForward(seconds * 1000);
  };
  let mark = world.gate.mark();
  await pass(3 * MINUTE);
  assert.equal(world.gate.calls.length, mark, 'not before it is due');
  await pass(75);
  await heard(page, 'renewed');
  assert.equal(world.gate.count('/oauth/token', mark), 1);

  await show(page, false);
  mark = world.gate.mark();
  for (let i = 0; i < 4; i += 1) await pass(10 * MINUTE);
  assert.equal(world.gate.calls.length, mark, 'hidden: no call');
  await page.evaluate(() => heard.splice(0));
  await show(page, true);
  await heard(page, 'renewed');
  assert.equal(world.gate.count('/oauth/token', mark), 1);
  await browser.close();
});

for (const mode of ['sliding', 'cookie']) {
  test(`${mode}: an idle page keeps no session alive; a used one does`, async () => {
    const idle = { sliding: 21 * MINUTE, cookie: 15 * DAY }[mode];
    const browser = await world.context();
    const page = await browser.open(mode, { prepare: (page) => page.clock.install() });
    const pass = async (seconds) => {
      await world.advance(seconds);
      await page.clock.fastForward(seconds * 1000);
    };
    await signIn(page, await world.newUser());
    // Used: three times as long as the idle time.
    for (let i = 0; i < 6; i += 1) {
      await pass(idle * 0.55);
      assert.equal((await me(page)).value?.status, 200);
    }
    assert.equal(await signedIn(page), true);
    await until(
      async () => (await page.evaluate(() => session.expiresAt - session.now())) > idle * 0.8,
      'the last renewal',
    );
    // Idle: nothing but the clock. What was used after the last renewal may be renewed once more.
    for (let i = 0; i < 2; i += 1) {
      const left = await page.evaluate(() => session.expiresAt - session.now());
      await pass(Math.max(Math.floor(left) - 30, 1));
      await settled(page);
      await pass(60);
    }
    await me(page);
    await heard(page, 'signedout', { reason: 'idle_timeout' });
    await browser.close();
  });
}

test('fixed: the page is told that the end is near, once', async () => {
  const browser = await world.context();
  const page = await browser.open('fixed', { expiringBefore: 5 * MINUTE, prepare: (page) => page.clock.install() });
  await signIn(page, await world.newUser());
  const pass = async (seconds) => {
    await world.advance(seconds);
    await page.clock.fastForward(seconds * 1000);
  };
  await pass(7 * DAY - 10 * MINUTE);
  assert.deepEqual(await events(page, 'expiring'), []);
  await pass(6 * MINUTE);
  await heard(page, 'expiring');
  await pass(MINUTE);
  const [{ expiresAt }, more] = await events(page, 'expiring');
  assert.equal(more, undefined);
  assert.equal(expiresAt, await page.evaluate(() => session.info.expires_at));
  await browser.close();
});

test('a burst of wake-ups asks the authority once', async () => {
  const browser = await world.context();
  const page = await browser.open('refresh', { storage: 'local' });
  await signIn(page, await world.newUser());
  await world.advance(8 * HOUR);
  await me(page);
  const mark = world.gate.mark();
  await page.evaluate(() => {
    for (let i = 0; i < 50; i += 1) {
      document.dispatchEvent(new Event('visibilitychange', { bubbles: true }));
      for (const name of ['online', 'focus', 'pageshow']) window.dispatchEvent(new Event(name));
    }
  });
  await backAgain(page);
  assert.equal((await me(page)).value?.status, 200);
  assert.ok(world.gate.calls.length - mark <= 1, `${world.gate.calls.length - mark} calls`);
  await browser.close();
});
