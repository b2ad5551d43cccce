// When one tab renews, when it does not, and what ends a session.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { codeOf, kit } from './kit.js';
import { error, reply } from './model.js';

const TOKEN = ['POST', '/oauth/token'] as const;
const RENEW = ['POST', '/v1/session/renew'] as const;

describe('ahead of expiry', () => {
  test('refresh: a minute ahead while the page is visible, and not while it is hidden', async () => {
    const { world, model, login } = kit();
    const { tab } = await login();
    await world.pass(239);
    assert.equal(model.count(...TOKEN), 0);
    await world.pass(2);
    assert.equal(model.count(...TOKEN), 1);
    tab.visible = false;
    await world.pass(3600);
    assert.equal(model.count(...TOKEN), 1);
  });

  test('refresh: hidden for hours, then visible again', async () => {
    const { world, model, login } = kit();
    const { tab, session, events } = await login();
    tab.visible = false;
    tab.fire('visibilitychange');
    await world.pass(8 * 3600);
    assert.equal(model.count(...TOKEN), 0);
    tab.visible = true;
    tab.fire('visibilitychange');
    await world.pass(1);
    assert.equal(model.count(...TOKEN), 1);
    assert.equal((await session.fetch('/api')).status, 200);
    assert.ok(!events.some((event) => event.startsWith('signedout')));
  });

  test('refresh with keepAlive use: an idle page stays quiet; the next use renews', async () => {
    const { world, model, login } = kit();
    const { session } = await login({ keepAlive: 'use' });
    await world.pass(3600);
    assert.equal(model.count(...TOKEN), 0);
    await world.until(session.token());
    assert.equal(model.count(...TOKEN), 1);
  });

  test('eight hours of sleep: one renewal on waking, whoever asks', async () => {
    const { world, model, login } = kit();
    const { tab, session, events } = await login();
    tab.asleep = true;
    await world.pass(8 * 3600);
    tab.asleep = false;
    tab.fire('visibilitychange');
    tab.fire('focus');
    await Promise.all([session.token(), session.fetch('/api'), session.token()]);
    await world.pass(1);
    assert.equal(model.count(...TOKEN), 1);
    assert.ok(!events.some((event) => event.startsWith('signedout')));
  });

  test('sliding: used past its half-life it renews, and the token of before is good meanwhile', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login({ mode: 'sliding' });
    await world.pass(590);
    await session.token();
    assert.equal(model.count(...RENEW), 0, 'not before');
    await world.pass(20);
    const before = await session.token();
    await world.pass(1);
    assert.equal(model.count(...RENEW), 1);
    assert.notEqual(await session.token(), before);
    assert.deepEqual(events, ['signedin', 'renewed']);
  });

  test('sliding: used once and then idle it renews once ahead, then lets the user go', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login({ mode: 'sliding' });
    await world.pass(60);
    await session.token();
    await world.pass(1090);
    assert.equal(model.count(...RENEW), 1);
    await world.pass(1200 + 10);
    assert.equal(model.count(...RENEW), 1);
    assert.deepEqual(events, ['signedin', 'renewed', 'expiring', 'signedout:idle_timeout']);
    assert.equal(session.user, null);
  });

  test('sliding: an idle page never renews, and hears why it ended', async () => {
    const { world, model, login } = kit();
    const { events } = await login({ mode: 'sliding' });
    await world.pass(1300);
    assert.equal(model.count(...RENEW), 0);
    assert.deepEqual(events, ['signedin', 'expiring', 'signedout:idle_timeout']);
  });

  test('sliding with keepAlive open: the page keeps it alive', async () => {
    const { world, login } = kit();
    const { events } = await login({ mode: 'sliding', keepAlive: 'open' });
    await world.pass(4000);
    assert.ok(events.length > 2 && !events.some((event) => event !== 'signedin' && event !== 'renewed'), events.join());
  });

  test('fixed: never ahead; told of the end; then over', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login({ mode: 'fixed', expiringBefore: 600 });
    await world.pass(604800 - 700);
    await session.token();
    assert.deepEqual([model.count(...RENEW), events.join()], [0, 'signedin']);
    await world.pass(200);
    assert.equal(events.join(), 'signedin,expiring');
    await world.pass(600);
    assert.equal(events.join(), 'signedin,expiring,signedout:max_lifetime');
    assert.equal(model.calls.length, 2, 'one login, one look');
  });

  test('an absolute end is told of although renewals go on', async () => {
    const { world, model, login } = kit();
    model.policies.refresh!.maxTtl = 3600;
    const { events } = await login();
    await world.pass(3600 - 30);
    assert.equal(events.filter((event) => event === 'expiring').length, 1);
    await world.pass(60);
    assert.equal(events.at(-1), 'signedout:max_lifetime');
  });

  test('a life of seconds is no reason to hurry', async () => {
    const { world, model, login } = kit();
    model.policies.refresh!.accessTtl = 5;
    await login();
    await world.pass(60);
    assert.ok(model.count(...TOKEN) >= 10 && model.count(...TOKEN) <= 16, `${model.count(...TOKEN)}`);
  });
});

