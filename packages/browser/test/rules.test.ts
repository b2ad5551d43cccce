// The pure rules.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createClock } from '../src/clock.js';
import { challengeError, isDead } from '../src/judge.js';
import { backOff, plan } from '../src/schedule.js';
import { choose, decode, format, type Held, isNewer, merge, offer, parse, whole } from '../src/tokens.js';
import { jwt } from './model.js';
import { Tab, World } from './world.js';

const info = {
  kind: 'refresh',
  policy: 'app',
  started_at: 100,
  authenticated_at: 100,
  expires_at: 9000,
  acr: 'aal1',
  amr: [],
} as const;
const claims = { sub: 'u', sid: 's', rev: 1, iat: 1000, exp: 1300 };

const held = (more: object = {}, session: object = {}): Held =>
  whole(
    offer({
      session: { ...info, id: 's', generation: 3, idle_expires_at: 5000, ...session },
      access_token: jwt({ ...claims, ...more }),
      refresh_token: 'rsl_rt_three',
    }),
  )!;

describe('adoption', () => {
  test('a refresh token only with a newer number', () => {
    const now = held();
    const bring = (generation: number) => ({
      session: { ...now.session, generation },
      refresh_token: `rsl_rt_${generation}`,
      generation,
    });
    assert.equal(
      merge(now, { ...bring(4), access_token: now.access_token!, claims: now.claims }).refresh_token,
      'rsl_rt_4',
    );
    // Two renewals within a second: tokens of equal rank, of which the later goes with its refresh token.
    const twin = offer({ access_token: jwt({ ...claims, jti: 'twin' }) });
    assert.equal(merge(now, { ...twin, ...bring(4) }).access_token, twin.access_token);
    assert.equal(merge(now, twin), now);
    for (const generation of [3, 2]) {
      assert.equal(merge(now, { ...bring(generation), access_token: now.access_token!, claims: now.claims }), now);
    }
  });

  test('an access token only if (rev, iat, exp) is newer', () => {
    const now = held();
    const bring = (more: object) => merge(now, offer({ access_token: jwt({ ...claims, ...more }) })) === now;
    assert.equal(bring({ rev: 2, iat: 900 }), false);
    assert.equal(bring({ iat: 1001, exp: 1200 }), false);
    assert.equal(bring({ exp: 1301 }), false);
    for (const older of [{}, { rev: 0, iat: 2000 }, { iat: 999, exp: 2000 }, { exp: 1299 }])
      assert.equal(bring(older), true);
  });

  test('the two independently: a reseal leaves the refresh token, a late rotation the access token', () => {
    const now = held();
    const resealed = merge(now, offer({ session: { ...info, id: 's' }, access_token: jwt({ ...claims, rev: 2 }) }));
    assert.deepEqual([resealed.claims.rev, resealed.refresh_token, resealed.generation], [2, 'rsl_rt_three', 3]);
    const late = {
      session: { ...info, id: 's', generation: 4 },
      access_token: jwt({ ...claims, rev: 1, iat: 1100 }),
      refresh_token: 'rsl_rt_four',
    };
    const both = merge(resealed, offer(late));
    assert.deepEqual([both.claims.rev, both.refresh_token, both.generation], [2, 'rsl_rt_four', 4]);
  });

  test('nothing of another session, nothing malformed', () => {
    const now = held();
    const strange = [
      { access_token: jwt({ ...claims, sid: 'other', rev: 9 }) },
      { access_token: 'x' },
      { access_token: 7 },
      {},
      { session: 5 },
      { user: { ...claims, rev: 9 } },
    ];
    for (const body of strange)
      assert.equal(merge(now, offer(body as Record<string, unknown>)), now, JSON.stringify(body));
    assert.equal(decode(jwt({ ...claims, name: 'x'.repeat(20000) })), undefined);
    assert.equal(offer(null).session, undefined);
  });

  test('a token that came in a header moves the deadlines of a sliding session', () => {
    const now = held({ renew_at: 1150 }, { idle_expires_at: 1300 });
    const next = merge(now, offer({ access_token: jwt({ ...claims, iat: 1200, exp: 1500, renew_at: 1350 }) }));
    assert.deepEqual([next.session.renew_at, next.session.idle_expires_at], [1350, 1500]);
  });

  test('what a tab goes by: the storage decides whether, the newer token which', () => {
    const old = held();
    const newer = merge(old, offer({ access_token: jwt({ ...claims, iat: 1200 }) }));
    const other = held({ sid: 'z' }, { id: 'z', started_at: 200 });
    assert.equal(choose(newer, null, undefined), null, 'signed out elsewhere');
    assert.equal(choose(null, old, 's'), null, 'it saw this session end');
    assert.equal(choose(newer, old, undefined)!.claims.iat, 1200, 'a slow tab wrote over it');
    assert.equal(choose(old, newer, undefined)!.claims.iat, 1200);
    assert.equal(choose(old, other, undefined), other, 'a login elsewhere');
    assert.equal(choose(other, old, undefined), other, 'the later login');
  });

  test('order', () => {
    assert.equal(isNewer({ ...claims, rev: 2 }, claims), true);
    assert.equal(isNewer(claims, claims), false);
  });

  test('a record comes back as it was; one that cannot be read is none', () => {
    const now = held({ name: 'Zoë ✓' });
    const back = parse(format(now, -3.5))!;
    assert.deepEqual(
      [back.claims, back.refresh_token, back.generation, back.skew],
      [now.claims, 'rsl_rt_three', 3, -3.5],
    );
    assert.equal(now.claims.name, 'Zoë ✓');
    const record = JSON.parse(format(now, 0));
    for (const bad of [
      null,
      '',
      '{',
      '[]',
      'null',
      '5',
      '{"v":2}',
      JSON.stringify({ ...record, v: 2 }),
      JSON.stringify({ ...record, access_token: 'x' }),
      JSON.stringify({ ...record, session: {} }),
    ]) {
      assert.equal(parse(bad), null, String(bad));
    }
  });
});

