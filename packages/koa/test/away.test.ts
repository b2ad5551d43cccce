// The authority goes away, and comes back.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import Koa from 'koa';
import { session } from '../src/index.js';
import { AUDIENCE, eventually, serve, startAuthority } from '../../tools/authority.js';

const cleanUp: (() => Promise<void>)[] = [];
after(async () => {
  for (const step of cleanUp.reverse()) await step();
});

test('good tokens go on, what needs the authority is 503, and nobody is signed out', async () => {
  const first = await startAuthority();
  cleanUp.push(() => first.stop());
  let later = 0;
  const guard = session({
    issuer: first.issuer,
    audience: AUDIENCE,
    client: first.service,
    now: () => Date.now() + later,
    log: { warn() {} },
  });
  cleanUp.push(() => guard.close());
  await guard.ready();
  const app = new Koa();
  app.silent = true;
  app.use(guard);
  app.use(async (ctx) => {
    if (ctx.path === '/reseal') await ctx.state.session.reseal();
    ctx.body = { name: ctx.state.user.name };
  });
  const service = await serve(app.callback());
  cleanUp.push(() => service.close());

  const client = await first.client('web');
  const { access_token: token } = await first.login(client, await first.user('ada'));
  // One that was not seen before is as good: the keys are there.
  await first.kill();
  assert.deepEqual((await service.send('/', { token })).json, { name: 'ada' });

  // Its half is over by our clock, and nobody is there to renew it.
  later = 11 * 60_000;
  const due = await service.send('/', { token });
  assert.deepEqual([due.status, due.headers['renewed-access-token']], [200, undefined]);
  const resealed = await service.send('/reseal', { token });
  assert.deepEqual([resealed.status, resealed.json.error], [503, 'temporarily_unavailable']);

  const again = await startAuthority(first);
  cleanUp.push(() => again.kill());
  await again.advance(11 * 60);
  await eventually('it is renewed', async () => {
    const reply = await service.send('/', { token });
    assert.equal(reply.status, 200);
    return reply.headers['renewed-access-token'] !== undefined;
  });

  await guard.close();
  assert.equal((await service.send('/', { token })).status, 503);
});
