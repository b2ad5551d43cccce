// Several tabs: who renews, who hears, who is signed out.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { codeOf, kit, type Kit, type Page } from './kit.js';
import { AUTHORITY, error } from './model.js';
import { posted } from './world.js';

const TOKEN = ['POST', '/oauth/token'] as const;
const KEY = `reseal:refresh@${AUTHORITY}`;

/** Two pages of one storage. */
async function two(
  { open, login, world }: Kit,
  options: Parameters<Kit['open']>[0],
  tab: Parameters<Kit['open']>[1] = {},
): Promise<[Page, Page]> {
  const a = await login(options, tab);
  const b = open(options, { ...tab, ...(options!.storage === 'session' && { copyOf: a.tab }) });
  await world.until(b.session.ready);
  await world.pass(1);
  return [a, b];
}

describe('a shared storage', () => {
  for (const [name, tab] of Object.entries({
    'with locks': {},
    'without locks': { locks: false },
    'with nothing': { locks: false, channels: false },
  })) {
    test(`${name}: a login reaches the other tab, so do claims, so does a sign-out`, async () => {
      const it = kit();
      const a = it.open({ storage: 'local' }, tab);
      const b = it.open({ storage: 'local' }, tab);
      await a.session.login({ username: 'demo', password: 'right' });
      await it.world.pass(1);
      assert.deepEqual(b.events, ['signedin']);
      await b.session.call('PATCH', '/v1/me', { name: 'Grace' });
      await it.world.pass(1);
      assert.equal(a.session.user!.name, 'Grace');
      assert.deepEqual(a.events, ['signedin', 'claims', 'renewed']);
      await a.session.signOut();
      await it.world.pass(1);
      assert.equal(b.session.user, null);
      assert.equal(b.events.at(-1), 'signedout:signed_out');
      assert.equal(a.tab.local.get(KEY), undefined);
      assert.equal(it.model.count('POST', '/oauth/revoke'), 1, 'ended once');
    });
  }

  test('why it ended reaches the other tab, although the storage is faster than the channel', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'local' });
    it.model.end(a.session.info!.id, 'revoked');
    await it.world.until(codeOf(a.session.renew()));
    await it.world.pass(1);
    assert.deepEqual([a.events.at(-1), b.events.at(-1)], ['signedout:revoked', 'signedout:revoked']);
  });

  test('two tabs renew at the same instant: one call with locks', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'local' });
    for (let i = 1; i <= 20; i++) {
      await it.world.pass(60);
      await it.world.until(Promise.all([a.session.renew(), b.session.renew()]));
      assert.equal(it.model.count(...TOKEN), i);
      assert.equal(await a.session.token(), await b.session.token());
    }
  });

  test('two tabs renew at the same instant without locks: the authority repeats the successor', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'local' }, { locks: false, channels: false });
    for (let i = 1; i <= 20; i++) {
      await it.world.pass(60);
      await it.world.until(Promise.all([a.session.renew(), b.session.renew()]));
    }
    assert.equal(it.model.rows.get('sid-1')!.used, 20);
    assert.deepEqual(
      [a, b].map(({ events }) => events.some((event) => event.startsWith('signedout'))),
      [false, false],
    );
  });

  test('a tab that dies while it holds the lock', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'local' });
    it.model.override = (call) => (call.path === '/oauth/token' ? new Promise(() => {}) : undefined);
    void codeOf(a.session.renew());
    await it.world.pass(0.1);
    it.model.override = undefined;
    const waiting = b.session.renew();
    a.tab.kill();
    await it.world.until(waiting);
    assert.equal((await b.session.fetch('/api')).status, 200);
  });

  test('a tab that sleeps while it holds the lock: the other goes on after the lock’s timeout', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'local' });
    it.model.override = (call) => (call.path === '/oauth/token' ? new Promise(() => {}) : undefined);
    void codeOf(a.session.renew());
    await it.world.pass(0.1);
    a.tab.asleep = true;
    it.model.override = undefined;
    const since = it.world.time;
    await it.world.until(b.session.renew());
    assert.ok(it.world.time - since >= 3000 && it.world.time - since < 5000);
  });

  test('a sign-out while requests are in flight in the other tab', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'local' });
    await it.world.pass(2);
    it.model.override = async (call) => {
      if (call.path !== '/oauth/token') return undefined as never;
      const answer = await it.model.fetch(call.url, { ...call.init, headers: { again: '1' } });
      await new Promise<void>((resolve) => it.world.after(1000, resolve));
      return answer;
    };
    it.model.override = ((inner) => (call) => (call.headers.has('again') ? undefined : inner(call)))(it.model.override);
    const renewal = codeOf(b.session.renew());
    await it.world.pass(0.2);
    await a.session.signOut();
    assert.equal(await it.world.until(renewal), 'signed_out');
    await it.world.pass(5);
    assert.deepEqual([a.session.user, b.session.user], [null, null]);
    assert.equal(b.events.filter((event) => event.startsWith('signedout')).length, 1);
    assert.equal(a.tab.local.get(KEY), undefined, 'the late answer was not kept');
  });

  test('refused for good, but the storage has something newer by then: no end', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'local' }, { locks: false, channels: false });
    await it.world.pass(60);
    it.model.override = (call) =>
      call.path === '/oauth/token'
        ? new Promise((resolve) => it.world.after(1000, () => resolve(error(400, 'invalid_grant'))))
        : undefined;
    const renewal = a.session.renew();
    await it.world.pass(0.2);
    it.model.override = undefined;
    await it.world.until(b.session.renew());
    await it.world.until(renewal);
    assert.equal(await a.session.token(), await b.session.token());
    assert.deepEqual(a.events, ['signedin', 'renewed']);
  });

  test('a slow tab that writes over what is newer is mended', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'local' });
    const old = a.tab.local.get(KEY)!;
    await it.world.until(a.session.renew());
    await it.world.pass(1);
    // A process that was behind has written its old record back.
    (b.tab.env.localStorage as Storage).setItem(KEY, old);
    await it.world.pass(1);
    assert.equal(JSON.parse(a.tab.local.get(KEY)!).generation, 2);
    assert.equal(JSON.parse(b.tab.local.get(KEY)!).generation, 2);
  });

  test('what a signed-out session’s slow tab writes back is removed', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'local' });
    const old = a.tab.local.get(KEY)!;
    await a.session.signOut();
    await it.world.pass(1);
    (b.tab.env.localStorage as Storage).setItem(KEY, old);
    await it.world.pass(1);
    assert.deepEqual([a.session.user, a.tab.local.get(KEY)], [null, undefined]);
  });

  test('a login over a running session replaces it everywhere and ends the old one', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'local' });
    await it.world.pass(5);
    await a.session.login({ username: 'demo', password: 'right' });
    await it.world.pass(1);
    assert.equal(b.session.info!.id, a.session.info!.id);
    assert.notEqual(it.model.rows.get('sid-1')!.ended, undefined);
    assert.equal(it.model.rows.get(a.session.info!.id)!.ended, undefined);
    assert.deepEqual(b.events, ['signedin', 'signedin']);
  });

  test('a storage that is broken, full or forbidden: the tab keeps the session by itself', async () => {
    for (const broken of ['setItem', 'getItem'] as const) {
      const it = kit();
      const page = it.open({ storage: 'local' });
      (page.tab.env.localStorage as Storage)[broken] = () => {
        throw new Error('QuotaExceededError');
      };
      const session = broken === 'setItem' ? page.session : it.open({ storage: 'local' }, {}).session;
      await it.world.until(session.login({ username: 'demo', password: 'right' }));
      await it.world.pass(600);
      assert.equal((await session.fetch('/api')).status, 200);
    }
  });

  test('a record that cannot be read is no record', async () => {
    const it = kit();
    const a = await it.login({ storage: 'local' });
    for (const text of [
      '{',
      '{"v":2}',
      'null',
      '"x"',
      JSON.stringify({ v: 1, access_token: 'a.b.c', session: { id: 'x' } }),
    ]) {
      const b = it.open({ storage: 'local' });
      b.tab.local.set(KEY, text);
      await b.session.ready;
      assert.equal(b.session.user, null, text);
      b.tab.kill();
    }
    a.tab.kill();
  });

  test('a storage of one’s own, at its leisure', async () => {
    const it = kit();
    let text: string | null = null;
    const told = new Set<() => void>();
    const wait = () => new Promise<void>((resolve) => it.world.after(20, resolve));
    const storage = () => ({
      get: () => wait().then(() => text),
      set: (value: string | null) =>
        wait().then(() => {
          text = value;
          for (const tell of told) tell();
        }),
      subscribe: (changed: () => void) => {
        told.add(changed);
        return () => void told.delete(changed);
      },
    });
    const a = await it.login({ storage: storage() });
    const b = it.open({ storage: storage() });
    await it.world.until(b.session.ready);
    assert.equal(b.session.user!.name, 'Demo');
    await it.world.until(Promise.all([a.session.renew(), b.session.renew()]));
    assert.equal(it.model.count(...TOKEN), 1);
    await it.world.until(b.session.signOut());
    await it.world.pass(1);
    assert.deepEqual([a.session.user, text], [null, null]);
    a.session.dispose();
    assert.equal(told.size, 1);
  });

  test('a storage of one’s own that fails or hangs: unavailable, not signed out', async () => {
    const it = kit();
    let broken = false;
    let text: string | null = null;
    const storage = {
      get: () => (broken ? new Promise<null>(() => {}) : text),
      set: (value: string | null) => void (text = value),
    };
    const { session, events } = await it.login({ storage });
    broken = true;
    assert.equal(await it.world.until(codeOf(session.token())), 'unavailable');
    broken = false;
    assert.ok((await it.world.until(codeOf(session.token()))).startsWith('resolved'));
    assert.deepEqual(events, ['signedin']);
  });
});