describe('a server that is not there', () => {
  const answers: Record<string, () => Promise<Response>> = {
    'network error': () => Promise.reject(new TypeError('Failed to fetch')),
    '500': async () => new Response('<h1>oops</h1>', { status: 500 }),
    '503': async () => error(503, 'temporarily_unavailable'),
    '429': async () => error(429, 'too_many_requests', {}, { 'retry-after': '7' }),
    '403': async () => error(403, 'invalid_token'),
    'a captive portal': async () => new Response('<html>log in to the hotel</html>'),
    'a stranger’s 401': async () => new Response('no', { status: 401 }),
    invalid_client: async () => error(401, 'invalid_client'),
    'nothing at all': () => new Promise(() => {}),
  };
  for (const mode of ['refresh', 'sliding'] as const) {
    for (const [name, answer] of Object.entries(answers)) {
      test(`${mode}, ${name}: for ever, and no loop; nobody is signed out`, async () => {
        const { world, model, login } = kit();
        const { session, events } = await login({ mode, keepAlive: 'open' });
        const before = model.calls.length;
        model.override = () => answer();
        await world.pass(3600);
        const calls = model.calls.length - before;
        assert.ok(calls > 30 && calls < 400, `${calls} calls in an hour`);
        for (let i = 0; i < 50; i++) void codeOf(session.token());
        await world.pass(15);
        assert.equal(await world.until(codeOf(session.token())), 'unavailable');
        assert.ok(!events.some((event) => event.startsWith('signedout')), events.join());
        const demanded = model.calls.length;
        for (let i = 0; i < 100; i++) {
          void codeOf(session.token());
          await world.pass(0.1);
        }
        assert.ok(
          model.calls.length - demanded <= 12,
          `${model.calls.length - demanded} calls in ten seconds on demand`,
        );
        if (mode === 'refresh') {
          model.override = undefined;
          await world.pass(31);
          assert.equal((await world.until(session.fetch('/api'))).status, 200);
        }
      });
    }
  }

  test('online tries at once', async () => {
    const { world, model, login } = kit();
    const { tab, session } = await login();
    model.override = () => Promise.reject(new TypeError('offline'));
    await world.pass(4000);
    model.override = undefined;
    const before = model.count(...TOKEN);
    tab.fire('online');
    await world.pass(0.1);
    assert.equal(model.count(...TOKEN), before + 1);
    assert.equal((await session.fetch('/api')).status, 200);
  });

  test('away, but the token is still good: it is used', async () => {
    const { world, model, login } = kit();
    const { session } = await login({ keepAlive: 'use' });
    model.override = () => Promise.reject(new TypeError('offline'));
    await world.pass(297);
    assert.ok((await codeOf(session.token())).startsWith('resolved'));
    await world.pass(4);
    assert.equal(await codeOf(session.token()), 'unavailable');
  });

  test('a lost answer costs nothing', async () => {
    const { world, model, login } = kit();
    const { session } = await login();
    let lose = true;
    model.override = (call) => {
      if (call.path !== '/oauth/token' || !lose) return;
      lose = false;
      model.override = undefined;
      return model.fetch(call.url, call.init).then(() => Promise.reject(new TypeError('lost')));
    };
    await world.pass(320);
    assert.equal((await session.fetch('/api')).status, 200);
  });

  test('refresh: an answer without a token is no renewal', async () => {
    const { world, model, login } = kit();
    const { session } = await login();
    model.override = async () => reply(200, { hello: 'world' });
    assert.equal(await world.until(codeOf(session.renew())), 'unavailable');
    model.override = undefined;
    await world.pass(31);
    await world.until(session.renew());
  });

  test('an answer that a sleeping page gets to see too late is as good as lost', async () => {
    const { world, model, login } = kit();
    const { tab, session, events } = await login();
    model.override = (call) => {
      if (call.path !== '/oauth/token') return;
      model.override = undefined;
      const answer = model.fetch(call.url, call.init);
      return new Promise((resolve) => world.after(20_000, () => resolve(answer)));
    };
    const renewal = codeOf(session.renew());
    await world.pass(1);
    tab.asleep = true;
    await world.pass(25);
    assert.equal(await renewal, 'unavailable');
    tab.asleep = false;
    await world.until(session.renew());
    assert.deepEqual(events, ['signedin', 'renewed']);
  });
});

