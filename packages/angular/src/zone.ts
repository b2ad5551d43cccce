import type { NgZone } from '@angular/core';
import type { Session } from '@reseal/browser';

/**
 * For apps with zone.js: the session's timers are none of Angular's (an app with a renewal ahead would never be stable),
 * and its listeners run where Angular looks for changes. Without zone.js it is the session as it is.
 */
export function outsideZone<User extends object>(session: Session<User>, zone: NgZone): Session<User> {
  const outside =
    <A extends unknown[], R>(call: (...args: A) => R) =>
    (...args: A): R =>
      zone.runOutsideAngular(() => call(...args));
  return {
    ready: session.ready,
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
    login: outside((credentials) => session.login(credentials)),
    secondFactor: outside((step) => session.secondFactor(step)),
    resendCode: outside((challenge) => session.resendCode(challenge)),
    token: outside(() => session.token()),
    fetch: outside((input, init) => session.fetch(input, init)),
    call: <T>(method: string, path: string, body?: unknown) =>
      zone.runOutsideAngular(() => session.call<T>(method, path, body)),
    renew: outside(() => session.renew()),
    sessions: {
      list: outside(() => session.sessions.list()),
      end: outside((id) => session.sessions.end(id)),
      endOthers: outside(() => session.sessions.endOthers()),
    },
    signOut: outside((options) => session.signOut(options)),
    on: (event, listener) =>
      zone.runOutsideAngular(() => session.on(event, (detail) => zone.run(() => listener(detail)))),
    dispose: () => session.dispose(),
    prepare: outside((url) => session.prepare(url)),
    settle: outside((sent, answer, retried) => session.settle(sent, answer, retried)),
  };
}
