// Several tabs of one browser: they race, are duplicated, die and hang, and nobody is signed out.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { events, heard, rounds, row, signIn, signedIn, startBrowser, startWorld, test, until } from './support.mjs';

const ROUNDS = rounds(200, 1000);
const GRACE = 10;

let world;
before(async () => (world = await startWorld()));
after(() => world?.stop());

for (const [how, locks] of [
  ['with locks', {}],
  ['without locks', { locks: null }],
]) {
  test(`two tabs renew at the same instant, ${ROUNDS} times, ${how}`, async () => {
    const browser = await world.context();
    const tabs = [
      await browser.open('refresh', { storage: 'local', ...locks }),
      await browser.open('refresh', { storage: 'local', ...locks }),
    ];
    const id = await signIn(tabs[0], await world.newUser());
    await heard(tabs[1], 'signedin');
    const mark = world.gate.mark();
    await race(browser, tabs, ROUNDS, (round) => (round % 7 === 6 ? world.advance(GRACE + 1) : undefined));

    const { used, ended_at } = await row(world, id);
    assert.equal(ended_at, undefined);
    assert.ok(used >= ROUNDS, `${used} renewals`);
    if (locks.locks === null) {
      const overlapped = world.gate.calls
        .slice(mark)
        .filter((call) => call.path === '/oauth/token' && call.during).length;
      assert.ok(overlapped > 0, 'the tabs never met');
    } else {
      assert.ok(used <= 2 * ROUNDS);
    }
    await bothLive(tabs);
    assert.equal(await token(tabs[0]), await token(tabs[1]), 'both hold the newest token');
    await browser.close();
  });
}

test('two tabs of a sliding session renew at the same instant, past each half-life', async () => {
  const browser = await world.context();
  const tabs = [
    await browser.open('sliding', { storage: 'local', locks: null }),
    await browser.open('sliding', { storage: 'local', locks: null }),
  ];
  const id = await signIn(tabs[0], await world.newUser());
  await heard(tabs[1], 'signedin');
  await race(browser, tabs, rounds(4, 30), () => world.advance(11 * 60));
  assert.equal((await row(world, id)).ended_at, undefined);
  await bothLive(tabs);
  await browser.close();
});

test('what the app renews on the way is taken over by both tabs: neither calls the authority', async () => {
  const browser = await world.context();
  const tabs = [
    await browser.open('sliding', { storage: 'local' }),
    await browser.open('sliding', { storage: 'local' }),
  ];
  await signIn(tabs[0], await world.newUser());
  await heard(tabs[1], 'signedin');
  const mark = world.gate.mark();
  for (let round = 0; round < 3; round += 1) {
    const before = await token(tabs[1]);
    await world.advance(11 * 60);
    await bothLive([tabs[round % 2]]);
    await until(async () => (await token(tabs[(round + 1) % 2])) !== before, 'the new token in the other tab');
    assert.equal(await token(tabs[0]), await token(tabs[1]));
  }
  assert.equal(world.gate.calls.length, mark);
  await browser.close();
});

for (const [how, locks] of [
  ['with locks', {}],
  ['without locks', { locks: null }],
]) {
  test(`a duplicated tab (sessionStorage copied by the browser) shares the session, ${how}`, async () => {
    const browser = await world.context();
    const first = await browser.open('refresh', { storage: 'session', ...locks });
    const id = await signIn(first, await world.newUser());
    const second = await duplicate(browser, first);
    assert.equal(await second.evaluate(() => session.info.id), id, 'the copy is signed in');
    await race(browser, [first, second], rounds(8, 60));
    // In turns, each later than the grace: two owners of one refresh token would be a thief and his victim.
    for (const tab of [second, first, second, first]) {
      await world.advance(GRACE + 5);
      assert.deepEqual(await tab.evaluate(() => outcome(() => session.renew())), {});
    }
    await bothLive([first, second]);
    assert.deepEqual(await told(id), ['started']);

    // The first one goes; the second one carries on, and so does what is duplicated from it.
    await first.close();
    for (let i = 0; i < 2; i += 1) {
      await world.advance(GRACE + 5);
      assert.deepEqual(await second.evaluate(() => outcome(() => session.renew())), {});
    }
    const third = await duplicate(browser, second);
    await second.close();
    await world.advance(GRACE + 5);
    assert.deepEqual(await third.evaluate(() => outcome(() => session.renew())), {});
    await bothLive([third]);
    assert.deepEqual(await told(id), ['started']);
    await browser.close();
  });
}

