// Requests: who gets the token, what is sent twice, what is not.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { codeOf, kit, type Kit } from './kit.js';
import { AUTHORITY, type Call, error, jwt, reply } from './model.js';

const TOKEN = ['POST', '/oauth/token'] as const;
const own = (model: Kit['model']) => model.calls.filter(({ path }) => path.startsWith('/api'));
const auth = ({ headers }: Call) => headers.get('authorization');
/** Whatever the access token: it is refused. */
const refuse = (code: string) => (call: Call) => (call.path.startsWith('/api') ? error(401, code) : undefined);

describe('who gets the token', () => {
  test('own origins and the authority, by exact origin', async () => {
    const { model, login } = kit();
    const { session } = await login({ origins: ['https://api.example:8443', 'https://app.example'] });
    const good = [
      '/api',
      'api',
      '../api',
      'https://app.example/x',
      'https://api.example:8443/x',
      `${AUTHORITY}/v1/me`,
      'HTTPS://APP.EXAMPLE/x',
      '//app.example/x',
    ];
    const bad = [
      'https://app.example.evil/x',
      'https://evil.example/x',
      '//evil.example/x',
      'http://app.example/x',
      'https://api.example/x',
      'https://app.example@evil.example/x',
      'https://evil.example/https://app.example',
      'https://sub.app.example/x',
      'data:text/plain,x',
      'blob:https://evil.example/1',
      '\\\\evil.example/x',
      'https://app.example:444/',
      'javascript:1',
      'https://',
    ];
    for (const url of good) assert.ok((await session.prepare(url))?.headers.authorization, url);
    for (const url of bad) assert.equal(await session.prepare(url), null, url);
    for (const url of bad.slice(0, 3)) {
      const answer = jwt({ ...session.user!, rev: 99, name: 'Planted' });
      model.override = () =>
        reply(
          401,
          { error: 'invalid_token' },
          { 'renewed-access-token': answer, 'www-authenticate': 'Bearer error="invalid_token"' },
        );
      const before = model.calls.length;
      assert.equal((await session.fetch(url, { headers: { 'x-a': 'b' } })).status, 401);
      assert.equal(model.calls.length, before + 1, 'no retry, no renewal');
      assert.equal(auth(model.calls.at(-1)!), null);
      assert.equal(session.user!.name, 'Demo', 'nothing adopted');
    }
  });

  test('a page whose base is elsewhere: relative URLs go there, without the token', async () => {
    const { login } = kit();
    const { tab, session } = await login();
    assert.ok(await session.prepare('/api'));
    const { create } = await import('../src/session.js');
    const env = { ...tab.env, document: { ...tab.env.document, baseURI: 'https://cdn.example/' } as Document };
    const other = create(
      { api: AUTHORITY, clientId: 'refresh', mode: 'refresh', origins: ['https://app.example'] },
      env,
    );
    assert.equal(await other.prepare('/api'), null);
    other.dispose();
  });

  test('a sandboxed page (origin null) gives the token to the authority only', async () => {
    const { login } = kit();
    const { session } = await login({ origins: ['data:,'] });
    assert.equal(await session.prepare('data:text/plain,x'), null);
    assert.ok(await session.prepare(AUTHORITY + '/x'));
  });

  test('an Authorization of the caller stays, and its 401 is his', async () => {
    const { model, login } = kit();
    const { session } = await login();
    model.override = refuse('invalid_token');
    const headers = { Authorization: 'Basic x' };
    assert.equal((await session.fetch('/api', { headers })).status, 401);
    assert.equal((await session.fetch(new Request('https://app.example/api', { headers }))).status, 401);
    assert.equal(model.count(...TOKEN), 0);
    assert.equal(own(model).length, 2);
  });

  test('nobody signed in: own requests go without', async () => {
    const { model, open } = kit();
    const { session } = open();
    assert.equal((await session.fetch('/api')).status, 401);
    assert.equal(auth(own(model)[0]!), null);
  });

  test('headers, method and body of the caller stay as they are', async () => {
    const { model, login } = kit();
    const { session } = await login();
    await session.fetch('/api?x=1', {
      method: 'PUT',
      headers: [
        ['x-a', '1'],
        ['accept', 'text/plain'],
      ],
      body: 'text',
      credentials: 'omit',
    });
    const call = own(model)[0]!;
    assert.deepEqual(
      [call.method, call.path, call.headers.get('x-a'), call.headers.get('accept'), call.body, call.init.credentials],
      ['PUT', '/api?x=1', '1', 'text/plain', 'text', 'omit'],
    );
    assert.ok(auth(call)!.startsWith('Bearer '));
  });
});

