// Against the real authority.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Mode } from '../src/types.js';
import { type Authority, Browser, startAuthority } from './authority.js';
import { codeOf } from './kit.js';

let authority: Authority;
before(async () => {
  authority = await startAuthority();
});
after(() => authority.stop());

describe('every mode', () => {
  for (const mode of ['sliding', 'fixed', 'refresh', 'cookie'] as Mode[]) {
    test(`${mode}: login, change of the record, renewal, sign-out`, async () => {
      const { session, events } = authority.page(mode);
      assert.equal(
        await codeOf(session.login({ username: authority.user.username, password: 'wrong password' })),
        'invalid_credentials',
      );
      const result = await session.login(authority.user);
      assert.equal(result.status, 'signed_in');
      assert.equal(session.info!.kind, mode);
      assert.ok(session.expiresAt! > session.now());
      assert.ok(Math.abs(session.info!.started_at - session.now()) < 30);
      assert.equal((await session.fetch(authority.issuer + '/v1/me')).status, 200);

      const name = `Demo ${mode}`;
      await session.call('PATCH', '/v1/me', { name });
      assert.equal(session.user!.name, name);
      assert.ok(events.includes('claims'), events.join());
      await session.renew();
      assert.equal((await session.fetch(authority.issuer + '/v1/session')).status, 200);

      const token = mode === 'cookie' ? undefined : await session.token();
      await session.signOut();
      assert.equal(events.at(-1), 'signedout:signed_out');
      assert.equal(session.user, null);
      const headers: HeadersInit = token ? { authorization: `Bearer ${token}` } : {};
      assert.equal((await session.fetch(authority.issuer + '/v1/session', { headers })).status, 401);
    });
  }
});

test('refresh: an access token that has expired, and a new one', async () => {
  const { session, events } = authority.page('refresh', { keepAlive: 'use' });
  await session.login(authority.user);
  const before = await session.token();
  await authority.advance(400);
  assert.equal((await session.fetch(authority.issuer + '/v1/me')).status, 200);
  assert.notEqual(await session.token(), before);
  assert.deepEqual(events, ['signedin', 'renewed']);
});

test('sliding: renewed by use past its half-life, and let go when idle', async () => {
  const { session, events } = authority.page('sliding');
  await session.login(authority.user);
  const end = session.expiresAt!;
  await authority.advance(700);
  await session.token();
  await session.renew();
  assert.ok(session.expiresAt! >= end + 690);
  await authority.advance(1300);
  assert.equal(await codeOf(session.token()), 'signed_out');
  assert.deepEqual([events[0], events.at(-1)], ['signedin', 'signedout:idle_timeout']);
});

test('fixed: told that it does not renew, and resealed when the claims have changed', async () => {
  const { session, events } = authority.page('fixed');
  const other = authority.page('sliding');
  await session.login(authority.user);
  const end = session.expiresAt;
  await session.renew();
  assert.deepEqual(events, ['signedin']);
  await other.session.login(authority.user);
  await other.session.call('PATCH', '/v1/me', { name: 'Changed elsewhere' });
  await session.renew();
  assert.equal(session.user!.name, 'Changed elsewhere');
  assert.equal(session.expiresAt, end);
});

describe('refresh tokens', () => {
  test('two tabs of one storage renew at the same instant, without locks', async () => {
    const browser = new Browser();
    const a = authority.page('refresh', { storage: 'local' }, browser);
    await a.session.login(authority.user);
    const b = authority.page('refresh', { storage: 'local' }, browser);
    await b.session.ready;
    for (let i = 0; i < 30; i++) {
      await Promise.all([a.session.renew(), b.session.renew(), a.session.token(), b.session.token()]);
    }
    for (const { session, events } of [a, b]) {
      assert.equal((await session.fetch(authority.issuer + '/v1/me')).status, 200);
      assert.ok(!events.some((event) => event.startsWith('signedout')));
    }
    assert.equal(await a.session.token(), await b.session.token());
  });

  test('the answer of a renewal is lost after the authority has it', async () => {
    const { session, network, events } = authority.page('refresh');
    await session.login(authority.user);
    network.fetch = async (...request) => {
      await fetch(...request);
      throw new TypeError('lost');
    };
    assert.equal(await codeOf(session.renew()), 'unavailable');
    network.fetch = fetch;
    await authority.advance(60);
    await session.renew();
    assert.equal((await session.fetch(authority.issuer + '/v1/me')).status, 200);
    assert.deepEqual(events.slice(0, 2), ['signedin', 'renewed']);
  });

  test('a stolen, old refresh token is replayed: the session ends, and the owner is told why', async () => {
    const { session, network, events } = authority.page('refresh');
    await session.login(authority.user);
    let stolen = '';
    network.fetch = (url, init) => {
      if (String(url).endsWith('/oauth/token')) stolen ||= String(init!.body);
      return fetch(url, init);
    };
    for (let i = 0; i < 3; i++) {
      await session.renew();
      await authority.advance(30);
    }
    const answer = await fetch(authority.issuer + '/oauth/token', {
      method: 'POST',
      body: new URLSearchParams(stolen),
    });
    assert.equal(answer.status, 400);
    assert.equal(await codeOf(session.renew()), 'signed_out');
    assert.equal(events.at(-1), 'signedout:reuse_detected');
  });

  test('signing out with an access token that has expired', async () => {
    const browser = new Browser();
    const { session } = authority.page('refresh', { keepAlive: 'use', storage: 'local' }, browser);
    await session.login(authority.user);
    const [key, record] = [...browser.local][0]!;
    await authority.advance(400);
    await session.signOut();
    browser.local.set(key, record);
    const again = authority.page('refresh', { storage: 'local' }, browser);
    assert.equal(await codeOf(again.session.renew()), 'signed_out');
    assert.equal(again.events.at(-1), 'signedout:signed_out');
  });
});

