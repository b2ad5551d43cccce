// Real Express applications, both major versions, in front of the real authority.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import express, { type Express, type Request } from 'express';
import express4 from 'express4';
import {
  auth,
  Guard,
  Refusal,
  refusalHandler,
  requireAcr,
  requireMaxAge,
  requireScope,
  session,
  type SessionOptions,
} from '../src/index.js';
import {
  AUDIENCE,
  eventually,
  serve,
  startAuthority,
  type Authority,
  type Reply,
  type Service,
} from '../../tools/authority.js';

/** Half of the life of a token of the policy `web`, and a little more. */
const PAST_HALF = 11 * 60;

let authority: Authority;
let clients: Record<'web' | 'browser', string>;
let sub: string;
let guard: Guard;

/** Closed after the tests. */
const opened: { close(): Promise<void> }[] = [];

before(async () => {
  authority = await startAuthority();
  clients = {
    web: await authority.client('web'),
    browser: await authority.client('browser', { origins: ['https://app.example'] }),
  };
  sub = await authority.user('ada');
  guard = new Guard(settings());
  await guard.ready();
});

after(async () => {
  await Promise.all(opened.map((one) => one.close()));
  await guard?.close();
  await authority?.stop();
});

const silent = { warn() {}, info() {} };

const settings = () => ({
  issuer: authority.issuer,
  audience: AUDIENCE,
  client: authority.service,
  now: authority.now,
  log: silent,
});

/** What one application of these tests has besides its routes. */
interface Arranged {
  options?: Partial<SessionOptions>;
  unless?: Parameters<ReturnType<typeof session>['unless']>[0];
  /** What stands at the end, if not `refusalHandler()`. */
  atTheEnd?: express.ErrorRequestHandler[];
}

async function appOf(make: typeof express, { options = {}, unless, atTheEnd }: Arranged = {}): Promise<Service> {
  const app = make();
  // Else the last resort writes a stack on the console.
  app.set('env', 'test');
  const middleware = session({ ...('issuer' in options ? {} : { guard }), ...options });
  app.use(unless === undefined ? middleware : middleware.unless(unless));
  routes(app);
  for (const handler of atTheEnd ?? [refusalHandler()]) app.use(handler);
  const service = await serve(app);
  opened.push({
    async close() {
      await service.close();
      if (middleware.guard !== guard) await middleware.close();
    },
  });
  return service;
}

function routes(app: Express) {
  app.all('/me', (req, res) => {
    const { user, session } = auth(req);
    res.json({ name: user.name, acr: session.acr, id: session.id });
  });
  app.get('/nobody', (req, res) => {
    const { auth, authError } = req as Request & { auth?: object; authError?: Refusal };
    res.json({ somebody: auth !== undefined, why: authError?.code ?? null });
  });
  app.get('/read', requireScope('notes:read'), (_req, res) => void res.json({}));
  app.get('/write', requireScope('notes:read', 'notes:write'), (_req, res) => void res.json({}));
  app.get('/strong', requireAcr('aal2'), (_req, res) => void res.json({}));
  app.get('/recent', requireMaxAge(300), (_req, res) => void res.json({}));
  app.get('/headers', (_req, res) => {
    res.set({ 'Cache-Control': 'public', 'Access-Control-Expose-Headers': 'ETag' }).cookie('mine', '1').vary('Origin');
    res.send('there');
  });
  app.get('/throw', () => {
    throw new Error('boom');
  });
  app.get('/next', (_req, _res, next) => next(Object.assign(new Error('teapot'), { status: 418 })));
  app.get('/no-error', (_req, _res, next) => next('not an Error'));
  app.get('/stream', (_req, res) => void Readable.from(['a', 'b']).pipe(res));
  app.get('/raw', (_req, res) => void res.writeHead(203, { 'Cache-Control': 'public', 'X-Mine': '1' }).end('raw'));
  app.get('/sign-out', (_req, res) => void res.clearCookie('jwt').send('gone'));
  app.get('/empty', (_req, res) => void res.status(204).end());
  app.get('/begun', (req, res) => {
    res.write('begun');
    auth(req).session.requireScope('notes:write');
  });
  app.get('/rename', (req, res, next) => {
    const { session, user } = auth(req);
    authority
      .admin('PATCH', `/users/${user.sub}`, { name: req.query.name })
      .then(() => session.reseal())
      .then((claims) => {
        if (req.query.fail) throw new Error('after the change');
        res.json({ claims: claims?.name ?? null, user: auth(req).user.name });
      })
      .catch(next);
  });
}

