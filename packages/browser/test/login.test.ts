// Login, second factor, sign-out, and the mode without tokens.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { codeOf, kit } from './kit.js';
import { AUTHORITY, error, reply } from './model.js';

const right = { username: 'demo', password: 'right' };

describe('login', () => {
  test('signs in; a wrong password does not', async () => {
    const { model, open } = kit();
    const { session, events } = open();
    assert.equal(await codeOf(session.login({ ...right, password: 'wrong' })), 'invalid_credentials');
    assert.deepEqual(events, []);
    const result = await session.login(right);
    assert.deepEqual(result, { status: 'signed_in', user: session.user });
    assert.deepEqual(JSON.parse(model.calls[0]!.body), { client_id: 'refresh', username: 'demo', password: 'wrong' });
    assert.equal(session.info!.kind, 'refresh');
    assert.equal(session.expiresAt, model.now() + 14 * 86400);
    assert.deepEqual(events, ['signedin']);
  });

  test('too many failures: Retry-After is told', async () => {
    const { model, open } = kit();
    const { session } = open();
    model.override = () => error(429, 'too_many_requests', {}, { 'retry-after': '30' });
    await assert.rejects(session.login(right), { code: 'too_many_requests', status: 429, retryAfter: 30 });
  });

  test('second factor', async () => {
    const { model, open } = kit();
    model.secondFactor = true;
    const { session, events } = open();
    const first = await session.login(right);
    assert.deepEqual(first, {
      status: 'second_factor_required',
      challenge: 'challenge-1',
      factors: [{ factor: 'phone', hint: '…78' }, { factor: 'recovery_code' }],
    });
    assert.equal(session.user, null);
    await assert.rejects(session.secondFactor({ code: '1' }), { code: 'invalid_code', details: { tries_left: 4 } });
    model.override = (call) => (call.path.endsWith('resend') ? reply(202, { challenge: 'challenge-1' }) : undefined);
    await session.resendCode();
    assert.deepEqual(JSON.parse(model.calls.at(-1)!.body), { challenge: 'challenge-1' });
    const user = await session.secondFactor({ code: '123456' });
    assert.equal(user, session.user);
    assert.deepEqual(JSON.parse(model.calls.at(-1)!.body), {
      challenge: 'challenge-1',
      factor: 'phone',
      code: '123456',
    });
    assert.deepEqual(events, ['signedin']);
  });

  test('the code could not be sent: the challenge is good all the same, for a recovery code', async () => {
    const { model, open } = kit();
    const { session } = open();
    model.override = (call) =>
      call.path === '/v1/session' ? error(503, 'text_messages_unavailable', { challenge: 'challenge-1' }) : undefined;
    await assert.rejects(session.login(right), {
      code: 'text_messages_unavailable',
      details: { challenge: 'challenge-1' },
    });
    model.override = undefined;
    await session.secondFactor({ code: '123456', factor: 'recovery_code' });
    assert.equal(session.user!.name, 'Demo');
  });

  test('a client of another kind is a mistake that is named', async () => {
    const { open } = kit();
    const { session } = open({ clientId: 'sliding', mode: 'refresh' });
    await assert.rejects(session.login(right), TypeError);
    assert.equal(session.user, null);
  });

  test('a listener that throws stops nothing', async () => {
    const { open } = kit();
    const { session, events } = open();
    const runner = process.rawListeners('unhandledRejection');
    process.removeAllListeners('unhandledRejection');
    const thrown = new Promise((resolve) => process.once('unhandledRejection', resolve));
    const off = session.on('signedin', () => {
      throw new Error('mine');
    });
    session.on('signedin', () => void events.push('second'));
    await session.login(right);
    assert.equal(String(await thrown), 'Error: mine', 'reported like any error that nobody handles');
    for (const listener of runner) process.on('unhandledRejection', listener as never);
    assert.deepEqual(events, ['signedin', 'second']);
    off();
    await session.login(right);
  });
});