test('a tab that reloads while its sessionStorage copy lives in another tab keeps its session', async () => {
  const browser = await world.context();
  const first = await browser.open('refresh', { storage: 'session' });
  const id = await signIn(first, await world.newUser());
  const second = await duplicate(browser, first);
  for (let i = 0; i < 3; i += 1) {
    await first.reload();
    await first.evaluate(() => session.ready);
    await world.advance(GRACE + 5);
    for (const tab of [first, second]) assert.deepEqual(await tab.evaluate(() => outcome(() => session.renew())), {});
  }
  await bothLive([first, second]);
  assert.deepEqual(await told(id), ['started']);
  await browser.close();
});

for (const way of ['frozen by the browser', 'on another page']) {
  test(`a duplicated tab that was ${way} while the other renewed, later than the grace, goes on with the newest`, async () => {
    const browser = await world.context();
    const first = await browser.open('refresh', { storage: 'session' });
    const id = await signIn(first, await world.newUser());
    const second = await duplicate(browser, first);
    const debug = await browser.context.newCDPSession(second);
    if (way === 'on another page') await second.goto(`${world.app.origin}/other`);
    else await debug.send('Page.setWebLifecycleState', { state: 'frozen' });
    for (let i = 0; i < 3; i += 1) {
      await world.advance(2 * GRACE + 5);
      assert.deepEqual(await first.evaluate(() => outcome(() => session.renew())), {});
    }
    await world.advance(2 * GRACE + 5);
    if (way === 'on another page') await second.goBack();
    else await debug.send('Page.setWebLifecycleState', { state: 'active' });
    assert.deepEqual(await second.evaluate(() => outcome(() => session.renew())), {});
    await world.advance(2 * GRACE + 5);
    assert.deepEqual(await first.evaluate(() => outcome(() => session.renew())), {});
    await bothLive([first, second]);
    assert.deepEqual(await told(id), ['started']);
    await browser.close();
  });
}

for (const way of ['is closed', 'crashes', 'hangs']) {
  test(`a tab ${way} while it holds the lock`, async () => {
    const browser = await world.context();
    const options = { storage: 'local', timeout: 50 };
    const [victim, other] = [await browser.open('refresh', options), await browser.open('refresh', options)];
    const id = await signIn(victim, await world.newUser());
    await heard(other, 'signedin');
    const held = world.gate.rule({ path: '/oauth/token', hold: true, times: 1 });
    await victim.evaluate(() => void outcome(() => session.renew()).then((out) => (window.out = out)));
    await held.answered();
    assert.equal(
      await other.evaluate(async () => (await navigator.locks.query()).held.length > 0),
      true,
      'the lock is held',
    );
    if (way === 'is closed') await victim.close();
    if (way === 'crashes') await crash(victim);

    assert.deepEqual(await other.evaluate(() => outcome(() => session.renew())), {});
    if (way === 'hangs') assert.equal(await victim.evaluate(() => window.out), undefined, 'still held');
    held.release();
    await world.advance(GRACE + 1);
    assert.deepEqual(await other.evaluate(() => outcome(() => session.renew())), {});
    if (way === 'hangs') {
      // Its old answer came late, over a newer record: it takes part again with the newest.
      assert.deepEqual(await victim.evaluate(() => outcome(() => session.renew())), {});
      await bothLive([victim, other]);
    }
    await bothLive([other, await browser.open('refresh', { storage: 'local' })]);
    assert.equal((await row(world, id)).ended_at, undefined);
    await browser.close();
  });
}

