// One table of requests through koa-jwt and through ours, with the same options. What differs on purpose stands in the
// table, and in the README.

import assert from 'node:assert/strict';
import { createHmac, createSecretKey, createSign, generateKeyPairSync } from 'node:crypto';
import { after, describe, test } from 'node:test';
import Koa from 'koa';
import Koa2 from 'koa2';
import koaJwt from 'koa-jwt';
import { session, type SessionOptions } from '../src/index.js';
import { serve } from '../../tools/authority.js';

const SECRET = 'a shared secret of 32 bytes or so';
const now = Math.floor(Date.now() / 1000);
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const publicPem = rsa.publicKey.export({ type: 'spki', format: 'pem' }) as string;

const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

function hs(claims: object, { secret = SECRET, alg = 'HS256', ...header }: Record<string, string> = {}) {
  const text = `${part({ alg, typ: 'JWT', ...header })}.${part(claims)}`;
  const hash = alg === 'HS512' ? 'sha512' : 'sha256';
  return `${text}.${createHmac(hash, secret).update(text).digest('base64url')}`;
}

function rs(claims: object) {
  const text = `${part({ alg: 'RS256', typ: 'JWT' })}.${part(claims)}`;
  return `${text}.${createSign('sha256').update(text).sign(rsa.privateKey, 'base64url')}`;
}

const ada = { sub: 'ada', iat: now - 10, exp: now + 600, nested: { a: [1] } };
const good = hs(ada);
const none = `${part({ alg: 'none' })}.${part(ada)}.`;

interface Case {
  name: string;
  options?: Record<string, unknown>;
  token?: string;
  headers?: Record<string, string>;
  path?: string;
  method?: string;
  /** In `ctx.state` before. */
  state?: Record<string, unknown>;
  unless?: never;
  /** Status of koa-jwt; checked, so that the table does not lie. */
  status: number;
  /** Status of ours where it is another one on purpose. */
  ours?: number;
  /** Name of our `originalError`, where it is another one. */
  original?: string;
}

const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });

const CASES: Case[] = [
  { name: 'no token', status: 401 },
  { name: 'a good one', token: good, status: 200 },
  { name: 'scheme in small letters', headers: { authorization: `bearer ${good}` }, status: 200 },
  { name: 'another secret', token: hs(ada, { secret: 'other' }), status: 401 },
  { name: 'expired', token: hs({ ...ada, exp: now - 1 }), status: 401 },
  {
    name: 'expired within the tolerance',
    options: { clockTolerance: 30 },
    token: hs({ ...ada, exp: now - 5 }),
    status: 200,
  },
  {
    name: 'expired beyond the tolerance',
    options: { clockTolerance: 30 },
    token: hs({ ...ada, exp: now - 60 }),
    status: 401,
  },
  { name: 'not yet', token: hs({ ...ada, nbf: now + 60 }), status: 401 },
  { name: 'without an end', token: hs({ sub: 'ada' }), status: 200 },
  { name: 'no signature', token: none, status: 401 },
  { name: 'garbage', token: 'garbage', status: 401 },
  { name: 'two parts', token: 'a.b', status: 401 },
  { name: 'a changed claim', token: good.replace(/\.[^.]+\./, `.${part({ ...ada, sub: 'eve' })}.`), status: 401 },
  { name: 'HS512 by default', token: hs(ada, { alg: 'HS512' }), status: 200 },
  {
    name: 'HS512 where HS256 is asked for',
    options: { algorithms: ['HS256'] },
    token: hs(ada, { alg: 'HS512' }),
    status: 401,
  },
  { name: 'another scheme', headers: { Authorization: 'Basic YTpi' }, status: 401 },
  { name: 'a scheme alone', headers: { Authorization: 'Bearer' }, status: 401, ours: 400 },
  { name: 'two tokens', headers: { Authorization: `Bearer ${good} ${good}` }, status: 401, ours: 400 },
  { name: 'its issuer', options: { issuer: 'us' }, token: hs({ ...ada, iss: 'us' }), status: 200 },
  { name: 'another issuer', options: { issuer: 'us' }, token: hs({ ...ada, iss: 'them' }), status: 401 },
  { name: 'no issuer', options: { issuer: 'us' }, token: good, status: 401 },
  { name: 'its audience', options: { audience: 'api' }, token: hs({ ...ada, aud: ['x', 'api'] }), status: 200 },
  { name: 'one of our names', options: { audience: ['api', 'b'] }, token: hs({ ...ada, aud: 'b' }), status: 200 },
  { name: 'another audience', options: { audience: 'api' }, token: hs({ ...ada, aud: 'x' }), status: 401 },
  { name: 'no audience', options: { audience: 'api' }, token: good, status: 401 },
  { name: 'a KeyObject', options: { secret: createSecretKey(Buffer.from(SECRET)) }, token: good, status: 200 },
  { name: 'a Buffer', options: { secret: Buffer.from(SECRET) }, token: good, status: 200 },
  { name: 'the second of two secrets', options: { secret: ['older', SECRET] }, token: good, status: 200 },
  { name: 'none of two secrets', options: { secret: ['older', 'old'] }, token: good, status: 401 },
  { name: 'a function', options: { secret: async () => SECRET }, token: good, status: 200 },
  {
    name: 'a function that looks at header and payload',
    options: {
      secret: async (header: { kid: string }, payload: { sub: string }) =>
        header.kid === 'k1' && payload.sub === 'ada' ? [SECRET] : 'other',
    },
    token: hs(ada, { kid: 'k1' }),
    status: 200,
  },
  {
    name: 'a function with garbage',
    options: { secret: async () => SECRET },
    token: 'garbage',
    status: 401,
    original: 'JsonWebTokenError',
  },
  {
    name: 'a function that fails',
    options: { secret: () => Promise.reject(new RangeError('no such key')) },
    token: good,
    status: 401,
  },
  { name: 'a public key', options: { secret: publicPem }, token: rs(ada), status: 200 },
  { name: 'a public key object', options: { secret: rsa.publicKey }, token: rs(ada), status: 200 },
  {
    name: 'a public key as a shared secret',
    options: { secret: publicPem },
    token: hs(ada, { secret: publicPem }),
    status: 401,
  },
  { name: 'a secret in the state', options: { secret: 'other' }, state: { secret: SECRET }, token: good, status: 200 },
  { name: 'key', options: { key: 'jwt' }, token: good, status: 200 },
  { name: 'tokenKey', options: { tokenKey: 'text' }, token: good, status: 200 },
  {
    name: 'getToken',
    options: { getToken: (ctx: Koa.Context) => ctx.query.token },
    path: `/?token=${good}`,
    status: 200,
  },
  { name: 'getToken goes first', options: { getToken: () => good }, headers: bearer('garbage'), status: 200 },
  { name: 'getToken that finds nothing', options: { getToken: () => null }, token: good, status: 200 },
  { name: 'cookie', options: { cookie: 'jwt' }, headers: { cookie: `a=b; jwt=${good}` }, status: 200 },
  {
    name: 'cookie before header',
    options: { cookie: 'jwt' },
    headers: { cookie: `jwt=${good}`, ...bearer('x') },
    status: 200,
  },
  {
    name: 'a bad cookie and a good header',
    options: { cookie: 'jwt' },
    headers: { cookie: 'jwt=x', ...bearer(good) },
    status: 401,
  },
  {
    name: 'no such cookie, a good header',
    options: { cookie: 'jwt' },
    headers: { cookie: 'a=b', ...bearer(good) },
    status: 200,
  },
  { name: 'passthrough, no token', options: { passthrough: true }, status: 200 },
  { name: 'passthrough, a bad one', options: { passthrough: true }, token: 'garbage', status: 200 },
  {
    name: 'passthrough, unreadable',
    options: { passthrough: true },
    headers: { Authorization: 'Bearer' },
    status: 200,
  },
  { name: 'passthrough, a good one', options: { passthrough: true }, token: good, status: 200 },
  { name: 'revoked', options: { isRevoked: async () => true }, token: good, status: 401 },
  { name: 'not revoked', options: { isRevoked: async () => false }, token: good, status: 200 },
  {
    name: 'revoked, by what is asked',
    options: {
      isRevoked: async (ctx: Koa.Context, claims: { sub: string }, token: string) =>
        ctx.path === '/x' && claims.sub === 'ada' && token === good,
    },
    token: good,
    path: '/x',
    status: 401,
  },
  {
    name: 'revoked, passthrough',
    options: { isRevoked: async () => true, passthrough: true },
    token: good,
    status: 200,
  },
  {
    name: 'the list of the revoked is away',
    options: { isRevoked: () => Promise.reject(new Error('away')) },
    token: good,
    status: 401,
    ours: 503,
  },
];