describe('sign-out', () => {
  test('local first, then the authority; a network failure does not bring it back', async () => {
    const { world, model, login } = kit();
    const { tab, session, events } = await login({ storage: 'local' });
    model.override = () => Promise.reject(new TypeError('offline'));
    const out = session.signOut();
    await world.pass(0.01);
    assert.equal(session.user, null);
    assert.equal(tab.local.size, 0);
    await world.until(out);
    await world.pass(60);
    assert.deepEqual(events, ['signedin', 'signedout:signed_out']);
    assert.equal(model.calls.length, 2);
    for (const { init } of model.calls) assert.equal(init.keepalive, true);
  });

  test('with an access token that has expired, in every mode', async () => {
    for (const [mode, ended] of [
      ['refresh', 'signed_out'],
      ['sliding', 'signed_out'],
      ['fixed', 'signed_out'],
    ] as const) {
      const { world, model, login } = kit();
      const { session } = await login({ mode, keepAlive: 'use' });
      await world.pass(400);
      await session.signOut();
      assert.equal(model.rows.get('sid-1')!.ended, ended);
      assert.equal(model.count('POST', '/oauth/revoke'), 1);
    }
  });

  test('everywhere', async () => {
    const { world, model, login } = kit();
    const others = [await login({ mode: 'fixed' }), await login()];
    const { session } = await login({ keepAlive: 'use' });
    await world.pass(400);
    await session.signOut({ everywhere: true });
    assert.deepEqual(
      [...model.rows.values()].map(({ ended }) => !!ended),
      [true, true, true],
    );
    await world.pass(1);
    assert.equal(others[1]!.session.user, null, 'the other tab of this client hears it');
  });

  test('everywhere, and the authority is away: signed out here, and told that the rest is not done', async () => {
    const { world, model, login } = kit();
    const { session } = await login();
    model.override = () => Promise.reject(new TypeError('offline'));
    assert.equal(await world.until(codeOf(session.signOut({ everywhere: true }))), 'unavailable');
    assert.equal(session.user, null);
  });

  test('my devices', async () => {
    const { model, login } = kit();
    const { session } = await login();
    model.override = (call) => (call.method === 'GET' ? reply(200, { items: [{ id: 'a' }, { id: 'b' }] }) : undefined);
    assert.deepEqual(
      (await session.sessions.list()).map(({ id }) => id),
      ['a', 'b'],
    );
    model.override = (call) => (call.method === 'DELETE' ? new Response(null, { status: 204 }) : undefined);
    await session.sessions.end('x/y');
    await session.sessions.endOthers();
    assert.deepEqual(
      model.calls.slice(-2).map(({ path }) => path),
      ['/v1/sessions/x%2Fy', '/v1/sessions?except=current'],
    );
    await session.sessions.end(session.info!.id);
    assert.equal(session.user, null);
  });
});

