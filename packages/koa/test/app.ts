// A Koa application with routes that do everything that a handler can do to an answer, in front of the real authority.

import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { after, before } from 'node:test';
import Koa from 'koa';
import Koa2 from 'koa2';
import { Guard, session, type SessionOptions } from '../src/index.js';
import { AUDIENCE, serve, startAuthority, type Authority, type Reply, type Service } from '../../tools/authority.js';

/** Both major versions. */
export const VERSIONS: [string, typeof Koa][] = [
  ['Koa 3', Koa],
  ['Koa 2', Koa2],
];

/** Half of the life of a token of the policy `web`, and a little more. */
export const PAST_HALF = 11 * 60;

/** What the tests of a file share: set before the first of them runs. */
export let authority: Authority;
export let clients: Record<'web' | 'app' | 'browser', string>;
export let sub: string;
export let guard: Guard;

/** Closed after the tests. */
export const opened: { close(): Promise<void> }[] = [];

before(async () => {
  authority = await startAuthority();
  clients = {
    web: await authority.client('web'),
    app: await authority.client('app'),
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

export const silent = { warn() {}, info() {} };

/** The settings of a guard that follows this authority's feed and clock. */
export const settings = () => ({
  issuer: authority.issuer,
  audience: AUDIENCE,
  client: authority.service,
  now: authority.now,
  log: silent,
});

/** Made once, thrown for everybody. */
const shared = Object.assign(new Error('shared'), { status: 418, expose: true });

const frozen = Object.freeze(new Error('frozen'));

/** Everything that a handler can do to an answer. */
async function routes(ctx: Koa.Context, next: Koa.Next) {
  switch (ctx.path) {
    case '/me':
      ctx.body = { name: ctx.state.user.name, acr: ctx.state.session.acr, id: ctx.state.session.id };
      return;
    case '/headers':
      ctx.set({ 'Cache-Control': 'public, max-age=60', Vary: 'Origin', 'Access-Control-Expose-Headers': 'ETag' });
      ctx.cookies.set('mine', '1');
      ctx.body = 'there';
      return;
    case '/throw':
      throw new Error('boom');
    case '/shared':
      throw shared;
    case '/frozen':
      throw frozen;
    case '/no-error':
      throw 'not an Error';
    case '/error-headers':
      throw Object.assign(new Error('teapot'), { status: 418, headers: { 'X-Mine': '1', Vary: 'Origin' } });
    case '/no-file':
      ctx.body = createReadStream('/no/such/file');
      return;
    case '/stream':
      ctx.body = Readable.from(['a', 'b']);
      return;
    case '/raw':
      ctx.respond = false;
      ctx.res.writeHead(203, { 'Cache-Control': 'public', 'X-Mine': '1' }).end('raw');
      return;
    case '/empty':
      ctx.status = 204;
      return;
    case '/sign-out':
      ctx.cookies.set('jwt', null);
      ctx.body = 'gone';
      return;
    case '/rename': {
      await authority.admin('PATCH', `/users/${ctx.state.user.sub}`, { name: ctx.query.name });
      if (ctx.query.own) ctx.state.user = { sub: ctx.state.user.sub, name: 'of the handler' };
      const claims = await ctx.state.session.reseal();
      ctx.body = { claims: claims?.name ?? null, user: ctx.state.user.name };
      if (ctx.query.fail) throw new Error('after the change');
      return;
    }
    default:
      return next();
  }
}

/** An application with these routes behind `session()`. */
export async function appOf(
  App: typeof Koa,
  options: Partial<SessionOptions> = {},
  arrange?: (app: Koa) => void,
): Promise<Service> {
  const app = new App();
  app.silent = true;
  arrange?.(app);
  const shared = 'issuer' in options || 'secret' in options || 'client' in options ? {} : { guard };
  const middleware = session({ ...shared, ...options });
  app.use(middleware);
  app.use(routes);
  const service = await serve(app.callback());
  opened.push({
    async close() {
      await service.close();
      if (middleware.guard !== guard) await middleware.close();
    },
  });
  return service;
}

export const renewedOf = (reply: Reply) => reply.headers['renewed-access-token'] as string | undefined;
