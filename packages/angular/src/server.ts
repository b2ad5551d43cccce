import { ResealError, type Session } from '@reseal/browser';

/** The session where there is no browser: nobody is signed in, and nothing is asked. */
export function sessionOfServer<User extends object>(): Session<User> {
  const away = () => Promise.reject(new ResealError('unavailable', 'There is no session on a server.'));
  return {
    ready: Promise.resolve(),
    user: null,
    info: null,
    expiresAt: null,
    now: () => Math.floor(Date.now() / 1000),
    login: away,
    secondFactor: away,
    resendCode: away,
    token: () => Promise.reject(new ResealError('signed_out', 'Nobody is signed in on a server.')),
    fetch: (input, init) => fetch(input, init),
    call: away,
    renew: away,
    sessions: { list: away, end: away, endOthers: away },
    signOut: away,
    on: () => () => {},
    dispose: () => {},
    prepare: () => Promise.resolve(null),
    settle: () => Promise.resolve(false),
  };
}