test('only the authority can say that a credential is no good', () => {
  assert.equal(isDead('refresh', { status: 400, code: 'invalid_grant' }), true);
  assert.equal(isDead('sliding', { status: 401, code: 'invalid_token' }), true);
  assert.equal(isDead('fixed', { status: 401, code: 'invalid_token' }), true);
  assert.equal(isDead('cookie', { status: 401, code: 'unauthorized' }), true);
  const away: [Parameters<typeof isDead>[0], number | undefined, string][] = [
    ['refresh', 401, 'invalid_client'],
    ['refresh', 400, 'invalid_request'],
    ['refresh', 400, 'unavailable'],
    ['refresh', 403, 'invalid_grant'],
    ['refresh', 429, 'invalid_grant'],
    ['refresh', 500, 'invalid_grant'],
    ['refresh', 503, ''],
    ['sliding', 400, 'invalid_grant'],
    ['sliding', 401, 'unavailable'],
    ['sliding', 401, 'unauthorized'],
    ['sliding', 403, 'invalid_token'],
    ['sliding', 502, 'invalid_token'],
    ['cookie', 403, 'invalid_token'],
    ['refresh', undefined, 'invalid_grant'],
    ['sliding', undefined, 'invalid_token'],
  ];
  for (const [mode, status, code] of away)
    assert.equal(isDead(mode, status ? { status, code } : { code }), false, `${mode} ${status}`);
});

test('the error of a challenge', () => {
  assert.equal(challengeError('Bearer realm="x", error="invalid_token", error_description="no"'), 'invalid_token');
  assert.equal(
    challengeError('Bearer error=insufficient_user_authentication, max_age=300'),
    'insufficient_user_authentication',
  );
  assert.equal(challengeError('Bearer error_description="error is"'), undefined);
  assert.equal(challengeError(null), undefined);
});

test('what is due when', () => {
  assert.deepEqual(plan('refresh', held(), 60), { use: 1240, ahead: 1240, last: 5000 });
  assert.deepEqual(plan('refresh', held(), 600), { use: 1240, ahead: 1240, last: 5000 }, 'at most 20 % of the life');
  assert.deepEqual(plan('refresh', held(), 10), { use: 1290, ahead: 1290, last: 5000 });
  assert.deepEqual(plan('sliding', held({ renew_at: 1150 }), 60), { use: 1150, ahead: 1240, last: 1300 });
  assert.deepEqual(
    plan('sliding', held({ renew_at: 1150, exp: 9000 }), 60),
    { use: Infinity, ahead: Infinity, last: 9000 },
    'no time to win',
  );
  assert.deepEqual(plan('fixed', held({ exp: 9000 }), 60), { use: Infinity, ahead: Infinity, last: 9000 });
  const cookie = {
    session: { ...info, id: 's', kind: 'cookie', renew_at: 2000, idle_expires_at: 3000 },
    claims: { sub: 'u' },
  } as unknown as Held;
  assert.deepEqual(plan('cookie', cookie, 60), { use: 2000, ahead: 2940, last: 3000 });
});

test('back-off grows from one second to thirty, is spread, and listens to Retry-After', () => {
  for (const random of [0, 0.5, 0.999]) {
    for (let n = 0; n < 40; n++) assert.ok(backOff(n, random) >= 1 && backOff(n, random) <= 31, `${n}`);
    assert.ok(backOff(20, random) > 10);
    assert.ok(backOff(0, random, 20) > 10 && backOff(0, random, 9999) <= 31);
  }
  assert.notEqual(backOff(3, 0.1), backOff(3, 0.9));
});

test('the clock: the authority is heard, the device only counts on', () => {
  const world = new World();
  const tab = new Tab(world, { clock: -2 * 86400, fetch: () => Promise.reject(new Error()) });
  const clock = createClock(tab.env);
  const trueNow = () => world.time / 1000;
  const off = () => Math.abs(clock.now() - trueNow());
  clock.seed(2 * 86400);
  assert.ok(off() < 1, 'seeded');
  clock.hear(new Date(world.time).toUTCString(), undefined);
  assert.ok(off() < 1.1, 'by Date');
  clock.seed(5);
  assert.ok(off() < 1.1, 'heard is better than kept');
  world.time += 60_000;
  assert.ok(off() < 1.1, 'counts');
  tab.clock -= 3600;
  world.time += 60_000;
  assert.ok(off() < 1.1, 'set back: counts on');
  tab.clock += 2 * 86400;
  assert.ok(off() > 86400, 'set forward: looks like sleep');
  clock.hear(null, Math.floor(trueNow()));
  assert.ok(off() < 1.1, 'by iat');
  clock.hear('nonsense', undefined);
  assert.ok(off() < 1.1);
  // Where Date contradicts iat (a proxy's, say), iat is the measure for the answers that have only Date.
  clock.hear(new Date(world.time - 9000_000).toUTCString(), Math.floor(trueNow()));
  clock.hear(new Date(world.time - 9000_000).toUTCString(), undefined);
  assert.ok(off() < 1.1);
});
