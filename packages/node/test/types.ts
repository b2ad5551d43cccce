// Checked by the compiler only.

import { createServer } from 'node:http';
import {
  Guard,
  Refusal,
  type GuardOptions,
  type RegisteredClaims,
  type RequestSession,
  type StandardClaims,
} from '../src/index.js';

interface Claims {
  name: string;
  plan: 'free' | 'paid';
}

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const is = <_T extends true>() => {};

const options = { issuer: 'https://auth.example', audience: 'https://notes.example' };
const guard = new Guard<Claims>(options);

// A request of Node's is one that can be admitted.
createServer(async (request) => {
  const session = await guard.admit(request);
  is<Equal<typeof session, RequestSession<Claims> | null>>();
  // @ts-expect-error with `passthrough` there may be none
  session.claims;
  if (session === null) return;
  is<Equal<typeof session.claims, Claims & RegisteredClaims>>();
  const plan: 'free' | 'paid' = session.claims.plan;
  const at: number | undefined = session.claims.exp;
  is<Equal<Awaited<ReturnType<typeof session.reseal>>, (Claims & RegisteredClaims) | null>>();
  // @ts-expect-error no such claim
  session.claims.phone_number;
  // @ts-expect-error what the token says is not the handler's to change
  session.token = '';
  // @ts-expect-error seconds
  session.requireMaxAge('5m');
  void [plan, at];
});

is<Equal<ConstructorParameters<typeof Guard<Claims>>, [options: GuardOptions<Claims>]>>();

// Without a type of one's own: the standard claims.
const standard = await new Guard(options).admit({ headers: {} });
is<Equal<typeof standard, RequestSession<StandardClaims> | null>>();

new Guard<Claims>({
  secret: async (header, payload) => {
    const kid: unknown = header['kid'];
    // @ts-expect-error what a header says is not known before it was verified
    const text: string = header['kid'];
    void [kid, text];
    return payload.plan === 'paid' ? 'a' : ['a', Buffer.from('b')];
  },
});
// @ts-expect-error one of three words
new Guard({ ...options, onFeedLost: 'ignore' });
// @ts-expect-error an unknown setting
new Guard({ ...options, algorithm: 'ES256' });
// @ts-expect-error a client has a secret
new Guard({ ...options, client: { id: 'a' } });

const error: unknown = null;
if (error instanceof Refusal) {
  const status: 400 | 401 | 403 | 503 = error.status;
  const headers: Record<string, string> = error.headers;
  const reason: string | undefined = error.body.reason;
  void [status, headers, reason];
}