describe('sessionStorage and duplicated tabs', () => {
  for (const locks of [true, false]) {
    const tab = { locks };
    test(`copies (locks: ${locks}): one renews, and both have the new token`, async () => {
      const it = kit();
      const [a, b] = await two(it, { storage: 'session' }, tab);
      for (let i = 1; i <= 5; i++) {
        await it.world.pass(100);
        await it.world.until(b.session.renew());
        await it.world.pass(1);
        assert.equal(it.model.count(...TOKEN), i);
        assert.equal(await a.session.token(), await b.session.token());
      }
      assert.equal(JSON.parse(b.tab.session.get(KEY)!).generation, 6, 'in its own storage, too');
    });

    test(`one dies (locks: ${locks}): the other goes on with the newest record`, async () => {
      const it = kit();
      const [a, b] = await two(it, { storage: 'session' }, tab);
      await it.world.until(a.session.renew());
      await it.world.pass(100);
      a.tab.kill();
      await it.world.pass(600);
      assert.equal((await it.world.until(b.session.fetch('/api'))).status, 200);
      assert.ok(it.model.count(...TOKEN) >= 3);
      assert.deepEqual(
        b.events.filter((event) => event.startsWith('signedout')),
        [],
      );
    });
  }

  test('an old copy hears the newest record before it renews', async () => {
    const it = kit();
    const a = await it.login({ storage: 'session' });
    const copy = { session: new Map(a.tab.session) } as never;
    for (let i = 0; i < 5; i++) {
      await it.world.pass(60);
      await it.world.until(a.session.renew());
    }
    const b = it.open({ storage: 'session' }, { copyOf: copy });
    await it.world.pass(1);
    assert.equal(await b.session.token(), await a.session.token());
    a.tab.kill();
    await it.world.pass(400);
    assert.equal((await it.world.until(b.session.fetch('/api'))).status, 200);
    assert.equal(it.model.rows.get('sid-1')!.ended, undefined);
  });

  test('a reload: the old document still holds the lock for a moment', async () => {
    const it = kit();
    const a = await it.login({ storage: 'session' });
    const b = it.open({ storage: 'session' }, { copyOf: a.tab });
    a.tab.asleep = true;
    await it.world.until(b.session.ready);
    assert.ok((await codeOf(b.session.token())).startsWith('resolved'), 'usable at once');
    const renewal = b.session.renew();
    await it.world.pass(1);
    a.tab.kill();
    await it.world.until(renewal);
  });

  test('back/forward cache: a page that was put aside hears the newest before it renews', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'session' });
    a.tab.asleep = true;
    for (let i = 0; i < 5; i++) {
      await it.world.pass(100);
      await it.world.until(b.session.renew());
    }
    a.tab.asleep = false;
    a.tab.fire('pageshow', { persisted: true });
    await it.world.until(a.session.renew());
    await it.world.pass(1);
    assert.equal(await a.session.token(), await b.session.token());
    assert.equal(it.model.rows.get('sid-1')!.ended, undefined);
    assert.equal(it.model.count(...TOKEN), 5, 'it had the newest by then');
  });

  test('the other copy does not answer: it goes on alone', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'session' });
    a.tab.asleep = true;
    await it.world.until(b.session.renew());
    assert.deepEqual(b.events, ['signedin', 'renewed']);
    a.tab.asleep = false;
    await it.world.until(a.session.renew());
    assert.equal(it.model.rows.get('sid-1')!.ended, undefined);
  });

  test('signed out in one, signed out in its copy; a tab of another login stays', async () => {
    const it = kit();
    const [a, b] = await two(it, { storage: 'session' });
    const other = await it.login({ storage: 'session' });
    await b.session.signOut();
    await it.world.pass(1);
    assert.deepEqual([a.session.user, b.session.user], [null, null]);
    assert.notEqual(other.session.user, null);
    assert.equal(it.model.rows.get(other.session.info!.id)!.ended, undefined);
    await other.session.login({ username: 'demo', password: 'right' });
    await it.world.until(other.session.renew());
  });
});

