// Calls to the authority whose answers the test gives: renewal, introspection, the session cookie.

import assert from 'node:assert/strict';
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import { describe, test } from 'node:test';
import { findCookie, readExchange } from '../src/cookie.js';
import { isStale, readAnswer } from '../src/introspect.js';
import { Guard, type GuardOptions } from '../src/index.js';
import { parsePayload, type Token } from '../src/payload.js';
import { keep, readOutcome } from '../src/renew.js';
import { createTurns } from '../src/time.js';
import { AUDIENCE, bearing, keepLog, newKey, rejection, startIssuer, SUB, type Issuer } from './issuer.js';

const answer = (status: number, body: unknown, headers: IncomingHttpHeaders = {}) => ({
  status,
  headers,
  body: Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)),
});

describe('what answers mean', () => {
  test('a renewal', () => {
    const seen = (status: number, body: unknown, headers = {}) => readOutcome(answer(status, body, headers));
    assert.deepEqual(seen(200, { renewed: true, access_token: 'a.b.c', session: {} }), {
      is: 'renewed',
      token: 'a.b.c',
    });
    assert.deepEqual(seen(200, { renewed: false, renew_at: 9 }), { is: 'not-yet', renewAt: 9 });
    assert.deepEqual(seen(200, { renewed: false, renew_at: null }), { is: 'not-yet', renewAt: undefined });
    assert.deepEqual(seen(401, { error: 'invalid_token', reason: 'signed_out' }), {
      is: 'refused',
      reason: 'signed_out',
    });
    assert.deepEqual(seen(401, { error: 'invalid_token', reason: 'a" b\r\n' }), { is: 'refused', reason: undefined });
    assert.deepEqual(seen(403, { error: 'no_session' }), { is: 'not-yet', renewAt: undefined });
    // A 401 of something in between must sign nobody out.
    for (const [status, body] of [
      [401, '<html>'],
      [401, { error: 'proxy' }],
      [403, ''],
      [200, {}],
      [200, { renewed: true }],
      [302, ''],
      [500, ''],
      [404, {}],
    ] as const) {
      assert.deepEqual(seen(status, body, { 'retry-after': '7' }), { is: 'away', retryAfter: 7 }, `${status}`);
    }
    for (const [said, meant] of [
      ['3600', 60],
      ['-5', 1],
      ['soon', 1],
      ['0', 1],
    ]) {
      assert.deepEqual(seen(503, '', { 'retry-after': said }), { is: 'away', retryAfter: meant });
    }
  });

  test('how long they are kept', () => {
    assert.equal(keep({ is: 'renewed', token: '' }, 'due', 0), 30_000);
    assert.equal(keep({ is: 'not-yet', renewAt: 100 }, 'stale', 0), 2000);
    assert.equal(keep({ is: 'not-yet', renewAt: 100 }, 'due', 40), 60_000);
    assert.equal(keep({ is: 'not-yet', renewAt: 100 }, 'due', 100), 1000);
    assert.equal(keep({ is: 'not-yet', renewAt: 1e9 }, 'due', 0), 300_000);
  });

  const token: Token = {
    ...parsePayload(Buffer.from(JSON.stringify({ sub: SUB, rev: 3, scope: 'a b' }))),
    kid: undefined,
    key: '',
  };

  test('an introspection', () => {
    const seen = (body: unknown) => readAnswer(answer(200, body).body, 'https://auth.example', token);
    assert.deepEqual(seen({ active: false }), { is: 'inactive' });
    assert.deepEqual(seen({ active: true, sub: SUB, iss: 'https://auth.example', current_rev: 3, scope: 'a' }), {
      is: 'active',
      currentRev: 3,
      scope: 'a',
    });
    // About somebody else's token, or no answer at all.
    for (const body of [
      { active: true, sub: 'other' },
      { active: true, iss: 'other' },
      {},
      { active: 'yes' },
      [],
      'null',
      '',
    ])
      assert.equal(seen(body), undefined);
    const stale = (currentRev: number | undefined, scope: string | undefined) =>
      isStale({ is: 'active', currentRev, scope }, token);
    assert.deepEqual(
      [stale(undefined, undefined), stale(3, 'a b c'), stale(4, 'a b'), stale(3, 'a')],
      [false, false, true, true],
    );
    assert.throws(() => isStale({ is: 'inactive' }, token), /not active/);
    assert.throws(() => isStale({ is: 'away' }, token), /did not answer/);
  });

  test('a cookie among others; one that is there twice counts as absent', () => {
    const names = ['__Host-reseal'];
    assert.equal(findCookie('a=1; __Host-reseal=rsl_sc_abc;b=2', names), '__Host-reseal=rsl_sc_abc');
    for (const header of [
      undefined,
      '',
      'a=1',
      '__Host-reseal=x; __Host-reseal=y',
      'reseal=x',
      'x__Host-reseal=y',
      '__Host-reseal =x',
      '__Host-reseal=a b',
      `__Host-reseal=${'x'.repeat(1100)}`,
      '__Host-reseal=a\r\nX: y',
      '__Host-reseal="a"',
      '__Host-reseal=é',
    ]) {
      assert.equal(findCookie(header, names), undefined, header?.slice(0, 40));
    }
  });

  test('an exchange', () => {
    const names = ['__Host-reseal'];
    const seen = (status: number, body: unknown, headers: IncomingHttpHeaders = {}) =>
      readExchange(answer(status, body, headers), names);
    const cookies = ['__Host-reseal=new; Path=/', 'other=1', '__Host-reseal=again'];
    assert.deepEqual(seen(200, '', { authorization: 'Bearer a.b.c', 'set-cookie': cookies }), {
      is: 'token',
      token: 'a.b.c',
      setCookie: cookies.slice(0, 1),
    });
    assert.deepEqual(seen(401, { error: 'invalid_token', reason: 'idle_timeout' }), {
      is: 'refused',
      reason: 'idle_timeout',
    });
    assert.deepEqual(seen(403, { error: 'cross_site_request' }), { is: 'cross-site' });
    for (const [status, body, headers] of [
      [200, '', {}],
      [200, '', { authorization: 'Bearer a b' }],
      [401, '', {}],
      [403, '', {}],
      [302, '', {}],
      [503, {}, {}],
    ] as const) {
      assert.deepEqual(seen(status, body, headers), { is: 'away', retryAfter: 1 }, `${status}`);
    }
  });
});

