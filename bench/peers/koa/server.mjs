// One of the servers under measurement: `bare`, `koa-jwt` or `reseal`. Its settings come as the first message; it tells its
// port, and the CPU time of its process whenever it is asked.

import { createSecretKey } from 'node:crypto';
import { once } from 'node:events';
import jsonwebtoken from 'jsonwebtoken';
import Koa from 'koa';
import koaJwt from 'koa-jwt';
import { session } from '../../../packages/koa/dist/index.js';

const [settings] = await once(process, 'message');
const app = new Koa();
await { bare, 'koa-jwt': byHand, reseal }[process.argv[2]]();
app.use((ctx) => {
  ctx.body = { name: ctx.state.user.name, at: ctx.path };
});
const server = app.listen(0, '127.0.0.1', () => {
  process.on('message', () => process.send(process.cpuUsage()));
  process.send({ port: server.address().port });
});
process.on('disconnect', () => process.exit());

function bare() {
  app.use((ctx, next) => {
    ctx.state.user = { name: 'Ada' };
    return next();
  });
}

function byHand() {
  const secret = createSecretKey(Buffer.from(settings.secret));
  app.use(koaJwt({ secret, algorithms: ['HS256'] }));
  app.use((ctx, next) => {
    const { iat, exp, ...claims } = ctx.state.user;
    if (Date.now() / 1000 > (iat + exp) / 2) {
      ctx.set('Renewed-Access-Token', jsonwebtoken.sign(claims, secret, { expiresIn: '20m' }));
      ctx.set('Access-Control-Expose-Headers', 'Renewed-Access-Token');
    }
    return next();
  });
}

async function reseal() {
  const { issuer, audience, client, ahead } = settings;
  const middleware = session({ issuer, audience, client, now: () => Date.now() + ahead * 1000 });
  await middleware.ready();
  app.use(middleware);
}