describe('after a 401', () => {
  test('invalid_token: one renewal, once more, and the caller sees nothing', async () => {
    const { model, login } = kit();
    const { session } = await login();
    let refused = 0;
    model.override = (call) => (call.path === '/api' && refused++ === 0 ? error(401, 'invalid_token') : undefined);
    assert.equal((await session.fetch('/api', { method: 'POST', body: 'again' })).status, 200);
    assert.deepEqual(
      own(model).map(({ body }) => body),
      ['again', 'again'],
    );
    assert.notEqual(auth(own(model)[0]!), auth(own(model)[1]!));
    assert.equal(model.count(...TOKEN), 1);
  });

  test('fifty at once: one renewal', async () => {
    const { world, model, login } = kit();
    const { session } = await login();
    const first = await session.token();
    model.override = async (call) => {
      if (call.path !== '/api' || auth(call) !== `Bearer ${first}`) return undefined as never;
      await new Promise<void>((resolve) => world.after(world.random() * 3000, resolve));
      return error(401, 'invalid_token');
    };
    const answers = await world.until(Promise.all(Array.from({ length: 50 }, () => session.fetch('/api'))));
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
    assert.equal(model.count(...TOKEN), 1);
    assert.equal(own(model).length, 100);
  });

  test('for ever: two requests, one renewal, then signed out; after that silence', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login();
    model.override = refuse('invalid_token');
    assert.equal((await world.until(session.fetch('/api'))).status, 401);
    assert.equal(own(model).length, 2);
    assert.equal(model.count(...TOKEN), 1);
    assert.deepEqual(events, ['signedin', 'renewed', 'signedout:invalid_token']);
    await Promise.all(Array.from({ length: 50 }, () => session.fetch('/api')));
    await world.pass(3600);
    assert.equal(own(model).length, 52);
    assert.equal(model.count(...TOKEN), 1);
  });

  test('fixed: the authority says that it lives; the 401 is the caller’s, and nobody is signed out', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login({ mode: 'fixed' });
    model.override = refuse('invalid_token');
    for (let i = 0; i < 20; i++) assert.equal((await world.until(session.fetch('/api'))).status, 401);
    assert.equal(own(model).length, 20);
    assert.ok(model.count('POST', '/v1/session/renew') <= 2);
    assert.deepEqual(events, ['signedin']);
  });

  test('claims_changed twice in a row is no end', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login();
    model.override = (call) =>
      call.path === '/api' ? error(401, 'invalid_token', { reason: 'claims_changed' }) : undefined;
    assert.equal((await world.until(session.fetch('/api'))).status, 401);
    assert.deepEqual(events, ['signedin', 'renewed']);
  });

  test('other errors are none of ours: 403, step-up, a bare challenge', async () => {
    const { world, model, login } = kit();
    const { session } = await login();
    const answers = [
      () => error(403, 'insufficient_scope'),
      () => error(403, 'invalid_token', {}, { 'www-authenticate': 'Bearer error="invalid_token"' }),
      () => error(401, 'insufficient_user_authentication', { max_age: 300 }),
      () =>
        reply(
          401,
          { error: 'invalid_token' },
          { 'www-authenticate': 'Bearer error="insufficient_user_authentication"' },
        ),
      () => error(401, 'unauthorized'),
      () => new Response('x'.repeat(2 << 20), { status: 401 }),
      () => reply(401, { error: 'invalid_token', pad: 'x'.repeat(2 << 20) }),
      () => new Response('{', { status: 401 }),
    ];
    for (const answer of answers) {
      model.calls = [];
      model.override = (call) => (call.path === '/api' ? answer() : undefined);
      const response = await world.until(session.fetch('/api'));
      assert.equal(own(model).length, 1);
      assert.equal(model.count(...TOKEN), 0);
      assert.equal(await response.text(), await answer().text(), 'the body is whole');
    }
  });

  test('the header cannot be read: the body tells; a body that never ends does not hang', async () => {
    const { world, model, login } = kit();
    const { session } = await login();
    let times = 0;
    model.override = (call) =>
      call.path === '/api' && times++ === 0 ? reply(401, { error: 'invalid_token' }) : undefined;
    assert.equal((await world.until(session.fetch('/api'))).status, 200);
    model.override = (call) => (call.path === '/api' ? new Response(new ReadableStream(), { status: 401 }) : undefined);
    assert.equal((await world.until(session.fetch('/api'))).status, 401);
  });

  test('renewed meanwhile by somebody else: once more without a call', async () => {
    const { world, model, login } = kit();
    const { session } = await login();
    const old = await session.token();
    const sent = (await session.prepare('/api'))!;
    await world.until(session.renew());
    const answer = { status: 401, header: () => 'Bearer error="invalid_token"' };
    assert.equal(await session.settle(sent, answer, false), true);
    assert.equal(model.count(...TOKEN), 1);
    assert.notEqual(await session.token(), old);
  });

  test('the authority is away: the 401 is returned, nobody is signed out', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login();
    model.override = (call) =>
      call.path === '/api' ? error(401, 'invalid_token') : Promise.reject(new TypeError('offline'));
    assert.equal((await world.until(session.fetch('/api'))).status, 401);
    assert.deepEqual(events, ['signedin']);
  });

  test('what cannot be sent twice is not; the renewal is done all the same', async () => {
    const { world, model, login } = kit();
    const { session } = await login();
    const stream = () => new ReadableStream({ start: (c) => (c.enqueue(new Uint8Array([1])), c.close()) });
    const once: [RequestInfo, RequestInit?][] = [
      ['/api', { method: 'POST', body: stream(), duplex: 'half' } as RequestInit],
      [new Request('https://app.example/api', { method: 'POST', body: 'x' })],
      [new Request('https://app.example/api', { method: 'PUT', body: stream(), duplex: 'half' } as RequestInit)],
    ];
    model.override = refuse('invalid_token');
    for (const [index, request] of once.entries()) {
      await world.pass(2);
      model.calls = [];
      assert.equal((await world.until(session.fetch(...request))).status, 401);
      assert.deepEqual([own(model).length, model.count(...TOKEN)], [1, 1], `${index}`);
    }
    const twice: [RequestInfo, RequestInit?][] = [
      [new Request('https://app.example/api')],
      [new Request('https://app.example/api', { method: 'DELETE' })],
      ['/api', { method: 'POST', body: new URLSearchParams({ a: 'b' }) }],
      ['/api', { method: 'POST', body: new Blob(['x']) }],
    ];
    for (const [index, request] of twice.entries()) {
      await world.pass(2);
      model.calls = [];
      let refused = false;
      model.override = (call) =>
        !refused && call.path === '/api' ? ((refused = true), error(401, 'invalid_token')) : undefined;
      assert.equal((await world.until(session.fetch(...request))).status, 200, `${index}`);
      assert.equal(own(model).length, 2);
    }
  });
});