describe('mode cookie', () => {
  const cookie = { mode: 'cookie' } as const;

  test('no token, cookies for own origins only', async () => {
    const { model, login } = kit();
    const { tab, session } = await login(cookie);
    assert.equal(session.user!.name, 'Demo');
    assert.equal(await codeOf(session.token()), 'no_token');
    assert.deepEqual(await session.prepare('/api'), { headers: {}, credentials: true });
    assert.equal(await session.prepare('https://evil.example/'), null);
    assert.equal((await session.fetch('/api')).status, 200);
    await session.fetch('https://evil.example/').catch(() => {});
    assert.deepEqual(
      model.calls.slice(-2).map(({ init }) => init.credentials),
      ['include', undefined],
    );
    assert.equal(tab.local.size + tab.session.size, 0);
    for (const { init, headers } of model.calls) {
      assert.equal(headers.get('authorization'), null);
      assert.notEqual(init.mode, 'no-cors');
    }
  });

  test('a reload finds the session; without one it is quiet', async () => {
    const { world, model, open, login } = kit();
    (await login(cookie)).tab.kill();
    const again = open(cookie);
    await world.until(again.session.ready);
    assert.equal(again.session.user!.name, 'Demo');
    assert.deepEqual(again.events, ['signedin']);
    model.cookie = undefined;
    const nobody = open(cookie);
    await world.until(nobody.session.ready);
    assert.deepEqual([nobody.session.user, nobody.events.length], [null, 0]);
    const calls = model.calls.length;
    nobody.tab.kill();
    again.tab.kill();
    await world.pass(3600);
    assert.equal(model.calls.length, calls);
  });

  test('the authority is away when the page loads: it asks again', async () => {
    const { world, model, open, login } = kit();
    (await login(cookie)).tab.kill();
    model.override = () => Promise.reject(new TypeError('offline'));
    const { session, events } = open(cookie);
    await world.until(session.ready);
    assert.deepEqual([session.user, events.length], [null, 0]);
    model.override = undefined;
    await world.pass(35);
    assert.deepEqual(events, ['signedin']);
  });

  test('slides when used past its half-life; an idle page lets the user go', async () => {
    const { world, model, login } = kit();
    model.policies.cookie!.idleTtl = 1200;
    const { session, events } = await login(cookie);
    await world.pass(590);
    await session.fetch('/api');
    assert.equal(model.count('POST', '/v1/session/renew'), 0);
    await world.pass(20);
    await session.fetch('/api');
    await world.pass(1);
    assert.equal(model.count('POST', '/v1/session/renew'), 1);
    assert.equal(session.expiresAt, model.now() - 1 + 1200);
    await world.pass(1300);
    assert.equal(model.count('POST', '/v1/session/renew'), 1);
    assert.deepEqual(events, ['signedin', 'renewed', 'expiring', 'signedout:idle_timeout']);
  });

  test('a 401 of an API: one look decides for all', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login(cookie);
    await world.pass(5);
    let dead = false;
    model.override = (call) => (call.path === '/api' && !dead ? error(401, 'invalid_token') : undefined);
    await world.until(Promise.all(Array.from({ length: 50 }, () => session.fetch('/api'))));
    assert.equal(model.count('GET', '/v1/session'), 3, 'one as the page loaded, one at login, one look');
    assert.deepEqual(events, ['signedin']);
    dead = true;
    model.end('sid-1', 'revoked');
    await world.pass(5);
    await world.until(Promise.all(Array.from({ length: 50 }, () => session.fetch('/api'))));
    assert.equal(model.count('GET', '/v1/session'), 4);
    assert.deepEqual(events, ['signedin', 'signedout:revoked']);
  });

  test('a change of the record: here at once, and in the other tab', async () => {
    const { world, open, login } = kit();
    const a = await login(cookie);
    const b = open(cookie);
    await world.until(b.session.ready);
    await world.pass(2);
    await a.session.call('PATCH', '/v1/me', { name: 'Grace' });
    assert.equal(a.session.user!.name, 'Grace');
    await world.pass(1);
    assert.equal(b.session.user!.name, 'Grace');
    await a.session.call('DELETE', '/v1/me/phone');
    assert.equal(a.session.user!.revision, 3);
    await a.session.signOut();
    await world.pass(1);
    assert.deepEqual([a.session.user, b.session.user], [null, null]);
    await b.session.login(right);
    await world.pass(1);
    assert.equal(a.session.user!.name, 'Grace', 'a login elsewhere is seen');
  });

  test('a record that was changed elsewhere is seen when the page is looked at again', async () => {
    const { world, model, login } = kit();
    const { tab, session, events } = await login(cookie);
    await world.pass(60);
    model.change({ name: 'Ada' });
    tab.fire('focus');
    tab.fire('focus');
    await world.pass(1);
    assert.equal(session.user!.name, 'Ada');
    assert.equal(events.at(-1), 'claims');
  });

  test('the cookie cannot be removed by script: a sign-out that fails says so, and the session stays', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login(cookie);
    model.override = () => Promise.reject(new TypeError('offline'));
    assert.equal(await world.until(codeOf(session.signOut())), 'unavailable');
    assert.notEqual(session.user, null);
    model.override = () => error(503, 'temporarily_unavailable');
    assert.equal(await world.until(codeOf(session.signOut())), 'unavailable');
    model.override = undefined;
    await session.signOut();
    assert.deepEqual(events, ['signedin', 'signedout:signed_out']);
  });

  test('a look that was under way when the user signed out brings nothing back', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login(cookie);
    await world.pass(5);
    const answers: (() => void)[] = [];
    model.override = (call) => {
      if (call.path === '/api') return error(401, 'invalid_token');
      if (call.method !== 'GET' || call.headers.has('again')) return undefined;
      const answer = model.fetch(call.url, { ...call.init, headers: { again: '1' } });
      return new Promise((resolve) => answers.push(() => resolve(answer)));
    };
    const asked = session.fetch('/api');
    await world.pass(0.1);
    assert.equal(answers.length, 2);
    await session.signOut();
    answers.forEach((answer) => answer());
    await world.until(asked);
    assert.deepEqual([session.user, events.join()], [null, 'signedin,signedout:signed_out']);
  });

  test('superseded is no end', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login(cookie);
    model.override = () => error(401, 'invalid_token', { reason: 'superseded' });
    assert.equal((await world.until(session.fetch('/api'))).status, 401);
    await world.until(codeOf(session.renew()));
    assert.deepEqual(events, ['signedin']);
  });
});

test('without a window: it can be made, and there is nobody', async () => {
  const { createSession } = await import('../src/index.js');
  const session = createSession({ api: AUTHORITY, clientId: 'x', mode: 'refresh', storage: 'local' });
  await session.ready;
  assert.equal(session.user, null);
  assert.equal(await session.prepare('https://app.example/'), null);
  session.dispose();
});
