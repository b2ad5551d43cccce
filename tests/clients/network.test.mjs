// Answers are lost, late, wrong, or never come. Nobody is signed out by the network, and nothing is asked for ever.

import assert from 'node:assert/strict';
import { after, afterEach, before } from 'node:test';
import { backAgain, events, heard, row, signIn, signedIn, startWorld, until, wrongClock, test } from './support.mjs';

const GRACE = 10;

let world;
before(async () => (world = await startWorld()));
afterEach(() => world.gate.clear());
after(() => world?.stop());

const renew = (page) => page.evaluate(() => outcome(() => session.renew()));

for (const [storage, locks] of [
  ['memory', {}],
  ['session', {}],
  ['local', {}],
  ['local', { locks: null }],
]) {
  for (const fault of ['drop', 'cut']) {
    test(`the answer of a renewal is lost after the authority has it (${fault}, ${storage}${locks.locks === null ? ', no locks' : ''}): the session lives, also later than the grace`, async () => {
      const browser = await world.context();
      const page = await browser.open('refresh', { storage, ...locks });
      const id = await signIn(page, await world.newUser());
      for (const wait of [0, GRACE + 5, 3600]) {
        const before = (await row(world, id)).used;
        const lost = world.gate.rule({ path: '/oauth/token', [fault]: true });
        assert.equal((await renew(page)).error, 'unavailable');
        lost.end();
        assert.equal((await row(world, id)).used, before + 1, 'the authority has renewed');
        assert.equal(await signedIn(page), true);
        if (wait) await world.advance(wait);
        await until(async () => !(await renew(page)).error, 'a renewal');
        assert.equal((await page.evaluate(() => hit('/api/me'))).value.status, 200);
      }
      // Nothing is left of it: what follows is ordinary.
      await world.advance(GRACE + 5);
      assert.deepEqual(await renew(page), {});
      const { timeline, ended_at } = await row(world, id);
      assert.equal(ended_at, undefined);
      assert.deepEqual(
        timeline.map(({ event }) => event).filter((event) => event !== 'branch'),
        ['started'],
      );
      assert.deepEqual(await events(page, 'signedout'), []);
      await browser.close();
    });
  }
}

test('the answer is lost and the page reloads before it knows: the session lives', async () => {
  for (const storage of ['session', 'local']) {
    const browser = await world.context();
    const page = await browser.open('refresh', { storage });
    const id = await signIn(page, await world.newUser());
    const held = world.gate.rule({ path: '/oauth/token', hold: true, times: 1 });
    await page.evaluate(() => void session.renew().catch(() => {}));
    await held.answered();
    await page.reload();
    await page.evaluate(() => session.ready);
    held.release();
    await world.advance(GRACE + 5);
    assert.deepEqual(await renew(page), {}, storage);
    await world.advance(GRACE + 5);
    assert.deepEqual(await renew(page), {}, storage);
    assert.equal((await row(world, id)).ended_at, undefined);
    await browser.close();
  }
});

test('the network changes in the middle of a renewal, both before and after the authority heard of it', async () => {
  const browser = await world.context();
  const page = await browser.open('refresh', { storage: 'local' });
  const id = await signIn(page, await world.newUser());
  for (const action of ['keep', 'hold']) {
    const caught = world.gate.rule({ path: '/oauth/token', [action]: true, times: 1 });
    await page.evaluate(() => void (window.late = outcome(() => session.renew())));
    await caught.met();
    if (action === 'hold') await caught.answered();
    await browser.context.setOffline(true);
    // What was under way when the network went ends in an error, here by the closed connection.
    caught.release();
    await world.gate.cutAll();
    await browser.context.setOffline(false);
    await page.evaluate(() => window.late);
    await until(async () => !(await renew(page)).error, 'a renewal');
    await world.advance(GRACE + 5);
    assert.deepEqual(await renew(page), {});
    assert.equal((await row(world, id)).ended_at, undefined);
  }
  await browser.close();
});

for (const storage of ['memory', 'session', 'local']) {
  test(`50 parallel requests meet a 401 (${storage}): one renewal, and all of them pass`, async () => {
    const browser = await world.context();
    const page = await browser.open('refresh', { storage });
    await signIn(page, await world.newUser());
    // The app's clock and the authority's go on, the page does not know.
    await world.advance(6 * 60);
    const [atGate, atApp] = [world.gate.mark(), world.app.mark()];
    const all = await page.evaluate(() => Promise.all(Array.from({ length: 50 }, () => hit('/api/me'))));
    assert.deepEqual(new Set(all.map(({ value }) => value?.status)), new Set([200]));
    assert.equal(world.gate.count('/oauth/token', atGate), 1);
    assert.equal(world.gate.calls.length - atGate, 1);
    const sent = world.app.to('/api/me', atApp);
    assert.ok(sent.length > 50 && sent.length <= 100, `${sent.length} requests`);
    assert.ok(new Set(sent.map(({ auth }) => auth)).size <= 2);
    await browser.close();
  });
}

