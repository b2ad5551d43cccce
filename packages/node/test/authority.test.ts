// With the real authority: what a service sees of it, over changes, crashes and clocks.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Guard, type GuardOptions, type Refusal, type RequestSession } from '../src/index.js';
import { AUDIENCE, eventually, startAuthority, type Authority } from '../../tools/authority.js';
import { bearing, keepLog, rejection } from './issuer.js';

const HALF_LIFE = 10 * 60;

describe('the real authority', () => {
  let authority: Authority;
  let guard: Guard;
  let web: string;
  const guards: Guard[] = [];
  const log = keepLog();

  const newGuard = (options: Partial<GuardOptions> = {}): Guard => {
    const { issuer, service: client, now } = authority;
    // A busy machine is no authority that is away.
    const made = new Guard({ issuer, audience: AUDIENCE, client, now, log, timeout: 30, ...options });
    guards.push(made);
    return made;
  };
  let people = 0;
  const person = () => authority.user(`person-${people++}`);
  const metric = async (line: string): Promise<number> => {
    const text = await (await fetch(`${authority.issuer}/metrics`)).text();
    return Number(
      text
        .split('\n')
        .find((each) => each.startsWith(`${line} `))
        ?.split(' ')[1] ?? 0,
    );
  };
  const refusal = async (token: string, by = guard) =>
    (await rejection(by.admit(bearing(token)))) as unknown as Refusal;
  const refusedFor = (token: string, reason: string, by = guard) =>
    eventually(`refused for ${reason}`, async () => {
      const [session, why] = await by.admit(bearing(token)).then(
        (session) => [session, undefined] as const,
        (error: Refusal) => [null, error] as const,
      );
      return session === null && why?.status === 401 && why.body.reason === reason;
    });
  const renewedToken = (session: RequestSession | null) =>
    session?.responseHeaders()['Renewed-Access-Token'] as string | undefined;
  /** The session of a stale token, once the feed has told. On a machine that is held up the authority may seem away. */
  const renewedSession = async (token: string): Promise<RequestSession> => {
    let session: RequestSession | null = null;
    await eventually('renewed', async () => {
      session = await guard.admit(bearing(token)).catch((error: Refusal) => {
        if (error.status !== 503) throw error;
        return null;
      });
      return renewedToken(session) !== undefined;
    });
    return session as unknown as RequestSession;
  };

  before(async () => {
    authority = await startAuthority();
    web = await authority.client('web');
    guard = newGuard();
    await guard.ready();
  });
  after(async () => {
    for (const each of guards) await each.close();
    await authority.stop();
  });

  test('a token, its claims, and those of others', async () => {
    const sub = await person();
    const { access_token: token, session: of } = await authority.login(web, sub);
    const session = await guard.admit({ ...bearing(token), rawHeaders: ['Authorization', `Bearer ${token}`] });
    assert.deepEqual(
      [session?.subject, session?.id, session?.clientId, session?.scope],
      [sub, of.id, web, ['notes:read']],
    );
    assert.deepEqual([session?.claims.roles, session?.acr, session?.amr], [['reader'], 'aal1', ['pwd']]);
    assert.equal(session?.claims.phone_number, null);
    const health = guard.health();
    assert.deepEqual([health.ready, health.feed?.lost, health.feed?.caughtUp], [true, false, true]);

    const other = await authority.client('web', { audience: ['https://other.example'] });
    const foreign = await authority.login(other, sub);
    assert.match((await refusal(foreign.access_token)).message, /another audience/);
  });

  test('each of its algorithms', async () => {
    const sub = await person();
    const tokens: string[] = [];
    for (const algorithm of ['ES256', 'EdDSA', 'RS256']) {
      const client = await authority.client('web', { algorithm });
      tokens.push((await authority.login(client, sub)).access_token);
    }
    // The two new keys are fetched when the first token of one comes.
    for (const token of tokens) assert.equal((await guard.admit(bearing(token)))?.subject, sub);
  });

  test('an ending is seen, with its reason, and other sessions stay', async () => {
    const sub = await person();
    const [one, two, stays] = [
      await authority.login(web, sub),
      await authority.login(web, sub),
      await authority.login(web, sub),
    ];
    for (const { access_token: token } of [one, two, stays]) await guard.admit(bearing(token));
    await authority.call('DELETE', '/v1/session', { token: one.access_token });
    await refusedFor(one.access_token, 'signed_out');
    await authority.admin('DELETE', `/sessions/${two.session.id}`);
    await refusedFor(two.access_token, 'revoked');
    await guard.admit(bearing(stays.access_token));
  });

  test('what ended before a service came is known to its first request', async () => {
    const { access_token: token } = await authority.login(web, await person());
    await authority.call('DELETE', '/v1/session', { token });
    assert.equal((await refusal(token, newGuard())).body.reason, 'signed_out');
  });

  test('changed claims: renewed on the way, or refused', async () => {
    const sub = await person();
    const { access_token: token } = await authority.login(web, sub);
    const strict = newGuard({ onStale: 'refuse' });
    await Promise.all([guard.admit(bearing(token)), strict.admit(bearing(token))]);
    await authority.admin('PATCH', `/users/${sub}`, { roles: ['editor'] });
    await refusedFor(token, 'claims_changed', strict);
    // Each guard hears of it by itself.
    await renewedSession(token);
    const sessions = await Promise.all(Array.from({ length: 20 }, () => guard.admit(bearing(token))));
    for (const session of sessions) assert.deepEqual(session?.claims.roles, ['editor']);
    const newer = new Set(sessions.map(renewedToken));
    assert.equal(newer.size, 1);
    const [renewed] = newer;
    assert.deepEqual((await strict.admit(bearing(renewed as string)))?.claims.roles, ['editor']);
  });

  test('a fixed session keeps its end over a change of its claims', async () => {
    const sub = await person();
    const { access_token: token } = await authority.login(await authority.client('remember'), sub);
    const before = await guard.admit(bearing(token));
    await authority.admin('PATCH', `/users/${sub}`, { name: 'Renamed' });
    const session = await renewedSession(token);
    assert.deepEqual([session.claims.name, session.expiresAt], ['Renamed', before?.expiresAt]);
  });

  test('a session with refresh tokens is resealed, on the way and by hand, and gains no time by it', async () => {
    const sub = await person();
    const { access_token: token } = await authority.login(await authority.client('app'), sub);
    const before = await guard.admit(bearing(token));
    assert.equal(before?.renewAt, undefined);
    await authority.admin('PATCH', `/users/${sub}`, { name: 'Renamed' });
    const session = await renewedSession(token);
    assert.deepEqual([session.claims.name, session.expiresAt], ['Renamed', before?.expiresAt]);
    await authority.admin('PATCH', `/users/${sub}`, { name: 'Again' });
    assert.equal((await session.reseal())?.name, 'Again');
    assert.deepEqual([session.id, session.expiresAt], [before?.id, before?.expiresAt]);
    assert.equal((await guard.admit(bearing(session.token)))?.claims.name, 'Again');
  });

  test('reseal: the new claims in the answer, whatever the feed has told', async () => {
    const sub = await person();
    const { access_token: token } = await authority.login(web, sub);
    const session = await guard.admit(bearing(token));
    await authority.admin('PATCH', `/users/${sub}`, { name: 'Resealed' });
    assert.equal((await session?.reseal())?.name, 'Resealed');
    assert.equal(session?.claims.name, 'Resealed');
    const newer = renewedToken(session) as string;
    assert.notEqual(newer, token);
    assert.equal(session?.token, newer);
    assert.equal((await guard.admit(bearing(newer)))?.claims.name, 'Resealed');
    // Who comes late with the old one gets the same.
    await eventually('the feed has told', async () => renewedToken(await guard.admit(bearing(token))) === newer);
    // Nothing has changed since: there is nothing newer.
    const again = await guard.admit(bearing(newer));
    assert.equal((await again?.reseal())?.name, 'Resealed');
    assert.deepEqual(again?.responseHeaders(), {});
    await authority.call('DELETE', '/v1/session', { token: newer });
    const over = (await rejection(again?.reseal() as Promise<unknown>)) as unknown as Refusal;
    assert.deepEqual([over.status, over.body.reason], [401, 'signed_out']);
  });

  test('past the half of its life fifty requests are one renewal, and the session slides on', async () => {
    const { access_token: first } = await authority.login(web, await person());
    const start = await guard.admit(bearing(first));
    assert.equal(renewedToken(start), undefined);
    let token = first;
    for (let round = 0; round < 3; round++) {
      await authority.advance(HALF_LIFE + 5);
      const before = await metric('reseal_renewals_total{renewed="true"}');
      const sessions = await Promise.all(Array.from({ length: 50 }, () => guard.admit(bearing(token))));
      const newer = new Set(sessions.map(renewedToken));
      assert.equal(newer.size, 1);
      assert.equal((await metric('reseal_renewals_total{renewed="true"}')) - before, 1);
      const [renewed] = newer;
      assert.ok(renewed !== undefined && sessions.every((session) => session?.token === renewed));
      // Late ones with the old token.
      assert.equal(renewedToken(await guard.admit(bearing(token))), renewed);
      assert.equal(renewedToken(await guard.admit(bearing(renewed))), undefined);
      token = renewed;
    }
    assert.equal((await guard.admit(bearing(token)))?.id, start?.id);
    await authority.advance(2 * HALF_LIFE + 10);
    assert.equal((await refusal(token)).message, 'The access token has expired.');
    // The clock is ahead of the feed's own token now; it comes back by itself.
    await eventually('the feed is there', () => guard.health().feed?.caughtUp === true);
  });

  test('a withdrawn key', async () => {
    const client = await authority.client('web', { algorithm: 'EdDSA' });
    const { access_token: token } = await authority.login(client, await person());
    await guard.admit(bearing(token));
    const { kid } = JSON.parse(Buffer.from(token.split('.')[0] as string, 'base64url').toString()) as { kid: string };
    await authority.admin('POST', `/keys/${kid}/withdraw`);
    await eventually(
      'refused',
      async () => (await guard.admit(bearing(token)).catch((error: Refusal) => error.status)) === 401,
    );
    const { access_token: next } = await authority.login(client, await person());
    await guard.admit(bearing(next));
  });

  test('a client that lost a scope: its tokens are stale, and the newer ones say less', async () => {
    const client = await authority.client('web', { scope: 'notes:read notes:write' });
    const { access_token: token } = await authority.login(client, await person());
    (await guard.admit(bearing(token)))?.requireScope('notes:write');
    await authority.admin('PATCH', `/clients/${client}`, { scope: 'notes:read' });
    await eventually('it has lost it', async () => {
      const session = await guard.admit(bearing(token)).catch(() => null);
      return session !== null && !session.scope.includes('notes:write');
    });
  });

  describe('without a feed', () => {
    let asker: { id: string; secret: string };
    before(async () => {
      const body = { name: 'asker', confidential: true, policy: 'web', introspect: true, scope: 'other' };
      const { client_id: id, client_secret: secret } = await authority.admin('POST', '/clients', body);
      asker = { id: id as string, secret: secret as string };
    });

    test('introspect: the authority is asked about each token', async () => {
      const asking = newGuard({ client: asker, onFeedLost: 'introspect' });
      await asking.ready();
      const health = asking.health();
      assert.deepEqual([health.ready, health.feed?.lost], [true, true]);
      assert.match(health.feed?.problem ?? '', /lacks the scope/);
      const sub = await person();
      const { access_token: token } = await authority.login(web, sub);
      assert.equal((await asking.admit(bearing(token)))?.subject, sub);
      await authority.admin('PATCH', `/users/${sub}`, { name: 'Renamed' });
      await eventually('renewed', async () => (await asking.admit(bearing(token)))?.claims.name === 'Renamed');
      await authority.call('DELETE', '/v1/session', { token });
      await eventually(
        'refused',
        async () => (await asking.admit(bearing(token)).catch((error: Refusal) => error.status)) === 401,
      );
    });

    test('introspect, by a client that may not: 503, and a word in the log', async () => {
      const { client_id: id, client_secret: secret } = await authority.admin('POST', '/clients', {
        name: 'x',
        confidential: true,
        policy: 'web',
        scope: 'other',
      });
      const { access_token: token } = await authority.login(web, await person());
      const asking = newGuard({ client: { id: id as string, secret: secret as string }, onFeedLost: 'introspect' });
      assert.equal((await refusal(token, asking)).status, 503);
      assert.match(log.lines.join('\n'), /could not be introspected/);
    });

    test('refuse: 503', async () => {
      const strict = newGuard({ client: asker, onFeedLost: 'refuse' });
      const { access_token: token } = await authority.login(web, await person());
      const refused = await refusal(token, strict);
      assert.deepEqual([refused.status, refused.headers['WWW-Authenticate']], [503, undefined]);
      assert.equal(strict.health().ready, false);
    });

    test('a wrong secret is said', async () => {
      const wrong = newGuard({ client: { ...asker, secret: 'wrong' } });
      await wrong.ready();
      assert.match(wrong.health().feed?.problem ?? '', /does not know the client or its secret/);
    });

    test('no client: good until the end of the token', async () => {
      const plain = newGuard({ client: undefined as never });
      const { access_token: token } = await authority.login(web, await person());
      await authority.call('DELETE', '/v1/session', { token });
      await plain.admit(bearing(token));
      assert.equal(plain.health().feed, undefined);
    });
  });

  describe('the session cookie', () => {
    let client: string;
    let cookies: Guard;
    before(async () => {
      client = await authority.client('browser', { origins: ['https://app.example'] });
      cookies = newGuard({ sessionCookie: true });
    });
    const login = async (sub: string) => {
      const { cookie, session } = await authority.login(client, sub);
      return { cookie: cookie as string, id: session.id };
    };
    const request = (cookie: string, method = 'GET', headers: Record<string, string> = {}) => ({
      method,
      headers: { cookie, ...headers },
    });

    test('who it is, by one call for each request', async () => {
      const sub = await person();
      const { cookie, id } = await login(sub);
      const session = await cookies.admit(request(cookie));
      assert.deepEqual([session?.subject, session?.id, session?.clientId], [sub, id, client]);
      assert.deepEqual(session?.responseHeaders(), {});
      assert.ok(
        !(await rejection(guard.admit(request(cookie)))).message.includes('rsl_'),
        'without the setting it is no credential',
      );
    });

    test('a request from elsewhere that changes something is refused, and touches nothing', async () => {
      const { cookie } = await login(await person());
      const elsewhere: Record<string, string>[] = [
        {},
        { origin: 'https://evil.example' },
        { origin: 'null' },
        { 'sec-fetch-site': 'cross-site' },
        { origin: 'https://app.example.evil.example' },
      ];
      for (const headers of elsewhere) {
        const refused = (await rejection(cookies.admit(request(cookie, 'POST', headers)))) as unknown as Refusal;
        assert.deepEqual([refused.status, refused.code], [403, 'cross_site_request'], JSON.stringify(headers));
      }
      for (const method of ['get', 'PROPFIND', '', 'TRACE'])
        assert.equal((await rejection(cookies.admit(request(cookie, method)))).status, 403, method);
      assert.equal((await rejection(cookies.admit(request(cookie, 'GET', { upgrade: 'websocket' })))).status, 403);
      assert.equal(
        (await rejection(cookies.admit(request(cookie, 'GET', { origin: 'https://evil.example' })))).status,
        403,
      );
      for (const headers of [{ origin: 'https://app.example' }, { 'sec-fetch-site': 'same-origin' }] as Record<
        string,
        string
      >[]) {
        await cookies.admit(request(cookie, 'POST', headers));
      }
    });

    test('it slides, with the cookie for the browser, and shows changed claims', async () => {
      const sub = await person();
      const { cookie } = await login(sub);
      const session = await cookies.admit(request(cookie));
      await authority.admin('PATCH', `/users/${sub}`, { name: 'Renamed' });
      assert.equal((await session?.reseal())?.name, 'Renamed');
      assert.equal((await cookies.admit(request(cookie)))?.claims.name, 'Renamed');
      await authority.advance(8 * 24 * 3600);
      const slid = await cookies.admit(request(cookie));
      const headers = slid?.responseHeaders();
      assert.match(String(headers?.['Set-Cookie']), /^(__Host-)?reseal=rsl_sc_/);
      assert.equal(headers?.['Cache-Control'], 'no-store');
      assert.equal(headers?.['Renewed-Access-Token'], undefined);
    });

    test('its end is told', async () => {
      const { cookie, id } = await login(await person());
      await cookies.admit(request(cookie));
      await authority.admin('DELETE', `/sessions/${id}`);
      const refused = (await rejection(cookies.admit(request(cookie)))) as unknown as Refusal;
      assert.deepEqual([refused.status, refused.body.reason], [401, 'revoked']);
      const forged = `${cookie.slice(0, -2)}AA`;
      assert.equal((await rejection(cookies.admit(request(forged)))).status, 401);
    });
  });

  test('nothing of all that left a credential in the log', () => {
    const lines = log.lines.join('\n');
    assert.ok(!/eyJ|rsl_|Bearer /.test(lines) && !lines.includes(authority.service.secret), lines);
  });
});