test('my devices', async () => {
  const a = authority.page('refresh');
  const b = authority.page('sliding');
  const c = authority.page('cookie');
  for (const { session } of [a, b, c]) await session.login(authority.user);
  const list = await a.session.sessions.list();
  assert.ok(list.length >= 3);
  assert.deepEqual(
    list.filter(({ current }) => current).map(({ id }) => id),
    [a.session.info!.id],
  );
  await a.session.sessions.end(b.session.info!.id);
  assert.equal(await codeOf(b.session.renew()), 'signed_out');
  assert.equal(b.events.at(-1), 'signedout:revoked');
  await a.session.sessions.endOthers();
  assert.equal((await a.session.sessions.list()).length, 1);
  assert.equal((await c.session.fetch(authority.issuer + '/v1/session')).status, 401);
  assert.equal(c.events.at(-1), 'signedout:revoked');
  await b.session.login(authority.user);
  await authority.advance(400);
  await a.session.signOut({ everywhere: true });
  assert.equal(await codeOf(b.session.renew()), 'signed_out');
});

test('cookies: a reload finds the session, a second tab follows', async () => {
  const browser = new Browser();
  const a = authority.page('cookie', {}, browser);
  await a.session.login(authority.user);
  const b = authority.page('cookie', {}, browser);
  await b.session.ready;
  assert.equal(b.session.info!.id, a.session.info!.id);
  await authority.advance(8 * 86400);
  await b.session.fetch(authority.issuer + '/v1/me');
  await b.session.renew();
  assert.ok(b.session.expiresAt! >= a.session.expiresAt! + 7 * 86400);
  await a.session.signOut();
  assert.equal(browser.cookie, '');
  assert.equal((await b.session.fetch(authority.issuer + '/v1/session')).status, 401);
  assert.equal(b.events.at(-1), 'signedout:unauthorized');
});

test('the second factor by phone: the number in the token at once, then asked for at login', async () => {
  const { session, events } = authority.page('refresh');
  await session.login(authority.user);
  const { challenge } = await session.call<{ challenge: string }>('POST', '/v1/me/phone', {
    phone_number: '+4915112345678',
  });
  await assert.rejects(session.call('POST', '/v1/me/phone/verify', { challenge, code: '000000' }), {
    code: 'invalid_code',
  });
  const { recovery_codes } = await session.call<{ recovery_codes: string[] }>('POST', '/v1/me/phone/verify', {
    challenge,
    code: await authority.code(),
  });
  assert.equal(session.user!.phone_number, '+4915112345678');
  assert.equal(session.info!.acr, 'aal2');
  assert.ok(events.includes('claims'));
  await session.renew();
  await session.signOut();

  const first = await session.login(authority.user);
  assert.equal(first.status, 'second_factor_required');
  await assert.rejects(session.secondFactor({ code: '000000' }), { code: 'invalid_code', details: { tries_left: 4 } });
  await authority.advance(31);
  await session.resendCode();
  assert.equal((await session.secondFactor({ code: await authority.code() })).phone_number, '+4915112345678');
  await session.signOut();

  await authority.advance(86400);
  await session.login(authority.user);
  await session.secondFactor({ factor: 'recovery_code', code: recovery_codes[0]! });
  await assert.rejects(session.call('DELETE', '/v1/me/phone', { current_password: 'not this one' }), {
    code: 'invalid_credentials',
    status: 403,
  });
  await session.call('DELETE', '/v1/me/phone', { current_password: authority.user.password });
  assert.equal(session.user!.phone_number, null);
});
