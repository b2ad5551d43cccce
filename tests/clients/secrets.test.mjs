// What a script that was injected into the page reaches, by storage mode. The table in packages/browser/README.md says
// the same; whoever changes one changes the other.

import assert from 'node:assert/strict';
import { after, afterEach, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { signIn, startWorld, test } from './support.mjs';

const LOOTER = fileURLToPath(new URL('looter.js', import.meta.url));

let world;
before(async () => (world = await startWorld()));
afterEach(() => world.gate.clear());
after(() => world?.stop());

const NOTHING = [];
const BOTH = ['access', 'refresh'];

/**
 * `kept`: what is found by looking (storages, cookies, databases, every object that hangs on the window, the session
 * object itself, its copies and texts, errors, console, addresses). `shared`: what is heard on every channel of the
 * origin. `patched`: what is caught when the page's own functions are replaced and the library works on. `asked`: what the
 * session object gives when it is asked.
 */
const REACH = {
  memory: { kept: NOTHING, shared: NOTHING, patched: BOTH, asked: ['access'] },
  session: { kept: BOTH, shared: BOTH, patched: BOTH, asked: ['access'] },
  local: { kept: BOTH, shared: NOTHING, patched: BOTH, asked: ['access'] },
  cookie: { kept: NOTHING, shared: NOTHING, patched: NOTHING, asked: NOTHING },
};

for (const [name, reach] of Object.entries(REACH)) {
  const mode = name === 'cookie' ? 'cookie' : 'refresh';
  const options = name === 'cookie' ? {} : { storage: name };

  test(`${name}: what an injected script reaches`, async (t) => {
    const browser = await world.context();
    const printed = [];
    const page = await browser.open(mode, {
      ...options,
      prepare: (page) => {
        page.on('console', (message) => printed.push(message.text()));
        page.on('pageerror', (error) => printed.push(String(error.stack)));
      },
    });
    await signIn(page, await world.newUser());
    await page.evaluate(() => hit('/api/me'));
    // A second tab, so that the tabs have something to tell each other.
    const neighbour = name === 'session' ? await duplicate(browser, page) : await browser.open(mode, options);

    await page.addScriptTag({ path: LOOTER });
    const kept = await page.evaluate(() => loot.kept());
    await page.evaluate(() => loot.listen());
    await neighbour.evaluate(() => outcome(() => session.renew()));
    await page.evaluate(() => outcome(() => session.renew()));
    await page.evaluate(() => outcome(() => session.call('PATCH', '/v1/me', { name: 'Ada' })));
    await neighbour.waitForFunction(
      () => session.user === null || session.user.name === 'Ada' || session.info.id,
      null,
    );
    const shared = await page.evaluate(() => loot.heard());

    const asked = await page.evaluate(() => loot.asked(session));

    const errors = await brokenCalls(page);
    await page.evaluate(() => console.log(session, String(session), { session }));

    await page.evaluate(() => loot.patch());
    await page.evaluate(() => outcome(() => session.renew()));
    await page.evaluate(() => hit('/api/me'));
    const patched = await page.evaluate(() => loot.caught());
    t.diagnostic(JSON.stringify({ kept, shared, patched, asked }));

    assert.deepEqual([...new Set([...Object.values(kept).flat()])].sort(), reach.kept);
    assert.deepEqual(shared, reach.shared);
    assert.deepEqual(
      Object.values(patched)
        .flat()
        .filter((what, i, all) => all.indexOf(what) === i)
        .sort(),
      reach.patched,
    );
    assert.deepEqual(asked, reach.asked);
    // The library took the page's fetch when it started: who replaces that one later sees nothing pass.
    for (const late of ['fetch', 'XMLHttpRequest', 'sendBeacon']) assert.deepEqual(patched[late] ?? [], NOTHING, late);
    // In no mode does a credential reach an error, the console, or an address.
    const addresses = [
      ...world.gate.calls.map(({ path, query }) => path + query),
      ...(await page.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => name))),
    ];
    for (const text of [...errors, ...printed, ...addresses])
      assert.doesNotMatch(text, /eyJ[\w-]{10,}\.eyJ|rsl_(rt|sc)_/);
    await browser.close();
  });
}

test('memory: a reload forgets the session, and what was kept by the page before is gone', async () => {
  const browser = await world.context();
  const page = await browser.open('refresh');
  await signIn(page, await world.newUser());
  await page.reload();
  await page.evaluate(() => session.ready);
  assert.equal(await page.evaluate(() => session.user), null);
  await page.addScriptTag({ path: LOOTER });
  assert.deepEqual(Object.values(await page.evaluate(() => loot.kept())).flat(), []);
  await browser.close();
});

test('a password is nowhere after the login, in no mode', async () => {
  for (const [mode, options] of [
    ['refresh', { storage: 'local' }],
    ['refresh', {}],
    ['cookie', {}],
  ]) {
    const browser = await world.context();
    const page = await browser.open(mode, options);
    const user = await world.newUser();
    await signIn(page, user);
    await page.addScriptTag({ path: LOOTER });
    const found = await page.evaluate((password) => loot.find(password), user.login.password);
    assert.deepEqual(found, []);
    await browser.close();
  }
});

/** Calls that go wrong in every way that the library knows; the texts of what it threw. */
async function brokenCalls(page) {
  const texts = [];
  const note = async (work) =>
    texts.push(
      await page.evaluate(async (work) => {
        const everything = (error) =>
          JSON.stringify([
            String(error),
            error.stack,
            { ...error },
            Object.getOwnPropertyNames(error).map((key) => String(error[key])),
            error.cause && String(error.cause),
          ]);
        try {
          await (0, eval)(`(${work})`)();
          return '';
        } catch (error) {
          return everything(error);
        }
      }, work),
    );
  await note(`() => session.login({ username: 'nobody', password: 'wrong' })`);
  await note(`() => session.call('GET', '/v1/nothing')`);
  await note(`() => session.secondFactor({ code: '000000', challenge: 'x' })`);
  for (const rule of [
    { refuse: true },
    { cut: true },
    { answer: { status: 200, body: { access_token: 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.x' } } },
    { answer: { status: 500 } },
  ]) {
    const wrong = world.gate.rule(rule);
    await note('() => session.renew()');
    await note(`() => session.call('GET', '/v1/me')`);
    wrong.end();
  }
  return texts.map((text) => text.replaceAll('eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.x', ''));
}

async function duplicate(browser, page) {
  const [copy] = await Promise.all([
    browser.context.waitForEvent('page'),
    page.evaluate(() => void window.open(location.href)),
  ]);
  await copy.waitForFunction(() => window.session);
  await copy.evaluate(() => session.ready);
  return copy;
}