describe('turns', () => {
  test('so many at the same time, in order, and no more waiting than may', async () => {
    const turns = createTurns(2, 2);
    const [a, b] = [await turns.take(1000), await turns.take(1000)];
    const order: string[] = [];
    const third = turns.take(60_000).then((end) => (order.push('third'), end));
    const fourth = turns.take(60_000).then((end) => (order.push('fourth'), end));
    assert.equal(await turns.take(60_000), undefined, 'no place to wait');
    a?.();
    a?.();
    const end = await third;
    assert.deepEqual(order, ['third'], 'a turn is given back once');
    end?.();
    (await fourth)?.();
    b?.();
    assert.notEqual(await turns.take(1), undefined);
  });

  test('who waits too long goes without', async () => {
    const turns = createTurns(1, 5);
    const end = await turns.take(1);
    assert.equal(await turns.take(5), undefined);
    end?.();
    assert.notEqual(await turns.take(5), undefined);
  });
});

describe('renewal on the way', () => {
  const past = Math.floor(Date.now() / 1000) - 10;
  const slide = async (
    work: (parts: {
      issuer: Issuer;
      guard: Guard;
      log: ReturnType<typeof keepLog>;
      calls: () => number;
    }) => Promise<void>,
    options: Partial<GuardOptions> = {},
  ) => {
    const issuer = await startIssuer();
    const log = keepLog();
    const guard = new Guard({ issuer: issuer.url, audience: AUDIENCE, log, ...options });
    try {
      await work({ issuer, guard, log, calls: () => issuer.count('/v1/session/renew') });
    } finally {
      await guard.close();
      await issuer.close();
    }
  };
  const renewed = (issuer: Issuer, token: string) =>
    issuer.on('/v1/session/renew', issuer.json({ renewed: true, access_token: token }));
  const header = (session: { responseHeaders(): Record<string, unknown> } | null) =>
    session?.responseHeaders()['Renewed-Access-Token'];

  test('fifty at once and those who come late: one call, one token', () =>
    slide(async ({ issuer, guard, calls }) => {
      const [old, newer] = [await issuer.token({ renew_at: past, name: 'old' }), await issuer.token({ name: 'new' })];
      const held: ServerResponse[] = [];
      issuer.on('/v1/session/renew', (request, response) => {
        assert.deepEqual(
          [request.method, request.headers.authorization, request.headers['content-length']],
          ['POST', `Bearer ${old}`, '0'],
        );
        held.push(response);
      });
      await guard.ready();
      const all = Array.from({ length: 50 }, () => guard.admit(bearing(old)));
      while (held.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      issuer.json({ renewed: true, access_token: newer })({} as never, held[0] as ServerResponse);
      for (const session of await Promise.all(all)) {
        assert.deepEqual(session?.responseHeaders(), {
          'Renewed-Access-Token': newer,
          'Access-Control-Expose-Headers': 'Renewed-Access-Token',
          'Cache-Control': 'no-store',
        });
        assert.deepEqual([session?.claims.name, session?.token], ['new', newer]);
      }
      assert.equal(header(await guard.admit(bearing(old))), newer);
      assert.equal(calls(), 1);
    }));

  test('many users at once: each gets his own', () =>
    slide(async ({ issuer, guard, calls }) => {
      const pairs = new Map<string, string>();
      for (let user = 0; user < 20; user++) {
        const own = { sub: `user-${user}`, sid: `session-${user}` };
        const old = await issuer.token({ ...own, renew_at: past });
        pairs.set(old, await issuer.token({ ...own, name: `${user}` }));
      }
      issuer.on('/v1/session/renew', (request, response) => {
        const old = request.headers.authorization?.slice('Bearer '.length) ?? '';
        issuer.json({ renewed: true, access_token: pairs.get(old) })(request, response);
      });
      for (let time = 0; time < 2; time++) {
        const all = [...pairs].map(async ([old, newer]) => [header(await guard.admit(bearing(old))), newer] as const);
        for (const [got, expected] of await Promise.all(all)) assert.equal(got, expected);
      }
      assert.equal(calls(), 20);
    }));

  const staysAsItIs: Record<string, (issuer: Issuer) => void | Promise<void>> = {
    'an authority that is away': (issuer) =>
      issuer.on('/v1/session/renew', (_, response) => response.writeHead(503).end()),
    'an authority that hangs up': (issuer) => issuer.on('/v1/session/renew', (_, response) => void response.destroy()),
    'a 401 of something in between': (issuer) =>
      issuer.on('/v1/session/renew', (_, response) => response.writeHead(401).end('<html>')),
    'not yet': (issuer) => issuer.on('/v1/session/renew', issuer.json({ renewed: false, renew_at: 9e9 })),
    'an answer that is too long': (issuer) =>
      issuer.on('/v1/session/renew', issuer.json({ renewed: true, access_token: 'x'.repeat(70_000) })),
    "another's token": async (issuer) => renewed(issuer, await issuer.token({ sub: 'another' })),
    'a token of another session': async (issuer) =>
      renewed(issuer, await issuer.token({ sid: 'ZZECAwQFBgcICQoLDA0ODw' })),
    'a token without a session': async (issuer) => renewed(issuer, await issuer.token({ sid: undefined })),
    'a token of another key': async (issuer) =>
      renewed(issuer, await issuer.token({}, {}, { ...(await newKey('x')), kid: 'k1' })),
    'a redirect': (issuer) =>
      issuer.on('/v1/session/renew', (_, response) =>
        response.writeHead(307, { Location: `${issuer.url}/elsewhere` }).end(),
      ),
  };
  for (const [name, answerIt] of Object.entries(staysAsItIs)) {
    test(`the token goes on while it lasts: ${name}`, () =>
      slide(async ({ issuer, guard, calls, log }) => {
        await answerIt(issuer);
        const old = await issuer.token({ renew_at: past });
        const session = await guard.admit(bearing(old));
        assert.deepEqual([session?.token, session?.responseHeaders()], [old, {}]);
        // Others do not all find out by themselves.
        await Promise.all(Array.from({ length: 20 }, () => guard.admit(bearing(old))));
        assert.ok(calls() < 10, `${calls()}`);
        assert.equal(issuer.count('/elsewhere'), 0);
        assert.ok(!log.lines.join('\n').includes(old));
      }));
  }

  test('who can wait does not find out by himself that the authority is away', () =>
    slide(async ({ issuer, guard, calls }) => {
      issuer.on('/v1/session/renew', (_, response) => response.writeHead(503).end());
      const tokens: string[] = [];
      for (let i = 0; i < 30; i++) tokens.push(await issuer.token({ renew_at: past, jti: `${i}` }));
      for (const token of tokens) assert.equal((await guard.admit(bearing(token)))?.token, token);
      assert.ok(calls() < 15, `${calls()}`);
    }));

  test('a session that is over is 401 with its reason', () =>
    slide(async ({ issuer, guard }) => {
      issuer.on('/v1/session/renew', (_, response) =>
        response.writeHead(401).end(JSON.stringify({ error: 'invalid_token', reason: 'max_lifetime' })),
      );
      const refusal = await rejection(guard.admit(bearing(await issuer.token({ renew_at: past }))));
      assert.deepEqual([refusal.status, (refusal.body as { reason: string }).reason], [401, 'max_lifetime']);
    }));

  test('before its half-life, and with sliding off, nobody asks', () =>
    slide(
      async ({ issuer, guard, calls }) => {
        await guard.admit(bearing(await issuer.token({ renew_at: past })));
        assert.equal(calls(), 0);
        const sliding = new Guard({ issuer: issuer.url, audience: AUDIENCE, log: keepLog() });
        await sliding.admit(bearing(await issuer.token({ renew_at: past + 100 })));
        await sliding.admit(bearing(await issuer.token()));
        await sliding.close();
        assert.equal(calls(), 0);
      },
      { sliding: false },
    ));

  test('an authority that never answers costs the time limit, once', () =>
    slide(
      async ({ issuer, guard, calls }) => {
        issuer.on('/v1/session/renew', () => {});
        const old = await issuer.token({ renew_at: past });
        await Promise.all(Array.from({ length: 20 }, () => guard.admit(bearing(old))));
        assert.equal(calls(), 1);
      },
      { timeout: 0.2 },
    ));

  test('reseal asks anew each time, and what it brings is what late requests get', () =>
    slide(async ({ issuer, guard, calls }) => {
      const old = await issuer.token({ name: 'old' });
      const session = await guard.admit(bearing(old));
      for (const name of ['one', 'two']) {
        renewed(issuer, await issuer.token({ name }));
        assert.equal((await session?.reseal())?.name, name);
        assert.equal(session?.claims.name, name);
      }
      assert.equal(calls(), 2);
      assert.equal(typeof header(session), 'string');
      issuer.on('/v1/session/renew', issuer.json({ renewed: false, renew_at: null }));
      assert.equal(await (await guard.admit(bearing(old)))?.reseal(), null, 'its client renews by itself');
      issuer.on('/v1/session/renew', issuer.json({ renewed: false, renew_at: 9e9 }));
      const same = await guard.admit(bearing(old));
      assert.equal((await same?.reseal())?.name, 'old', 'there is nothing new to say');
      assert.deepEqual(same?.responseHeaders(), {});
      issuer.on('/v1/session/renew', (_, response) => response.writeHead(503, { 'Retry-After': '9' }).end());
      const refusal = await rejection((await guard.admit(bearing(old)))?.reseal() as Promise<unknown>);
      assert.deepEqual([refusal.status, (refusal.headers as Record<string, string>)['Retry-After']], [503, '9']);
      renewed(issuer, await issuer.token({ sub: 'another' }));
      assert.equal((await rejection((await guard.admit(bearing(old)))?.reseal() as Promise<unknown>)).status, 503);
      assert.equal(same?.token, old);
    }));
});

describe('a session cookie', () => {
  const withCookies = async (work: (issuer: Issuer, guard: Guard) => Promise<void>) => {
    const issuer = await startIssuer();
    const guard = new Guard({
      issuer: issuer.url,
      audience: AUDIENCE,
      sessionCookie: true,
      realm: 'notes',
      log: keepLog(),
    });
    try {
      await work(issuer, guard);
    } finally {
      await guard.close();
      await issuer.close();
    }
  };
  const request = (method: string, headers: Record<string, string> = {}) => ({
    method,
    headers: { cookie: 'a=b; reseal=rsl_sc_x', ...headers },
  });

  test('what the authority needs to know of the request, and nothing else', () =>
    withCookies(async (issuer, guard) => {
      const token = await issuer.token();
      const seen: IncomingHttpHeaders[] = [];
      issuer.on('/gateway/verify', (incoming, response) => {
        seen.push(incoming.headers);
        response
          .writeHead(200, { Authorization: `Bearer ${token}`, 'Set-Cookie': 'reseal=rsl_sc_y; Path=/; HttpOnly' })
          .end();
      });
      const headers = {
        origin: 'https://app.example',
        'sec-fetch-site': 'cross-site',
        upgrade: 'websocket',
        'x-original-method': 'GET',
        'x-forwarded-method': 'GET',
      };
      const session = await guard.admit(request('DELETE', headers));
      assert.deepEqual(session?.responseHeaders(), {
        'Set-Cookie': ['reseal=rsl_sc_y; Path=/; HttpOnly'],
        'Cache-Control': 'no-store',
      });
      const sent = seen[0] as IncomingHttpHeaders;
      assert.deepEqual(
        [
          'cookie',
          'x-original-method',
          'origin',
          'sec-fetch-site',
          'x-original-upgrade',
          'x-forwarded-method',
          'upgrade',
          'authorization',
        ].map((name) => sent[name]),
        [
          'reseal=rsl_sc_x',
          'DELETE',
          'https://app.example',
          'cross-site',
          'websocket',
          undefined,
          undefined,
          undefined,
        ],
      );
      // The authority slides and revokes: it is asked for each request.
      await guard.admit(request('GET'));
      assert.equal(seen.length, 2);
      assert.deepEqual([seen[1]?.origin, seen[1]?.['x-original-method']], [undefined, 'GET']);
      // The token is the service's, not the browser's.
      assert.equal(session?.responseHeaders()['Renewed-Access-Token'], undefined);
      const resealed = await issuer.token({ name: 'new' });
      issuer.on('/gateway/verify', (_, response) =>
        response.writeHead(200, { Authorization: `Bearer ${resealed}` }).end(),
      );
      assert.equal((await session?.reseal())?.name, 'new');
      assert.ok(session?.responseHeaders()['Set-Cookie'], 'the cookie of before is still to be set');
    }));

  test('refusals, in our words', () =>
    withCookies(async (issuer, guard) => {
      for (const [status, body, expected, reason] of [
        [401, { error: 'invalid_token', reason: 'idle_timeout' }, 401, 'idle_timeout'],
        [401, { error: 'unauthorized' }, 401, undefined],
        [401, '<html>', 503, undefined],
        [403, { error: 'cross_site_request' }, 403, undefined],
        [403, { error: 'other' }, 503, undefined],
        [503, {}, 503, undefined],
        [200, {}, 503, undefined],
      ] as const) {
        issuer.on('/gateway/verify', (_, response) =>
          response.writeHead(status, { Location: 'https://evil.example' }).end(JSON.stringify(body)),
        );
        const refusal = await rejection(guard.admit(request('POST')));
        assert.deepEqual(
          [refusal.status, (refusal.body as { reason?: string }).reason],
          [expected, reason],
          JSON.stringify(body),
        );
        assert.equal((refusal.headers as Record<string, string>)['Location'], undefined);
        if (expected === 401)
          assert.match(
            (refusal.headers as Record<string, string>)['WWW-Authenticate'] as string,
            /^Bearer realm="notes", error=/,
          );
      }
    }));

  test('the token of an exchange is verified like any other', () =>
    withCookies(async (issuer, guard) => {
      const foreign = await issuer.token({ aud: ['https://other.example'] });
      issuer.on('/gateway/verify', (_, response) =>
        response.writeHead(200, { Authorization: `Bearer ${foreign}` }).end(),
      );
      assert.equal((await rejection(guard.admit(request('GET')))).status, 401);
    }));

  test('with an Authorization header of any kind the cookie is not looked at', () =>
    withCookies(async (issuer, guard) => {
      assert.equal((await rejection(guard.admit(request('GET', { authorization: 'Basic YTpi' })))).status, 401);
      await guard.admit(request('GET', { authorization: `Bearer ${await issuer.token()}` }));
      assert.equal(
        (await rejection(guard.admit({ method: 'GET', headers: { cookie: 'reseal=x; reseal=y' } }))).code,
        'unauthorized',
      );
      assert.equal(issuer.count('/gateway/verify'), 0);
    }));
});