describe('what ends a session', () => {
  test('refresh: invalid_grant for the newest token, with the reason told', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login();
    model.end('sid-1', 'revoked');
    await world.pass(250);
    assert.deepEqual(events, ['signedin', 'signedout:revoked']);
    assert.equal(await codeOf(session.token()), 'signed_out');
    const calls = model.calls.length;
    await world.pass(4000);
    assert.equal(model.calls.length, calls, 'and silence after that');
  });

  test('refresh: superseded is no end, and no loop', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login();
    model.override = (call) =>
      call.path === '/oauth/token' ? error(400, 'invalid_grant', { reason: 'superseded' }) : undefined;
    await world.pass(600);
    assert.equal(await world.until(codeOf(session.token())), 'unavailable');
    assert.deepEqual(events, ['signedin']);
    assert.ok(model.count(...TOKEN) < 140, `${model.count(...TOKEN)}`);
  });

  test('sliding: 401 invalid_token on renewal', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login({ mode: 'sliding' });
    model.end('sid-1', 'password_changed');
    assert.equal(await world.until(codeOf(session.renew())), 'signed_out');
    assert.deepEqual(events, ['signedin', 'signedout:password_changed']);
  });

  test('renew() renews whatever the clock says, and once for all who ask', async () => {
    const { world, model, login } = kit();
    const { session } = await login();
    await world.until(Promise.all([session.renew(), session.renew(), session.renew()]));
    assert.equal(model.count(...TOKEN), 1);
    await world.until(session.renew());
    assert.equal(model.count(...TOKEN), 2);
  });

  test('nobody signed in: everything says so, and nothing is sent', async () => {
    const { world, model, open } = kit();
    const { session } = open();
    await session.ready;
    assert.equal(await codeOf(session.token()), 'signed_out');
    assert.equal(await codeOf(session.renew()), 'signed_out');
    assert.equal(await codeOf(session.call('GET', '/v1/me')), 'signed_out');
    assert.deepEqual([session.user, session.info, session.expiresAt], [null, null, null]);
    await session.signOut();
    await world.pass(100);
    assert.equal(model.calls.length, 0);
  });
});

describe('a wrong clock', () => {
  for (const days of [-2, 2]) {
    for (const mode of ['refresh', 'sliding'] as const) {
      test(`${mode}, the device ${days} days off from the start`, async () => {
        const { world, model, login, open } = kit();
        const { tab, session, events } = await login({ mode, storage: 'local' }, { clock: days * 86400 });
        assert.ok(Math.abs(session.now() - model.now()) < 2);
        for (let i = 0; i < 40; i++) {
          await world.pass(60);
          assert.equal((await world.until(session.fetch('/api'))).status, 200);
        }
        const renewals = model.calls.filter(({ path }) => /token|renew/.test(path)).length;
        assert.ok(renewals >= 3 && renewals <= 12, `${renewals}`);
        assert.ok(!events.some((event) => event.startsWith('signedout')));
        tab.kill();
        const again = open({ mode, storage: 'local' }, { clock: days * 86400, ...{ fetch: tab.options.fetch } });
        again.tab.local = tab.local;
        await again.session.ready;
        assert.ok(Math.abs(again.session.now() - model.now()) < 2, 'kept with the record');
      });

      test(`${mode}, the device's clock jumps ${days} days while it runs`, async () => {
        const { world, model, login } = kit();
        const { tab, session, events } = await login({ mode });
        await world.pass(60);
        tab.clock += days * 86400;
        for (let i = 0; i < 40; i++) {
          tab.fire('focus');
          assert.equal((await world.until(session.fetch('/api'))).status, 200);
          await world.pass(60);
        }
        assert.ok(!events.some((event) => event.startsWith('signedout')), events.join());
        assert.ok(Math.abs(session.now() - model.now()) < 2);
        assert.ok(model.calls.length < 40 + 20, `${model.calls.length}`);
      });
    }
  }

  test('sliding, an idle page whose clock jumps ahead is looked after, not kept alive', async () => {
    const { world, model, login } = kit();
    const { tab, events } = await login({ mode: 'sliding' });
    tab.clock += 2 * 86400;
    tab.fire('focus');
    await world.pass(10);
    assert.deepEqual([model.count('GET', '/v1/session'), model.count(...RENEW)], [1, 0]);
    assert.deepEqual(events, ['signedin']);
  });

  test('an authority without Date: iat is enough', async () => {
    const { world, model, login } = kit();
    model.sendsDate = false;
    const { session, events } = await login({ mode: 'sliding' }, { clock: 86400 });
    assert.ok(Math.abs(session.now() - model.now()) < 2);
    await world.pass(900);
    await session.token();
    await world.pass(900);
    assert.ok(!events.some((event) => event.startsWith('signedout')));
  });
});

test('renewals that win nothing do not loop', async () => {
  const { world, model, login } = kit();
  const { session } = await login({ mode: 'sliding', keepAlive: 'open' });
  // A resource that says "not yet" for ever, without a Date to correct the clock.
  model.sendsDate = false;
  model.override = (call) =>
    call.path === '/v1/session/renew'
      ? reply(200, { renewed: false, renew_at: null, session: session.info })
      : undefined;
  await world.pass(1205);
  assert.ok(model.count(...RENEW) < 12, `${model.count(...RENEW)}`);
});

test('dispose: silence', async () => {
  const { world, model, login } = kit();
  const { tab, session, events } = await login({ storage: 'local' });
  session.dispose();
  const calls = model.calls.length;
  tab.fire('focus');
  tab.fire('online');
  await world.pass(4000);
  assert.equal(model.calls.length, calls);
  assert.equal(await codeOf(session.token()), 'signed_out');
  assert.deepEqual(events, ['signedin']);
  assert.deepEqual(
    [...tab.listeners.values()].map((set) => set.size),
    [...tab.listeners.values()].map(() => 0),
  );
  assert.equal(tab.channels.size, 0);
  assert.equal(await session.prepare('/api'), null);
});