describe('the caller’s signal', () => {
  test('ends the wait for a renewal, which goes on', async () => {
    const { world, model, login } = kit();
    const { session } = await login({ keepAlive: 'use' });
    await world.pass(400);
    model.override = (call) =>
      call.path === '/oauth/token'
        ? new Promise((resolve) => world.after(3000, () => resolve(model.fetch(call.url, { ...call.init }))))
        : undefined;
    const stop = new AbortController();
    const answer = codeOf(
      session.fetch('/api', { signal: stop.signal }).catch((error: Error) => Promise.reject({ code: error.name })),
    );
    await world.pass(1);
    stop.abort();
    assert.equal(await answer, 'AbortError');
    model.override = undefined;
    await world.pass(5);
    assert.equal((await session.fetch('/api')).status, 200);
  });

  test('already over: nothing is sent', async () => {
    const { model, login } = kit();
    const { session } = await login();
    await assert.rejects(session.fetch('/api', { signal: AbortSignal.abort() }));
    assert.equal(own(model).length, 0);
  });
});

describe('tokens renewed on the way', () => {
  test('Renewed-Access-Token is adopted, and it moves the deadlines', async () => {
    const { world, model, login } = kit();
    const { session, events } = await login({ mode: 'sliding' });
    model.slides = true;
    await world.pass(700);
    // The client renews by itself, too; here the middleware alone.
    model.override = (call) => (call.path === '/v1/session/renew' ? Promise.reject(new TypeError('x')) : undefined);
    const end = session.expiresAt!;
    await session.fetch('/api');
    assert.equal(session.expiresAt! - end, 700);
    assert.deepEqual(events, ['signedin', 'renewed']);
  });

  test('one of another session, an older one, one that is no token: dropped', async () => {
    const { model, login } = kit();
    const { session, events } = await login();
    const { sub, sid, iat, exp } = session.user!;
    const planted = [
      jwt({ sub, sid: 'other', rev: 9, iat, exp }),
      jwt({ sub, sid, rev: 0, iat, exp }),
      'x.y',
      'x'.repeat(20000),
    ];
    for (const token of planted) {
      model.override = (call) => (call.path === '/api' ? reply(200, {}, { 'renewed-access-token': token }) : undefined);
      await session.fetch('/api');
    }
    assert.deepEqual(events, ['signedin']);
  });

  test('after a redirect to a stranger nothing is adopted and nothing renewed', async () => {
    const { model, login } = kit();
    const { session, events } = await login();
    const token = jwt({ ...session.user!, rev: 9 });
    model.override = () => {
      const answer = reply(
        401,
        {},
        { 'renewed-access-token': token, 'www-authenticate': 'Bearer error="invalid_token"' },
      );
      Object.defineProperty(answer, 'url', { value: 'https://evil.example/' });
      return answer;
    };
    assert.equal((await session.fetch('/api')).status, 401);
    assert.deepEqual([events.join(), model.count(...TOKEN)], ['signedin', 0]);
  });

  test('a late answer of a session that was signed out brings nothing back', async () => {
    const { world, model, login } = kit();
    for (const storage of ['memory', 'local'] as const) {
      const { session, events } = await login({ storage });
      const token = jwt({ ...session.user!, rev: 50 });
      model.override = (call) =>
        call.path === '/api'
          ? new Promise((resolve) => world.after(500, () => resolve(reply(200, {}, { 'renewed-access-token': token }))))
          : undefined;
      const answer = session.fetch('/api');
      await world.pass(0.1);
      await session.signOut();
      await world.until(answer);
      assert.equal(session.user, null);
      assert.deepEqual(events, ['signedin', 'signedout:signed_out']);
    }
  });
});

