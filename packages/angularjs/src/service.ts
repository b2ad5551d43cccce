import { ResealError, type Events, type Session } from '@reseal/browser';
import type { IPromise, IQService, IRootScopeService } from 'angular';
import type { ResealService } from './types.js';

const EVENTS = ['signedin', 'claims', 'renewed', 'expiring', 'signedout'] as const;

/** The session as AngularJS likes it: promises of `$q`, listeners in a digest, events on `$rootScope`. */
export function makeService<User extends object>(
  session: Session<User>,
  $q: IQService,
  $rootScope: IRootScopeService,
): ResealService<User> {
  let whyEnded: string | undefined;
  session.on('signedout', ({ reason }) => (whyEnded = reason));

  const service: ResealService<User> = {
    ready: $q.when(session.ready),
    get user() {
      return session.user;
    },
    get info() {
      return session.info;
    },
    get expiresAt() {
      return session.expiresAt;
    },
    now: () => session.now(),
    login: (credentials) => $q.when(session.login(credentials)),
    secondFactor: (step) => $q.when(session.secondFactor(step)),
    resendCode: (challenge) => $q.when(session.resendCode(challenge)),
    token: () => $q.when(session.token()),
    fetch: (input, init) => $q.when(session.fetch(input, init)),
    call: <T>(method: string, path: string, body?: unknown): IPromise<T> =>
      $q.when(session.call<T>(method, path, body)),
    renew: () => $q.when(session.renew()),
    sessions: {
      list: () => $q.when(session.sessions.list()),
      end: (id) => $q.when(session.sessions.end(id)),
      endOthers: () => $q.when(session.sessions.endOthers()),
    },
    signOut: (options) => $q.when(session.signOut(options)),
    requireSignedIn: () => $q.when(requireSignedIn(session, () => whyEnded)),
    on: (event, listener) => session.on(event, (detail) => $rootScope.$applyAsync(() => listener(detail))),
    dispose: () => session.dispose(),
    session,
  };

  for (const event of EVENTS) {
    service.on(event, (detail: Events<User>[typeof event]) => $rootScope.$broadcast(`reseal:${event}`, detail));
  }
  $rootScope.$on('$destroy', () => session.dispose());
  return service;
}

async function requireSignedIn<User extends object>(
  session: Session<User>,
  whyEnded: () => string | undefined,
): Promise<User> {
  await session.ready;
  if (session.user !== null) {
    try {
      await session.token();
    } catch {
      // Signed out: then there is no user any more. Otherwise the authority is away, or there are no tokens (mode cookie).
    }
  }
  const { user } = session;
  if (user !== null) return user;
  const reason = whyEnded();
  throw new ResealError('signed_out', 'Nobody is signed in.', reason ? { reason } : {});
}