for (const [mode, path] of [
  ['refresh', '/oauth/token'],
  ['sliding', '/v1/session/renew'],
  ['cookie', '/v1/session'],
]) {
  test(`${mode}: a service that answers 401 for ever is asked twice each time at most`, async () => {
    const browser = await world.context();
    const page = await browser.open(mode);
    await signIn(page, await world.newUser());
    const [atGate, atApp] = [world.gate.mark(), world.app.mark()];
    for (let i = 0; i < 20; i += 1) assert.ok((await page.evaluate(() => hit('/broken/401'))).value.status === 401);
    await page.evaluate(() => Promise.all(Array.from({ length: 30 }, () => hit('/broken/401'))));
    assert.ok(world.app.to('/broken/401', atApp).length <= 100, 'at most twice each');
    assert.ok(
      world.gate.calls.length - atGate <= 52,
      `${world.gate.calls.length - atGate} calls to the authority (${path})`,
    );
    await browser.close();
  });
}

for (const [what, rule] of [
  ['answers 500', { answer: { status: 500, body: { error: 'server_error' } } }],
  [
    'answers 503',
    { answer: { status: 503, body: { error: 'temporarily_unavailable' }, headers: { 'Retry-After': '1' } } },
  ],
  ['answers 429', { answer: { status: 429, body: { error: 'too_many_requests' }, headers: { 'Retry-After': '1' } } }],
  ['answers 200 with nonsense', { answer: { status: 200, body: { hello: 'world' } } }],
  ['answers 400 invalid_client', { answer: { status: 400, body: { error: 'invalid_client' } } }],
  ['answers 403', { answer: { status: 403, body: { error: 'forbidden' } } }],
  ['answers superseded', { answer: { status: 400, body: { error: 'invalid_grant', reason: 'superseded' } } }],
  ['hangs', { hang: true }],
  ['is away', { refuse: true, preflights: true }],
]) {
  test(`an authority that ${what} for ever: a bounded number of calls, nobody is signed out, and it goes on when that is over`, async () => {
    const browser = await world.context();
    const page = await browser.open('refresh', { storage: 'local', timeout: rule.hang ? 1 : 30 });
    // In a page that has the time for it.
    await signIn(await browser.open('refresh', { storage: 'local', timeout: 50 }), await world.newUser());
    await heard(page, 'signedin');
    await world.advance(6 * 60);
    const wrong = world.gate.rule({ path: '/oauth/token', ...rule });
    const mark = world.gate.mark();
    const first = await renew(page);
    assert.equal(first.error, 'unavailable', JSON.stringify(first));
    const started = Date.now();
    // Whoever asks in a loop gets refusals, and the authority hears little of it: one try a second.
    const seen = new Set();
    for (let loop = 0; loop < (what.includes('superseded') ? 1 : 2); loop += 1) {
      const all = await page.evaluate(() =>
        Promise.all(Array.from({ length: 70 }, () => outcome(() => session.renew()))),
      );
      for (const { error } of all) seen.add(error);
    }
    assert.deepEqual([...seen], ['unavailable']);
    const calls = world.gate.count('/oauth/token', mark);
    const seconds = (Date.now() - started) / 1000;
    // `superseded` is worth a few calls in one try.
    assert.ok(calls <= 8 + 4 * seconds && calls < 100, `${calls} calls in ${seconds} s for all of them`);
    assert.equal(await signedIn(page), true);
    assert.deepEqual(await events(page, 'signedout'), []);
    wrong.end();
    await backAgain(page);
    await until(async () => !(await renew(page)).error, 'a renewal');
    await until(async () => (await page.evaluate(() => hit('/api/me'))).value?.status === 200, 'a good token');
    await browser.close();
  });
}

for (const mode of ['sliding', 'fixed', 'refresh', 'cookie']) {
  test(`${mode}: an authority that answers 401 invalid_token to everything: told once, and asked no more`, async () => {
    const browser = await world.context();
    const page = await browser.open(mode);
    await signIn(page, await world.newUser());
    const body = { error: 'invalid_token', error_description: 'No.', reason: 'revoked' };
    world.gate.rule({ answer: { status: 401, body, headers: { 'WWW-Authenticate': 'Bearer error="invalid_token"' } } });
    const mark = world.gate.mark();
    for (let i = 0; i < 5; i += 1) {
      await page.evaluate(() =>
        Promise.all(Array.from({ length: 20 }, () => outcome(() => session.call('GET', '/v1/me')))),
      );
    }
    // Each of the first round is sent twice at most; a refresh token is only dead when its own endpoint says so.
    const calls = world.gate.calls.slice(mark);
    assert.ok(calls.filter(({ path }) => path !== '/v1/me').length <= 12, `${calls.length} calls`);
    assert.ok(calls.length <= 212);
    if (mode !== 'refresh') {
      await heard(page, 'signedout', { reason: 'revoked' });
      assert.equal((await events(page, 'signedout')).length, 1);
      const after = world.gate.mark();
      for (let i = 0; i < 5; i += 1) await page.evaluate(() => hit('/api/me'));
      assert.ok(world.gate.calls.length - after <= (mode === 'cookie' ? 10 : 0));
    }
    await browser.close();
  });
}

