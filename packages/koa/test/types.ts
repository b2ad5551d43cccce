// Checked by the compiler only.

import Koa from 'koa';
import {
  requireScope,
  session,
  type PassthroughState,
  type RegisteredClaims,
  type RequestSession,
  type SessionState,
} from '../src/index.js';

interface Claims {
  name: string;
  roles: string[];
}

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const is = <_T extends true>() => {};

const options = { issuer: 'https://auth.example', audience: 'https://notes.example' };

// The state is declared with the application.
const app = new Koa<SessionState<Claims>>();
app.use(session<Claims>(options));
app.use(session<Claims>(options).unless({ path: ['/public', /^\/assets\//], method: 'OPTIONS' }));
app.use(requireScope('notes:read'));
app.use(async (ctx) => {
  is<Equal<typeof ctx.state.user, Claims & RegisteredClaims>>();
  is<Equal<typeof ctx.state.session, RequestSession<Claims>>>();
  const name: string = ctx.state.user.name;
  const fresh: Claims | null = await ctx.state.session.reseal();
  ctx.state.session.requireAcr('aal2');
  // @ts-expect-error no such claim
  ctx.state.user.phone;
  // @ts-expect-error what the token says is not the handler's to change
  ctx.state.session.claims = fresh;
  ctx.body = { name };
});

// Or it grows with the middleware.
new Koa<object>().use(session<Claims>(options)).use((ctx) => {
  is<Equal<typeof ctx.state.user.roles, string[]>>();
});

// Nothing is typed: nothing is in the way.
new Koa().use(session(options)).use((ctx) => {
  ctx.state.anything = ctx.state.user;
});

// With `passthrough` there may be nobody.
const open = new Koa<PassthroughState<Claims>>();
open.use(session<Claims>({ ...options, passthrough: true }));
open.use((ctx) => {
  // @ts-expect-error there may be nobody
  ctx.state.user.name;
  const name: string | undefined = ctx.state.user?.name;
  const why: string | undefined = ctx.state.jwtOriginalError?.code;
  ctx.body = { name, why };
});

session<Claims>({
  ...options,
  key: 'jwt',
  isRevoked: async (ctx, { name, sub, jti }, token) => ctx.path === name + sub + jti + token,
  getToken: (ctx) => ctx.get('X-Token') || null,
});
// @ts-expect-error a promise of a token would be taken for one
session({ ...options, getToken: async () => 'token' });
// @ts-expect-error there are two words
session({ ...options, onStale: 'accept' });
// @ts-expect-error
session({ ...options, audience: 1 });
