// Newer tokens on their way back: real Koa applications, both major versions, in front of the real authority.

import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { requireAcr, session } from '../src/index.js';
import { appOf, authority, clients, guard, opened, PAST_HALF, renewedOf, settings, sub, VERSIONS } from './app.js';
import { eventually, serve, type Reply, type Service } from '../../tools/authority.js';

for (const [name, App] of VERSIONS) {
  describe(name, () => {
    let service: Service;
    before(async () => {
      service = await appOf(App);
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
        ['/shared', 418],
        ['/no-error', 500],
        ['/error-headers', 418],
        // Koa 3 gives no answer to a stream that fails: it closes the connection.
        ...(name === 'Koa 2' ? [['/no-file', 404] as [string, number]] : []),
        ['/stream', 200],
        ['/raw', 203],
        ['/empty', 204],
      ];
      for (const [path, status] of answers) {
        test(`${path} carries the newer token`, async () => {
          const reply = await service.send(path, { token: old });
          assert.equal(reply.status, status);
          assert.match(renewedOf(reply) ?? '', /^[\w-]+\.[\w-]+\.[\w-]+$/);
          assert.equal(reply.headers['cache-control'], 'no-store');
          assert.match(String(reply.headers['access-control-expose-headers']), /(^|, )Renewed-Access-Token$/);
          if (path === '/headers') {
            assert.equal(reply.headers['access-control-expose-headers'], 'ETag, Renewed-Access-Token');
            assert.match(String(reply.headers['set-cookie']), /^mine=1/);
            assert.match(String(reply.headers.vary), /Origin/);
          }
          if (path === '/error-headers' || path === '/raw') assert.equal(reply.headers['x-mine'], '1');
          assert.equal((await service.send('/me', { token: renewedOf(reply) as string })).status, 200);
        });
      }

      test('an error that is thrown again and again takes no token along', async () => {
        await service.send('/shared', { token: old });
        const { access_token } = await authority.login(clients.web, sub);
        const reply = await service.send('/shared', { token: access_token });
        assert.equal(renewedOf(reply), undefined);
      });

      test('a frozen error arrives as it is; Koa itself cannot answer one', async () => {
        let seen: unknown;
        const handled = await appOf(App, {}, (app) =>
          app.use(async (ctx, next) => {
            try {
              await next();
            } catch (error) {
              seen = error;
              ctx.status = 500;
              ctx.body = 'handled';
            }
          }),
        );
        const reply = await handled.send('/frozen', { token: old });
        assert.deepEqual([reply.status, reply.text], [500, 'handled']);
        assert.ok(renewedOf(reply));
        assert.ok(Object.isFrozen(seen));
      });

      test('a refusal behind it carries it, too', async () => {
        const app = new App();
        app.silent = true;
        app.use(session({ guard }));
        app.use(requireAcr('aal2'));
        const refusing = await serve(app.callback());
        opened.push(refusing);
        const reply = await refusing.send('/', { token: old });
        assert.equal(reply.json.error, 'insufficient_user_authentication');
        assert.ok(renewedOf(reply));
      });

      test('fifty at once get the same newer token', async () => {
        const { access_token } = await authority.login(clients.web, sub);
        await authority.advance(PAST_HALF);
        const replies = await Promise.all(
          Array.from({ length: 50 }, () => service.send('/me', { token: access_token })),
        );
        assert.deepEqual(new Set(replies.map((reply) => reply.status)), new Set([200]));
        // A second signature of the same would be another text.
        assert.equal(new Set(replies.map(renewedOf)).size, 1);
        assert.ok(renewedOf(replies[0] as Reply));
      });

      test('sliding: false leaves it to the client', async () => {
        const still = await appOf(App, { ...settings(), sliding: false });
        const { access_token } = await authority.login(clients.web, sub);
        await authority.advance(PAST_HALF);
        assert.equal(renewedOf(await still.send('/me', { token: access_token })), undefined);
      });

      test("a token in the application's own cookie is renewed there, where scripts cannot read it", async () => {
        const cookies = await appOf(App, { cookie: 'jwt', cookieOptions: { path: '/api' } });
        const { access_token } = await authority.login(clients.web, sub);
        await authority.advance(PAST_HALF);
        for (const path of ['/me', '/throw']) {
          const reply = await cookies.send(path, { headers: { cookie: `jwt=${access_token}` } });
          assert.equal(renewedOf(reply), undefined);
          assert.match(
            String(reply.headers['set-cookie']),
            /^jwt=[\w-]+\.[\w-]+\.[\w-]+; path=\/api; samesite=lax; httponly$/i,
          );
          assert.equal(reply.headers['cache-control'], 'no-store');
        }
      });

      test("a handler's own word on that cookie is the last: a sign-out is not taken back", async () => {
        const cookies = await appOf(App, { cookie: 'jwt' });
        const { access_token } = await authority.login(clients.web, sub);
        await authority.advance(PAST_HALF);
        const reply = await cookies.send('/sign-out', { headers: { cookie: `jwt=${access_token}` } });
        assert.deepEqual(
          [reply.headers['set-cookie']?.map((cookie) => cookie.split(';')[0]), renewedOf(reply)],
          [['jwt='], undefined],
        );
        assert.equal(reply.headers['cache-control'], 'no-store');
      });

      test('a cookie that cannot be set spoils no answer, and is told', async () => {
        const told: unknown[] = [];
        const cookies = await appOf(App, { cookie: 'jwt', cookieOptions: { secure: true } }, (app) =>
          app.on('error', (error: Error) => told.push(error.message)),
        );
        const { access_token } = await authority.login(clients.web, sub);
        await authority.advance(PAST_HALF);
        for (const path of ['/me', '/stream', '/empty']) {
          const reply = await cookies.send(path, { headers: { cookie: `jwt=${access_token}` } });
          assert.deepEqual([reply.status, renewedOf(reply)], [path === '/empty' ? 204 : 200, undefined]);
          assert.match(String(told.pop()), /secure cookie/);
        }
      });

      test('a list of revoked tokens is asked about the one that was sent', async () => {
        const { access_token } = await authority.login(clients.web, sub);
        await authority.advance(PAST_HALF);
        const asked: string[] = [];
        const listed = await appOf(App, {
          isRevoked: async (_ctx, { jti }, token) => {
            asked.push(token);
            return typeof jti === 'string';
          },
        });
        const reply = await listed.send('/me', { token: access_token });
        assert.deepEqual([reply.status, reply.json.reason, renewedOf(reply)], [401, 'revoked', undefined]);
        assert.deepEqual(asked, [access_token]);
      });
    });

    describe('changed claims', () => {
      test('the new name is seen at the next request, and sent back', async () => {
        const user = await authority.user(`changes-${name}`);
        const { access_token } = await authority.login(clients.web, user);
        await authority.admin('PATCH', `/users/${user}`, { name: 'Augusta' });
        let reply: Reply | undefined;
        await eventually('the new name', async () => {
          reply = await service.send('/me', { token: access_token });
          return reply.json.name === 'Augusta';
        });
        assert.ok(renewedOf(reply as Reply));
      });

      test('onStale: refuse is 401 claims_changed', async () => {
        const refusing = await appOf(App, { ...settings(), onStale: 'refuse' });
        const user = await authority.user(`refuses-${name}`);
        const { access_token } = await authority.login(clients.web, user);
        await authority.admin('PATCH', `/users/${user}`, { name: 'Augusta' });
        let reply: Reply | undefined;
        await eventually('refused', async () => {
          reply = await refusing.send('/me', { token: access_token });
          return reply.status === 401;
        });
        assert.equal(reply?.json.reason, 'claims_changed');
      });

      for (const client of ['web', 'app'] as const) {
        test(`reseal() in the handler that changed them (${client}), in a failing one, too`, async () => {
          const user = await authority.user(`reseals-${client}-${name}`);
          const { access_token } = await authority.login(clients[client], user);
          const reply = await service.send('/rename?name=Grace', { token: access_token });
          assert.deepEqual(reply.json, { claims: 'Grace', user: 'Grace' });
          const renewed = renewedOf(reply) as string;
          const own = await service.send('/rename?name=Ada&own=1', { token: renewed });
          assert.deepEqual(own.json, { claims: 'Ada', user: 'of the handler' });
          // The older one is as good: it is renewed on the way.
          assert.equal((await service.send('/me', { token: renewed })).json.name, 'Ada');
          const failed = await service.send('/rename?name=Hopper&fail=1', { token: renewed });
          assert.equal(failed.status, 500);
          assert.equal((await service.send('/me', { token: renewedOf(failed) as string })).json.name, 'Hopper');
        });
      }
    });
  });
}