describe('in memory', () => {
  test('no token leaves: not on the channel, not in a storage, a property or an error', async () => {
    posted.length = 0;
    const it = kit();
    const [a, b] = [await it.login(), await it.login()];
    const secrets = [await a.session.token(), it.model.refreshToken(it.model.rows.get('sid-1')!)];
    await a.session.call('PATCH', '/v1/me', { name: 'Grace' });
    await it.world.pass(300);
    secrets.push(await a.session.token(), it.model.refreshToken(it.model.rows.get('sid-1')!));
    it.model.end('sid-1', 'revoked');
    const failed = await it.world.until(a.session.renew().catch((error: Error) => error));
    await b.session.signOut();
    const seen = JSON.stringify([
      posted,
      [...a.tab.local],
      [...a.tab.session],
      failed,
      Object.entries(failed as object),
      String(failed),
      (failed as Error).stack,
    ]);
    for (const secret of secrets)
      assert.ok(!seen.includes(secret.split('.')[2]!.length > 5 ? secret.split('.')[2]! : secret), 'found a token');
    assert.ok(!seen.includes('rsl_rt_') && !seen.includes('eyJ'));
    for (const value of Object.values(Object.getOwnPropertyDescriptors(a.session))) {
      assert.ok(!JSON.stringify(value.value ?? null)?.includes('eyJ'));
    }
    assert.ok(posted.length > 0);
  });

  test('each tab is a session of its own; the user signs out of all tabs', async () => {
    const it = kit();
    const [a, b] = [await it.login(), await it.login()];
    assert.notEqual(a.session.info!.id, b.session.info!.id);
    await a.session.signOut();
    await it.world.pass(1);
    assert.equal(b.session.user, null);
    assert.deepEqual(
      [...it.model.rows.values()].map(({ ended }) => ended),
      ['signed_out', 'signed_out'],
    );
  });

  test('one that was ended elsewhere leaves the others alone', async () => {
    const it = kit();
    const [a, b] = [await it.login(), await it.login()];
    it.model.end('sid-1', 'revoked');
    await it.world.until(codeOf(a.session.renew()));
    await it.world.pass(1);
    assert.deepEqual([a.session.user === null, b.session.user === null], [true, false]);
  });

  test('changed claims reach the other tab’s session by a renewal', async () => {
    const it = kit();
    for (const mode of ['refresh', 'fixed', 'sliding'] as const) {
      const [a, b] = [await it.login({ mode }), await it.login({ mode })];
      await it.world.pass(2);
      await a.session.call('PATCH', '/v1/me', { name: mode });
      await it.world.pass(1);
      assert.equal(b.session.user!.name, mode);
      assert.deepEqual(b.events, ['signedin', 'claims', 'renewed']);
    }
  });

  test('messages of the wrong shape change nothing', async () => {
    const it = kit();
    const { tab, session, events } = await it.login({ storage: 'session' });
    const { sub } = session.user!;
    await it.world.pass(2);
    const strange = [
      null,
      5,
      'out',
      [],
      {},
      { out: 5 },
      { out: 'other' },
      { out: sub, sid: 'other' },
      { rev: '9', sub },
      { rev: 9, sub: 'other' },
      { rev: NaN, sub },
      { record: 5 },
      { record: '{' },
      { record: null },
      { ask: 5 },
      { ask: 'other', generation: 99 },
    ];
    for (const data of strange) for (const channel of tab.channels) channel.onmessage?.({ data });
    await it.world.pass(2);
    assert.deepEqual(events, ['signedin']);
    assert.equal(it.model.calls.length, 1);
  });
});