describe('call', () => {
  test('a change of the record: the new claims at once', async () => {
    const { model, login } = kit();
    const { session, events } = await login();
    let previous: unknown;
    session.on('claims', (detail) => (previous = [detail.previous.name, detail.user.name]));
    const answer = await session.call<{ user: { name: string } }>('patch', '/v1/me', { name: 'Grace' });
    assert.equal(answer.user.name, 'Grace');
    assert.equal(session.user!.name, 'Grace');
    assert.deepEqual(previous, ['Demo', 'Grace']);
    assert.deepEqual(events, ['signedin', 'claims', 'renewed']);
    assert.equal(model.calls.at(-1)!.method, 'PATCH');
  });

  test('an answer without a body has the token in its header', async () => {
    const { model, login } = kit();
    const { session } = await login();
    model.change({ phone_number: '+491' });
    await session.call('DELETE', '/v1/me/phone');
    assert.equal(session.user!.phone_number, null);
    assert.equal(session.user!.rev, 3);
  });

  test('errors have the wire’s code, status and details; a step-up neither renews nor signs out', async () => {
    const { model, login } = kit();
    const { session, events } = await login();
    model.override = (call) =>
      call.path === '/v1/me' ? error(401, 'insufficient_user_authentication', { max_age: 300 }) : undefined;
    await assert.rejects(session.call('PATCH', '/v1/me', {}), (e: Error & Record<string, unknown>) => {
      assert.deepEqual(
        [e.name, e.code, e.status, e.details],
        ['ResealError', 'insufficient_user_authentication', 401, { max_age: 300 }],
      );
      return true;
    });
    assert.equal(model.count(...TOKEN), 0);
    assert.deepEqual(events, ['signedin']);
  });

  test('a path cannot lead elsewhere', async () => {
    const { model, login } = kit();
    const { session } = await login();
    const calls = model.calls.length;
    for (const path of ['@evil.example/v1', '.evil.example', 'https://evil.example'])
      await assert.rejects(session.call('GET', path), TypeError);
    assert.equal(model.calls.length, calls);
    await codeOf(session.call('GET', '//evil.example/'));
    assert.equal(new URL(model.calls.at(-1)!.url).origin, AUTHORITY);
  });

  test('no answer of the authority is followed elsewhere, kept, or sent without a bound', async () => {
    const { model, login } = kit();
    const { session } = await login();
    await session.call('GET', '/v1/me');
    for (const { init } of model.calls)
      assert.deepEqual(
        [init.redirect, init.cache, init.signal instanceof AbortSignal, init.mode],
        ['error', 'no-store', true, undefined],
      );
    model.override = (call) => (call.path === '/v1/me' ? new Response('"' + 'x'.repeat(2 << 20) + '"') : undefined);
    assert.deepEqual(await session.call('GET', '/v1/me'), {});
  });
});
