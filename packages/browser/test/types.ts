// Checked by the compiler only.

import {
  type Claims,
  createSession,
  ResealError,
  type Session,
  type SessionInfo,
  type TokenStorage,
} from '../src/index.js';

interface User {
  sub: string;
  plan: 'free' | 'paid';
}

const session = createSession<User>({
  api: 'https://auth.example',
  clientId: 'app',
  mode: 'refresh',
  storage: 'local',
});
export const plan: 'free' | 'paid' | undefined = session.user?.plan;
export const anybody: Session<Claims> = createSession({ api: 'https://auth.example', clientId: 'app', mode: 'cookie' });
const own: TokenStorage = { get: async () => null, set: () => {} };
createSession({ api: '', clientId: '', mode: 'sliding', storage: own, locks: null, keepAlive: 'open', origins: [] });

session.on('claims', ({ user, previous }) => user.plan === previous.plan);
session.on('signedout', ({ reason }) => reason.length);
const off: () => void = session.on('expiring', ({ expiresAt }) => expiresAt + 1);
off();
const login = await session.login({ username: 'a', password: 'b' });
if (login.status === 'second_factor_required') login.factors[0]!.hint?.length;
else login.user.plan;
const answer: { user: User } = await session.call('GET', '/v1/me');
answer.user.plan;
const native: typeof fetch = session.fetch;
await native('/x');
const info: SessionInfo | null = session.info;
info?.idle_expires_at?.toFixed();
const error = new ResealError('unavailable');
error.retryAfter?.toFixed();

// @ts-expect-error there is no such mode
createSession({ api: '', clientId: '', mode: 'jwt' });
// @ts-expect-error the client must be named
createSession({ api: '', mode: 'fixed' });
// @ts-expect-error there is no such event
session.on('expired', () => {});
// @ts-expect-error a listener gets what the event tells
session.on('signedout', ({ user }) => user);
// @ts-expect-error nobody may be signed in
session.user.plan;
// @ts-expect-error it can be read only
session.expiresAt = 5;
// @ts-expect-error the user is known only once he is signed in
login.user.plan;
// @ts-expect-error a storage keeps text
createSession({ api: '', clientId: '', mode: 'fixed', storage: { get: () => 5, set: () => {} } });