for (const mode of ['refresh', 'sliding', 'cookie']) {
  test(`${mode}: a 403, a 500, a 401 that asks for a stronger login: no renewal, no second try`, async () => {
    const browser = await world.context();
    const page = await browser.open(mode);
    await signIn(page, await world.newUser());
    const [atGate, atApp] = [world.gate.mark(), world.app.mark()];
    for (const [path, status] of [
      ['/api/forbidden', 403],
      ['/broken/403', 403],
      ['/broken/500', 500],
      ['/api/step-up', 401],
    ]) {
      assert.equal((await page.evaluate((path) => hit(path), path)).value.status, status);
      assert.equal(world.app.to(path, atApp).length, 1, path);
    }
    // With a cookie the page may look how things are after a 401 (two reads); it renews nothing.
    const calls = world.gate.calls.slice(atGate).map(({ method, path }) => `${method} ${path}`);
    assert.deepEqual(
      calls.filter((call) => mode !== 'cookie' || !/^GET \/v1\/(session|me)$/.test(call)),
      [],
    );
    assert.equal(await signedIn(page), true);
    await browser.close();
  });
}

test('what cannot be sent again is sent once, and the next request has the new token', async () => {
  const browser = await world.context();
  /** A page whose token has expired without its knowledge. */
  const stale = async () => {
    const page = await browser.open('refresh');
    await signIn(page, await world.newUser());
    await world.advance(6 * 60);
    return page;
  };
  for (const body of [`'twice is fine'`, `new Blob(['a blob too'])`, `new URLSearchParams({ a: 1 })`]) {
    const page = await stale();
    const mark = world.app.mark();
    const out = await page.evaluate(`hit('/api/count', { method: 'POST', body: ${body} })`);
    assert.equal(out.value.status, 200, body);
    assert.equal(world.app.to('/api/count', mark).length, 2, body);
  }
  // A Request's body is a stream.
  const page = await stale();
  const mark = world.app.mark();
  const out = await page.evaluate(() => hit(new Request('/api/count', { method: 'POST', body: 'once' })));
  assert.equal(out.value.status, 401);
  assert.equal(world.app.to('/api/count', mark).length, 1);
  assert.equal((await page.evaluate(() => hit('/api/me'))).value.status, 200);
  assert.equal(world.app.to('/api/me', mark).length, 1, 'the renewal was done for the next one');
  // Chromium sends a page's own stream over HTTP/2 only: what counts here is that it is not read twice.
  const other = await stale();
  const read = await other.evaluate(async () => {
    let pulls = 0;
    const source = { start: (c) => c.enqueue(new Uint8Array(3)), pull: (c) => ((pulls += 1), c.close()) };
    const body = new ReadableStream(source, { highWaterMark: 0 });
    await hit('/api/count', { method: 'POST', body, duplex: 'half' });
    return pulls;
  });
  assert.ok(read <= 1);
  await browser.close();
});

test('the caller gives up: his request ends, the renewal goes on for the others', async () => {
  const browser = await world.context();
  const page = await browser.open('refresh');
  await signIn(page, await world.newUser());
  await world.advance(6 * 60);
  const held = world.gate.rule({ path: '/oauth/token', hold: true, times: 1 });
  await page.evaluate(() => {
    window.stop = new AbortController();
    window.given = hit('/api/me', { signal: stop.signal });
    window.kept = hit('/api/me');
  });
  await held.answered();
  await page.evaluate(() => stop.abort());
  assert.equal((await page.evaluate(() => given)).error, 'AbortError');
  held.release();
  assert.equal((await page.evaluate(() => kept)).value.status, 200);
  await browser.close();
});

test('offline when a renewal is due: nothing is lost, and "online" brings it', async () => {
  const browser = await world.context();
  const page = await browser.open('refresh', { storage: 'local', prepare: wrongClock(0) });
  await signIn(page, await world.newUser());
  await browser.context.setOffline(true);
  await world.advance(6 * 60);
  await page.evaluate(() => deviceClock(6 * 60));
  assert.equal((await renew(page)).error, 'unavailable');
  assert.equal(await signedIn(page), true);
  assert.deepEqual(await events(page, 'renewed'), []);
  await browser.context.setOffline(false);
  await heard(page, 'renewed');
  assert.equal((await page.evaluate(() => hit('/api/me'))).value.status, 200);
  await browser.close();
});