const UNLESS: { name: string; unless: object; path?: string; method?: string; status: number }[] = [
  { name: 'path', unless: { path: '/public' }, path: '/public?x=1', status: 200 },
  { name: 'another path', unless: { path: '/public' }, path: '/public/x', status: 401 },
  { name: 'patterns', unless: { path: ['/a', /^\/public/] }, path: '/public/x', status: 200 },
  { name: 'ext', unless: { ext: ['.css'] }, path: '/x.css', status: 200 },
  { name: 'method', unless: { method: ['OPTIONS'] }, method: 'OPTIONS', status: 200 },
  { name: 'another method', unless: { method: 'OPTIONS' }, method: 'POST', status: 401 },
  { name: 'custom', unless: { custom: (ctx: Koa.Context) => ctx.path === '/x' }, path: '/x', status: 200 },
  { name: 'a function', unless: (ctx: Koa.Context) => ctx.path === '/x', path: '/y', status: 401 },
  {
    name: 'useOriginalUrl: false',
    unless: { path: '/rewritten', useOriginalUrl: false },
    path: '/rewrite',
    status: 200,
  },
  { name: 'the original URL', unless: { path: '/rewritten' }, path: '/rewrite', status: 401 },
];

interface Seen {
  status: number;
  wentOn: boolean;
  state: Record<string, unknown>;
  error?: { status: number; expose: boolean; originalError?: Error };
}

type Make = typeof koaJwt;

async function through(
  app: Koa,
  make: Make,
  { options, unless, ...asked }: Omit<Case, 'name' | 'status'>,
): Promise<Seen> {
  const seen: Seen = { status: 0, wentOn: false, state: {} };
  app.silent = true;
  app.use(async (ctx, next) => {
    Object.assign(ctx.state, asked.state);
    if (ctx.path === '/rewrite') ctx.path = '/rewritten';
    try {
      await next();
    } catch (error) {
      seen.error = error as NonNullable<Seen['error']>;
      throw error;
    }
  });
  const middleware = make({ secret: SECRET, ...options } as never);
  app.use(unless === undefined ? middleware : middleware.unless(unless));
  app.use((ctx) => {
    seen.wentOn = true;
    seen.state = { ...ctx.state };
    ctx.body = 'there';
  });
  const service = await serve(app.callback());
  try {
    seen.status = (await service.send(asked.path ?? '/', asked)).status;
  } finally {
    await service.close();
  }
  return seen;
}

/** Handlers go by it. One of its names is only for tokens that are not good yet: with us they are not good. */
const nameOf = ({ error }: Seen) => error?.originalError?.name.replace('NotBeforeError', 'JsonWebTokenError');

const made: { close(): Promise<void> }[] = [];
const ours: Make = ((options: SessionOptions) => {
  const middleware = session(options);
  made.push(middleware);
  return middleware;
}) as unknown as Make;
after(() => Promise.all(made.map((one) => one.close())));

for (const [name, App] of [
  ['Koa 3', Koa],
  ['Koa 2', Koa2],
] as [string, typeof Koa][]) {
  describe(name, () => {
    const table = [...CASES, ...UNLESS.map((one) => ({ ...one, name: `unless ${one.name}` }))] as Case[];
    for (const { name, ...one } of table) {
      test(name, async () => {
        const theirs = await through(new App(), koaJwt, one);
        assert.equal(theirs.status, one.status, 'koa-jwt');
        const mine = await through(new App(), ours, one);
        assert.equal(mine.status, one.ours ?? one.status);
        assert.equal(mine.wentOn, theirs.wentOn);

        // What handlers look at. Ours has `session` besides, and the reason is a refusal.
        const { session: added, jwtOriginalError: why, ...state } = mine.state;
        const { jwtOriginalError: theirWhy, ...theirState } = theirs.state;
        assert.deepEqual(state, theirState);
        assert.equal(why instanceof Error, theirWhy instanceof Error);
        assert.equal(added !== undefined, theirs.state[(one.options?.key as string) ?? 'user'] !== undefined);

        // What error handlers look at.
        assert.equal(mine.error?.status, one.ours ?? theirs.error?.status);
        assert.equal(mine.error?.expose, theirs.error && true);
        if (one.ours === undefined) assert.equal(nameOf(mine), one.original ?? nameOf(theirs));
      });
    }
  });
}
