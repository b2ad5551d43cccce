// Checked by the compiler only.

import express from 'express';
import {
  auth,
  refusalHandler,
  requireAcr,
  requireMaxAge,
  requireScope,
  session,
  type Auth,
  type RegisteredClaims,
} from '../src/index.js';

interface Claims {
  name: string;
}

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const is = <_T extends true>() => {};

const options = { issuer: 'https://auth.example', audience: 'https://notes.example' };
const guarded = session<Claims>(options);

const app = express();
app.use(guarded.unless({ path: ['/public', { url: /^\/assets\//, methods: ['GET'] }] }));
app.use(guarded);
app.get('/', requireScope('notes:read'), requireAcr('aal2'), requireMaxAge(300), async (req, res) => {
  const { user, session } = auth<Claims>(req);
  is<Equal<typeof user, Claims & RegisteredClaims>>();
  // @ts-expect-error no such claim
  user.phone;
  res.json(await session.reseal());
});
app.use(refusalHandler());

// The application declares what it has on a request, with its own claims.
declare module 'express-serve-static-core' {
  interface Request {
    auth?: Auth<Claims>;
  }
}
app.get('/', (req, res) => {
  res.json(req.auth?.user.name);
});

session<Claims>({ ...options, isRevoked: async (req, { name, jti }, token) => req.path === name + jti + token });
// @ts-expect-error a promise of a token would be taken for one
session({ ...options, getToken: async () => 'token' });
// @ts-expect-error of Koa only
session({ ...options, tokenKey: 'token' });