describe('an authority that dies', () => {
  test('the old keys and the old knowledge go on; after its return what was missed is known', async () => {
    const first = await startAuthority();
    const { issuer, folder, service: client } = first;
    const web = await first.client('web');
    const sub = await first.user('ann');
    const [kept, ended, later] = [
      await first.login(web, sub),
      await first.login(web, sub),
      await first.login(web, sub),
    ];
    const log = keepLog();
    const guard = new Guard({ issuer, audience: AUDIENCE, client, log });
    await guard.ready();
    await first.call('DELETE', '/v1/session', { token: ended.access_token });
    await eventually('the ending', () => guard.health().feed?.entries.sessions === 1);
    await first.kill();
    await eventually('the cut is noticed', () => guard.health().feed?.connected === false);
    await guard.admit(bearing(kept.access_token));
    assert.equal((await rejection(guard.admit(bearing(ended.access_token)))).status, 401);
    // One that starts meanwhile has no keys: nobody is signed out for that.
    const fresh = new Guard({ issuer, audience: AUDIENCE, client, log });
    const away = await rejection(fresh.admit(bearing(kept.access_token)));
    assert.deepEqual([away.status, away.code], [503, 'temporarily_unavailable']);

    const second = await startAuthority({ folder, issuer });
    try {
      await second.call('DELETE', '/v1/session', { token: later.access_token });
      for (const each of [guard, fresh]) {
        await eventually('it is back', () => each.health().feed?.caughtUp === true && each.health().keys.usable > 0);
        const reason = (token: string) =>
          each.admit(bearing(token)).then(
            () => 'good',
            (error: Refusal) => error.body.reason,
          );
        await eventually('what was missed', async () => (await reason(later.access_token)) === 'signed_out');
        assert.deepEqual([await reason(kept.access_token), await reason(ended.access_token)], ['good', 'signed_out']);
      }
      assert.equal(guard.health().feed?.starts, 0, 'it came back where it was');
    } finally {
      await guard.close();
      await fresh.close();
      await second.stop();
    }
  });

  test('a port where nobody listens is 503', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const guard = new Guard({ issuer: `http://127.0.0.1:${port}`, audience: AUDIENCE, log: keepLog() });
    const refused = await rejection(
      guard.admit(bearing('eyJhbGciOiJFUzI1NiIsImtpZCI6ImEiLCJ0eXAiOiJhdCtqd3QifQ.e30.AAAA')),
    );
    assert.equal(refused.status, 503);
    await guard.close();
  });
});