test('a page that comes back out of the back/forward cache goes on with what is true by then', async () => {
  const own = await startBrowser({ ignoreDefaultArgs: ['--disable-back-forward-cache'] });
  try {
    for (const storage of ['local', 'session']) {
      const browser = await world.context({}, own);
      const page = await browser.open('refresh', { storage });
      const id = await signIn(page, await world.newUser());
      await away(page);
      await world.advance(GRACE + 5);
      // Another tab goes on meanwhile, twice: what the sleeping page knows is old.
      const other = await browser.open('refresh', { storage });
      for (let i = 0; i < 2 && storage === 'local'; i += 1) {
        assert.deepEqual(await other.evaluate(() => outcome(() => session.renew())), {});
        await world.advance(2 * GRACE + 5);
      }
      const kept = await back(page);
      // Chromium keeps no page that has held a lock; it is loaded anew then.
      assert.ok(kept || storage === 'session');
      assert.deepEqual(await page.evaluate(() => outcome(() => session.renew())), {});
      await world.advance(GRACE + 5);
      assert.deepEqual(await page.evaluate(() => outcome(() => session.renew())), {});
      await bothLive([page]);
      assert.deepEqual(await told(id), ['started']);

      if (storage === 'local') {
        await away(page);
        await other.evaluate(() => session.signOut());
        await back(page);
        await page.waitForFunction(() => session.user === null);
      }
      await browser.close();
    }
  } finally {
    await own.close();
  }
});

async function away(page) {
  await page.evaluate(() => addEventListener('pageshow', (event) => (window.kept = event.persisted), { once: true }));
  await page.goto(`${world.app.origin}/other`);
}

/** Goes back; whether the page was kept as it was. */
async function back(page) {
  // A kept page has no second "load" to wait for.
  await page.goBack({ waitUntil: 'commit' });
  await page.waitForFunction(() => window.session && document.readyState === 'complete');
  await page.evaluate(() => session.ready);
  return page.evaluate(() => window.kept === true);
}

/** Has the tabs renew at the same instant, again and again; a third page gives the sign. */
async function race(browser, tabs, count, between) {
  const starter = await browser.context.newPage();
  await starter.goto(`${world.app.origin}/other`);
  await starter.evaluate(() => (window.start = new BroadcastChannel('start')));
  for (const tab of tabs) {
    await tab.evaluate(() => {
      const results = {};
      window.result = (round) => (results[round] ??= Promise.withResolvers()).promise;
      window.start = new BroadcastChannel('start');
      start.onmessage = ({ data: round }) => {
        result(round);
        results[round].resolve(outcome(() => session.renew()));
      };
    });
  }
  for (let round = 0; round < count; round += 1) {
    await between?.(round);
    await starter.evaluate((round) => start.postMessage(round), round);
    for (const outcome of await Promise.all(tabs.map((tab) => tab.evaluate((round) => result(round), round)))) {
      assert.deepEqual(outcome, {}, `round ${round}`);
    }
  }
  await starter.close();
  for (const tab of tabs) await tab.evaluate(() => start.close());
}

const token = (tab) => tab.evaluate(() => session.token());

async function bothLive(tabs) {
  for (const tab of tabs) {
    assert.equal(await signedIn(tab), true);
    assert.deepEqual(await events(tab, 'signedout'), []);
    assert.equal((await tab.evaluate(() => hit('/api/me'))).value?.status, 200);
  }
}

/** What the timeline tells of a session, without times. */
const told = async (id) => (await row(world, id)).timeline.map(({ event }) => event);

/** As the browser's "Duplicate": the new tab gets a copy of sessionStorage. */
async function duplicate(browser, page) {
  const [copy] = await Promise.all([
    browser.context.waitForEvent('page'),
    page.evaluate(() => void window.open(location.href)),
  ]);
  await copy.waitForFunction(() => window.session);
  await copy.evaluate(() => session.ready);
  return copy;
}

async function crash(page) {
  const gone = new Promise((resolve) => page.once('crash', resolve));
  const debug = await page.context().newCDPSession(page);
  debug.send('Page.crash').catch(() => {});
  await gone;
}