const renewedOf = (reply: Reply) => reply.headers['renewed-access-token'] as string | undefined;

for (const [name, make] of [
  ['Express 5', express],
  ['Express 4', express4],
] as [string, typeof express][]) {
  describe(name, () => {
    let service: Service;
    before(async () => {
      service = await appOf(make);
    });

    test('a good token goes through, and nothing is added to the answer', async () => {
      const { access_token, session } = await authority.login(clients.web, sub);
      const reply = await service.send('/me', { token: access_token });
      assert.deepEqual([reply.status, reply.json], [200, { name: 'ada', acr: 'aal1', id: session.id }]);
      assert.deepEqual([renewedOf(reply), reply.headers['cache-control']], [undefined, undefined]);
    });

    test('refused: status, challenge and JSON', async () => {
      const { access_token } = await authority.login(clients.web, sub);
      const old = await authority.login(clients.web, sub, { auth_time: Math.floor(authority.now() / 1000) - 400 });
      const cases: [string, string | undefined, number, string, RegExp][] = [
        ['/me', undefined, 401, 'unauthorized', /^Bearer$/],
        ['/me', 'a b', 400, 'invalid_request', /error="invalid_request"/],
        ['/me', 'a.b.c', 401, 'invalid_token', /error="invalid_token"/],
        ['/write', access_token, 403, 'insufficient_scope', /scope="[a-z: ]*notes:write"/],
        ['/strong', access_token, 401, 'insufficient_user_authentication', /acr_values="aal2"/],
        ['/recent', old.access_token, 401, 'insufficient_user_authentication', /max_age="300"/],
      ];
      for (const [path, token, status, error, challenge] of cases) {
        const reply = await service.send(path, token === undefined ? {} : { token });
        assert.deepEqual([reply.status, reply.json.error], [status, error]);
        assert.match(String(reply.headers['www-authenticate']), challenge);
        assert.equal(reply.headers['cache-control'], 'no-store');
      }
      for (const path of ['/read', '/recent']) {
        assert.equal((await service.send(path, { token: access_token })).status, 200);
      }
    });

    test("without a handler Express's own answers with the same status and headers", async () => {
      const bare = await appOf(make, { atTheEnd: [] });
      const reply = await bare.send('/me', { token: 'a.b.c' });
      assert.equal(reply.status, 401);
      assert.match(String(reply.headers['www-authenticate']), /error="invalid_token"/);
    });

    test('a handler of the application finds status, code and what was wrong', async () => {
      const own: express.ErrorRequestHandler = (error, _req, res, _next) => {
        res.status(error.statusCode).json({ is: error instanceof Refusal, code: error.code, expose: error.expose });
      };
      const handled = await appOf(make, { atTheEnd: [own] });
      const reply = await handled.send('/me');
      assert.deepEqual([reply.status, reply.json], [401, { is: true, code: 'unauthorized', expose: true }]);
    });

    test('refusalHandler leaves other errors, and answers that have begun, to others', async () => {
      const seen: unknown[] = [];
      const last: express.ErrorRequestHandler = (error, _req, res, next) => {
        seen.push(error);
        if (res.headersSent) return next(error);
        res.status(500).end();
      };
      const handled = await appOf(make, { atTheEnd: [refusalHandler(), last] });
      const { access_token } = await authority.login(clients.web, sub);
      assert.equal((await handled.send('/throw', { token: access_token })).status, 500);
      await assert.rejects(handled.send('/begun', { token: access_token }));
      assert.deepEqual(
        seen.map((error) => error instanceof Refusal),
        [false, true],
      );
    });

    test('an ended session is refused with its reason, as soon as the feed has told', async () => {
      const { access_token, session } = await authority.login(clients.web, sub);
      await authority.admin('DELETE', `/sessions/${session.id}`);
      let reply: Reply | undefined;
      await eventually('the token is refused', async () => {
        reply = await service.send('/me', { token: access_token });
        return reply.status === 401;
      });
      assert.equal(reply?.json.reason, 'revoked');
    });

    test('exceptions', async () => {
      const open = await appOf(make, { unless: { path: [{ url: '/nobody', methods: ['GET'] }], method: 'OPTIONS' } });
      assert.deepEqual((await open.send('/nobody?x')).json, { somebody: false, why: null });
      assert.equal((await open.send('/nobody', { method: 'POST' })).status, 401);
      // Whoever asks for somebody there gets a refusal, not a crash.
      assert.deepEqual((await open.send('/me', { method: 'OPTIONS' })).json.error, 'unauthorized');
      const failing = await appOf(make, { unless: () => Promise.reject(new Error('away')) });
      assert.equal((await failing.send('/nobody')).status, 500);
    });

    test('passthrough: nobody, somebody, a bad token, and what a requirement says of it', async () => {
      const open = await appOf(make, { options: { passthrough: true } });
      const { access_token } = await authority.login(clients.web, sub);
      assert.deepEqual((await open.send('/nobody')).json, { somebody: false, why: 'unauthorized' });
      assert.deepEqual((await open.send('/nobody', { token: access_token })).json, { somebody: true, why: null });
      assert.deepEqual((await open.send('/nobody', { token: 'x.y.z' })).json, {
        somebody: false,
        why: 'invalid_token',
      });
      assert.equal((await open.send('/read', { token: 'x.y.z' })).json.error, 'invalid_token');
    });

    test('getToken, and a list of revoked tokens that may be away', async () => {
      const { access_token, session } = await authority.login(clients.web, sub);
      const asked: unknown[] = [];
      const listed = await appOf(make, {
        options: {
          getToken: (req) => req.get('X-Token'),
          isRevoked: async (req, { sid }, token) => {
            if (req.path === '/throw') throw new Error('away');
            asked.push(token);
            return sid === session.id && req.path === '/me';
          },
        },
      });
      const headers = { 'X-Token': access_token };
      assert.equal((await listed.send('/read', { headers })).status, 200);
      const reply = await listed.send('/me', { headers });
      assert.deepEqual([reply.status, reply.json.reason], [401, 'revoked']);
      assert.equal((await listed.send('/throw', { headers })).status, 503);
      assert.deepEqual(asked, [access_token, access_token]);
    });

    test('behind one that refused with passthrough another lets in, and the reason is gone', async () => {
      const app = make();
      app.set('env', 'test');
      app.use(session({ secret: 'of the code before', passthrough: true }));
      app.use(session({ guard }));
      routes(app);
      const both = await serve(app);
      opened.push(both);
      const { access_token } = await authority.login(clients.web, sub);
      assert.deepEqual((await both.send('/nobody', { token: access_token })).json, { somebody: true, why: null });
    });

    describe('past half of its life', () => {
      let old: string;
      before(async () => {
        ({ access_token: old } = await authority.login(clients.web, sub));
        await authority.advance(PAST_HALF);
      });

      const answers: [string, number][] = [
        ['/me', 200],
        ['/nowhere', 404],
        ['/headers', 200],
        ['/throw', 500],
        ['/next', 418],
        ['/no-error', 500],
        ['/stream', 200],
        ['/raw', 203],
        ['/empty', 204],
        ['/strong', 401],
      ];
      for (const [path, status] of answers) {
        test(`${path} carries the newer token`, async () => {
          const reply = await service.send(path, { token: old });
          assert.equal(reply.status, status);
          assert.equal((await service.send('/me', { token: renewedOf(reply) as string })).status, 200);
          assert.equal(reply.headers['cache-control'], 'no-store');
          assert.match(String(reply.headers['access-control-expose-headers']), /(^|, )Renewed-Access-Token$/);
          if (path === '/headers') {
            assert.equal(reply.headers['access-control-expose-headers'], 'ETag, Renewed-Access-Token');
            assert.match(String(reply.headers['set-cookie']), /^mine=1/);
            assert.equal(reply.headers.vary, 'Origin');
          }
          if (path === '/raw') assert.equal(reply.headers['x-mine'], '1');
        });
      }

      test('fifty at once get the same newer token', async () => {
        const { access_token } = await authority.login(clients.web, sub);
        await authority.advance(PAST_HALF);
        const replies = await Promise.all(
          Array.from({ length: 50 }, () => service.send('/me', { token: access_token })),
        );
        // A second signature of the same would be another text.
        assert.equal(new Set(replies.map(renewedOf)).size, 1);
        assert.ok(replies.every((reply) => reply.status === 200 && renewedOf(reply)));
      });

      test("a token in the application's own cookie is renewed there", async () => {
        const cookies = await appOf(make, { options: { cookie: 'jwt', cookieOptions: { path: '/api' } } });
        const { access_token } = await authority.login(clients.web, sub);
        await authority.advance(PAST_HALF);
        for (const path of ['/me', '/throw']) {
          const reply = await cookies.send(path, { headers: { cookie: `jwt=${access_token}` } });
          assert.equal(renewedOf(reply), undefined);
          assert.match(String(reply.headers['set-cookie']), /^jwt=[\w.-]+; Path=\/api; HttpOnly; SameSite=Lax$/);
        }
      });
    });

    test('an own word on that cookie is the last; one that cannot be set spoils no answer', async () => {
      const { access_token } = await authority.login(clients.web, sub);
      await authority.advance(PAST_HALF);
      const headers = { cookie: `jwt=${access_token}` };
      const cookies = await appOf(make, { options: { cookie: 'jwt' } });
      const reply = await cookies.send('/sign-out', { headers });
      assert.deepEqual(
        reply.headers['set-cookie']?.map((cookie) => cookie.split(';')[0]),
        ['jwt='],
      );
      // There is no `cookie-parser` with a secret.
      const signed = await appOf(make, { options: { cookie: 'jwt', cookieOptions: { signed: true } } });
      const warned = once(process, 'warning');
      for (const path of ['/me', '/stream', '/throw']) {
        const { status, headers: has } = await signed.send(path, { headers });
        assert.deepEqual([status, has['set-cookie']], [path === '/throw' ? 500 : 200, undefined]);
      }
      const [warning] = (await warned) as [Error];
      assert.match(warning.message, /cookie.*could not be set/);
      assert.ok(!warning.message.includes(access_token));
    });

    test('what getToken finds is refused where it is no text', async () => {
      const elsewhere = await appOf(make, { options: { getToken: (req) => req.query.token as string } });
      for (const query of ['token[]=a', 'token[a]=b', 'token=a&token=b']) {
        const reply = await elsewhere.send(`/me?${query}`);
        assert.equal(reply.json.error, make === express && query.includes('[') ? 'unauthorized' : 'invalid_token');
      }
    });

    test('a realm is in every challenge, also where a guard is shared or nobody was asked', async () => {
      const { access_token } = await authority.login(clients.web, sub);
      const named = await appOf(make, { options: { realm: 'notes' }, unless: { path: '/strong' } });
      for (const [path, token] of [['/me'], ['/me', 'a.b.c'], ['/write', access_token], ['/strong']] as [
        string,
        string?,
      ][]) {
        const reply = await named.send(path, token === undefined ? {} : { token });
        assert.match(String(reply.headers['www-authenticate']), /^Bearer realm="notes"/, path);
      }
    });

    test('reseal() in the handler that changed the claims, in a failing one, too', async () => {
      const user = await authority.user(`reseals-${name}`);
      const { access_token } = await authority.login(clients.web, user);
      const reply = await service.send('/rename?name=Grace', { token: access_token });
      assert.deepEqual(reply.json, { claims: 'Grace', user: 'Grace' });
      const failed = await service.send('/rename?name=Hopper&fail=1', { token: renewedOf(reply) as string });
      assert.equal(failed.status, 500);
      assert.equal((await service.send('/me', { token: renewedOf(failed) as string })).json.name, 'Hopper');
    });

    test("Reseal's session cookie is exchanged for a token, not for a page from elsewhere", async () => {
      const cookies = await appOf(make, { options: { ...settings(), sessionCookie: true } });
      const { cookie } = await authority.login(clients.browser, sub);
      const from = (Origin: string) => {
        const headers = { cookie: cookie as string, Origin, 'Sec-Fetch-Site': 'cross-site' };
        return cookies.send('/me', { method: 'POST', headers });
      };
      assert.equal((await from('https://app.example')).status, 200);
      assert.equal((await from('https://evil.example')).status, 403);
    });

    test('keys that cannot be had: 503 and no challenge, with passthrough, too', async () => {
      const { access_token } = await authority.login(clients.web, sub);
      for (const passthrough of [false, true]) {
        const options = { issuer: 'http://127.0.0.1:9', audience: AUDIENCE, log: silent, passthrough };
        const reply = await (await appOf(make, { options })).send('/nobody', { token: access_token });
        assert.deepEqual([reply.status, reply.json.error], [503, 'temporarily_unavailable']);
        assert.match(String(reply.headers['retry-after']), /^\d+$/);
        assert.equal(reply.headers['www-authenticate'], undefined);
      }
    });
  });
}

test('an option that nobody knows is refused', () => {
  assert.throws(
    () => session({ guard, credentialsRequired: false } as unknown as SessionOptions),
    /credentialsRequired/,
  );
});
