// Who is let in, and what the others are told: real Koa applications, both major versions, in front of the real authority.

import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import Koa from 'koa';
import { requireAcr, requireMaxAge, requireScope, session, type SessionOptions } from '../src/index.js';
import { appOf, authority, clients, guard, opened, renewedOf, settings, silent, sub, VERSIONS } from './app.js';
import { AUDIENCE, eventually, serve, type Reply, type Service } from '../../tools/authority.js';

for (const [name, App] of VERSIONS) {
  describe(name, () => {
    let service: Service;
    before(async () => {
      service = await appOf(App);
    });

    test('a good token: claims and session are in the state, and nothing is added to the answer', async () => {
      const { access_token, session } = await authority.login(clients.web, sub);
      const reply = await service.send('/me', { token: access_token });
      assert.equal(reply.status, 200);
      assert.deepEqual(reply.json, { name: 'ada', acr: 'aal1', id: session.id });
      assert.equal(renewedOf(reply), undefined);
      assert.equal(reply.headers['cache-control'], undefined);
    });

    test('no token, or another scheme: 401 and a bare challenge, in JSON', async () => {
      for (const headers of [{}, { Authorization: 'Basic YTpi' }]) {
        const reply = await service.send('/me', { headers });
        assert.equal(reply.status, 401);
        assert.equal(reply.headers['www-authenticate'], 'Bearer');
        assert.equal(reply.json.error, 'unauthorized');
      }
    });

    test('what cannot be read: 400', async () => {
      const reply = await service.send('/me', { headers: { Authorization: 'Bearer a b' } });
      assert.equal(reply.status, 400);
      assert.equal(reply.json.error, 'invalid_request');
    });

    test('a token for somebody else: 401 invalid_token, and HEAD has no body', async () => {
      const { access_token } = await authority.login(
        await authority.client('web', { audience: ['https://other'] }),
        sub,
      );
      for (const method of ['GET', 'HEAD']) {
        const reply = await service.send('/me', { method, token: access_token });
        assert.equal(reply.status, 401);
        assert.match(String(reply.headers['www-authenticate']), /^Bearer error="invalid_token", error_description="/);
        if (method === 'GET') assert.equal(reply.json.error, 'invalid_token');
        else assert.equal(reply.text, '');
      }
    });

    test('a session that was ended: 401 with its reason, as soon as the feed has told', async () => {
      const { access_token, session } = await authority.login(clients.web, sub);
      assert.equal((await service.send('/me', { token: access_token })).status, 200);
      await authority.admin('DELETE', `/sessions/${session.id}`);
      let reply: Reply | undefined;
      await eventually('the token is refused', async () => {
        reply = await service.send('/me', { token: access_token });
        return reply.status === 401;
      });
      assert.equal(reply?.json.reason, 'revoked');
    });

    test('a scope that is missing: 403, from middleware and from a handler', async () => {
      const { access_token } = await authority.login(clients.web, sub);
      const app = new App();
      app.silent = true;
      app.use(session({ guard }));
      app.use((ctx, next) => (ctx.path === '/read' ? requireScope('notes:read')(ctx, next) : next()));
      app.use((ctx, next) => (ctx.path === '/write' ? requireScope('notes:read', 'notes:write')(ctx, next) : next()));
      app.use((ctx) => {
        if (ctx.path === '/by-hand') ctx.state.session.requireScope('notes:write');
        ctx.body = 'there';
      });
      const scoped = await serve(app.callback());
      opened.push(scoped);
      assert.equal((await scoped.send('/read', { token: access_token })).status, 200);
      for (const path of ['/write', '/by-hand']) {
        const reply = await scoped.send(path, { token: access_token });
        assert.equal(reply.status, 403);
        assert.match(
          String(reply.headers['www-authenticate']),
          /error="insufficient_scope", scope="[a-z: ]*notes:write"/,
        );
        assert.equal(reply.json.error, 'insufficient_scope');
      }
    });

    test('step-up: 401 says what is needed; the second factor brings it, and the phone number into the token', async () => {
      const app = new App();
      app.silent = true;
      app.use(session({ guard }));
      app.use(requireAcr('aal2'));
      app.use(requireMaxAge(300));
      app.use((ctx) => void (ctx.body = { phone: ctx.state.user.phone_number }));
      const strict = await serve(app.callback());
      opened.push(strict);

      const user = await authority.user(`step-up-${name.at(-1)}`);
      const { access_token: weak } = await authority.login(clients.web, user);
      const refused = await strict.send('/', { token: weak });
      assert.equal(refused.status, 401);
      assert.match(
        String(refused.headers['www-authenticate']),
        /error="insufficient_user_authentication", acr_values="aal2"/,
      );
      assert.equal(refused.json.acr_values, 'aal2');

      const phone_number = `+49151123456${name.at(-1)}0`;
      const { challenge } = (await authority.call('POST', '/v1/me/phone', { token: weak, body: { phone_number } }))
        .body;
      const body = { challenge, code: await authority.code() };
      const { access_token } = (await authority.call('POST', '/v1/me/phone/verify', { token: weak, body })).body;
      const reply = await strict.send('/', { token: access_token as string });
      assert.equal(reply.status, 200, reply.text);
      assert.deepEqual(reply.json, { phone: phone_number });
    });

    test('a login that is too old: 401 with max_age', async () => {
      const app = new App();
      app.silent = true;
      app.use(session({ guard }));
      app.use(requireMaxAge(300));
      const strict = await serve(app.callback());
      opened.push(strict);
      const auth_time = Math.floor(authority.now() / 1000) - 400;
      const { access_token } = await authority.login(clients.web, sub, { auth_time });
      const reply = await strict.send('/', { token: access_token });
      assert.equal(reply.status, 401);
      assert.equal(reply.json.max_age, 300);
    });

    test('nobody was asked for: requirements refuse who passed without a session', async () => {
      const app = new App();
      app.silent = true;
      app.use(requireScope('notes:read'));
      const bare = await serve(app.callback());
      opened.push(bare);
      const reply = await bare.send('/');
      assert.deepEqual([reply.status, reply.json.error], [401, 'unauthorized']);
    });

    test('a realm is in every challenge, also where a guard is shared or nobody was asked', async () => {
      const { access_token } = await authority.login(clients.web, sub);
      for (const passthrough of [false, true]) {
        const app = new App();
        app.silent = true;
        app.use(session({ guard, realm: 'notes', passthrough }).unless({ path: '/open' }));
        app.use(requireScope('notes:write'));
        const named = await serve(app.callback());
        opened.push(named);
        for (const [path, token] of [['/'], ['/', 'a.b.c'], ['/', access_token], ['/open']] as [string, string?][]) {
          const reply = await named.send(path, token === undefined ? {} : { token });
          assert.match(String(reply.headers['www-authenticate']), /^Bearer realm="notes"/, `${path} ${reply.text}`);
        }
      }
    });

    describe('handlers of errors', () => {
      test('that were written for koa-jwt find what they look for', async () => {
        let seen: { status: number; originalError?: unknown } | undefined;
        const handled = await appOf(App, { debug: true }, (app) =>
          app.use(async (ctx, next) => {
            try {
              await next();
            } catch (error) {
              seen = error as { status: number };
              ctx.status = seen.status;
              ctx.body = 'Protected resource';
            }
          }),
        );
        const reply = await handled.send('/me', { token: 'a.b.c' });
        assert.deepEqual([reply.status, reply.text], [401, 'Protected resource']);
        assert.equal(seen?.status, 401);
        assert.ok(seen?.originalError instanceof Error);
      });

      test('of the application as a whole stay in force', async () => {
        const own = await appOf(App, {}, (app) => {
          app.context.onerror = function onerror(this: Koa.Context, error: Error | null) {
            if (error) this.res.writeHead(499).end('own');
          } as never;
        });
        const reply = await own.send('/me');
        assert.deepEqual([reply.status, reply.text], [499, 'own']);
      });

      test('and headers of CORS middleware on refusals', async () => {
        const cors = await appOf(App, {}, (app) =>
          app.use(async (_ctx, next) => {
            try {
              await next();
            } catch (error) {
              const refused = error as { headers: Record<string, string> };
              refused.headers = { ...refused.headers, 'Access-Control-Allow-Origin': 'https://app.example' };
              throw error;
            }
          }),
        );
        const reply = await cors.send('/me');
        assert.equal(reply.headers['access-control-allow-origin'], 'https://app.example');
        assert.equal(reply.json.error, 'unauthorized');
      });

      test('debug says what was wrong; without it nothing is said', async () => {
        const { access_token } = await authority.login(await authority.client('web', { audience: ['x'] }), sub);
        const debugging = await appOf(App, { debug: true });
        assert.equal(typeof (await debugging.send('/me', { token: access_token })).json.debug, 'string');
        assert.equal((await service.send('/me', { token: access_token })).json.debug, undefined);
      });
    });

    describe('passthrough', () => {
      let open: Service;
      before(async () => {
        const app = new App();
        app.silent = true;
        app.use(session({ guard, passthrough: true }));
        app.use((ctx, next) => (ctx.path === '/strict' ? requireScope('notes:read')(ctx, next) : next()));
        app.use((ctx) => {
          ctx.body = { name: ctx.state.user?.name ?? null, why: ctx.state.jwtOriginalError?.code ?? null };
        });
        open = await serve(app.callback());
        opened.push(open);
      });

      test('nobody, somebody, and a bad token', async () => {
        const { access_token } = await authority.login(clients.web, sub);
        assert.deepEqual((await open.send('/')).json, { name: null, why: 'unauthorized' });
        assert.deepEqual((await open.send('/', { token: access_token })).json, { name: 'ada', why: null });
        assert.deepEqual((await open.send('/', { token: 'x.y.z' })).json, { name: null, why: 'invalid_token' });
      });

      test('a requirement behind it tells the reason', async () => {
        assert.equal((await open.send('/strict')).json.error, 'unauthorized');
        const reply = await open.send('/strict', { token: 'x.y.z' });
        assert.deepEqual([reply.status, reply.json.error], [401, 'invalid_token']);
      });
    });

    describe("Reseal's session cookie", () => {
      let cookies: Service;
      before(async () => {
        cookies = await appOf(App, { ...settings(), sessionCookie: true });
      });

      test('is exchanged for a token', async () => {
        const { cookie } = await authority.login(clients.browser, sub);
        const reply = await cookies.send('/me', {
          headers: { cookie: cookie as string, 'Sec-Fetch-Site': 'same-origin' },
        });
        assert.equal(reply.status, 200, reply.text);
        assert.equal(reply.json.name, 'ada');
        assert.equal(renewedOf(reply), undefined);
      });

      test('is of no use to a page from elsewhere', async () => {
        const { cookie } = await authority.login(clients.browser, sub);
        const from = (Origin: string) =>
          cookies.send('/me', {
            method: 'POST',
            headers: { cookie: cookie as string, Origin, 'Sec-Fetch-Site': 'cross-site' },
          });
        assert.equal((await from('https://app.example')).status, 200);
        const reply = await from('https://evil.example');
        assert.equal(reply.status, 403);
        assert.equal(reply.headers['set-cookie'], undefined);
      });
    });
  });
}

test('keys that cannot be had: 503 and no challenge, with passthrough, too', async () => {
  for (const passthrough of [false, true]) {
    const away = await appOf(Koa, { issuer: 'http://127.0.0.1:9', audience: AUDIENCE, log: silent, passthrough });
    const { access_token } = await authority.login(clients.web, sub);
    const reply = await away.send('/me', { token: access_token });
    assert.equal(reply.status, 503);
    assert.equal(reply.json.error, 'temporarily_unavailable');
    assert.match(String(reply.headers['retry-after']), /^\d+$/);
    assert.equal(reply.headers['www-authenticate'], undefined);
  }
});

test('tokens of the code before and ours, side by side', async () => {
  const { createHmac } = await import('node:crypto');
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: 'old', name: 'Old', exp: authority.now() / 1000 + 600 })}`;
  const before = `${text}.${createHmac('sha256', 'the old secret').update(text).digest('base64url')}`;
  const app = new Koa();
  app.silent = true;
  const old = session({ secret: 'the old secret', algorithms: ['HS256'], now: authority.now, passthrough: true });
  app.use(old);
  app.use(session({ guard }).unless({ custom: (ctx) => ctx.state.user !== undefined }));
  app.use((ctx) => {
    assert.equal(ctx.state.jwtOriginalError, undefined);
    ctx.body = { name: ctx.state.user.name };
  });
  const service = await serve(app.callback());
  opened.push(service, old);
  const { access_token } = await authority.login(clients.web, sub);
  assert.deepEqual((await service.send('/', { token: before })).json, { name: 'Old' });
  assert.deepEqual((await service.send('/', { token: access_token })).json, { name: 'ada' });
  assert.equal((await service.send('/', { token: `${before}x` })).status, 401);
  assert.equal((await service.send('/')).status, 401);
});

test('an option that nobody knows is refused: it may have been meant to protect', () => {
  const unknown = { guard, maxAge: '1h' } as unknown as SessionOptions;
  assert.throws(() => session(unknown), /maxAge/);
  assert.throws(() => session({ guard, audience: 'x' }), /audience/);
});
