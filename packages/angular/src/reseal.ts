import { assertInInjectionContext, computed, inject, InjectionToken, signal, type Signal } from '@angular/core';
import type { Claims, Session, SessionInfo } from '@reseal/browser';

/** The session of this page, and what of it a template may want to show. */
export interface Reseal<User extends object = Claims> {
  readonly session: Session<User>;
  /** Whether the storage was read (cookie: the authority has answered); never on a server. Until then `user` says nothing. */
  readonly ready: Signal<boolean>;
  /** The claims of the newest access token (cookie: the record of `GET /v1/me`), null when signed out. For display only. */
  readonly user: Signal<User | null>;
  readonly signedIn: Signal<boolean>;
  /** What the authority told of the session. */
  readonly info: Signal<SessionInfo | null>;
  /** When the user is signed out unless something renews: Unix seconds by the authority's clock. */
  readonly expiresAt: Signal<number | null>;
  /** Why the last session ended: the authority's `reason`, or `signed_out`. null from the next login on. */
  readonly endedBecause: Signal<string | null>;
  /**
   * The user once it is sure that he is signed in (a token that has expired is renewed), null when he is not. An authority
   * that is away signs nobody out: who was signed in, stays.
   */
  confirm(): Promise<User | null>;
}

/** Where `provideReseal` puts it. */
export const RESEAL = new InjectionToken<Reseal<object>>('reseal');

/** What `provideReseal` has provided; in an injection context. */
export function injectReseal<User extends object = Claims>(): Reseal<User> {
  assertInInjectionContext(injectReseal);
  const reseal = inject(RESEAL, { optional: true });
  if (!reseal)
    throw new Error('reseal: no session. Add provideReseal({ api, clientId, mode }) to the providers of the app');
  return reseal as object as Reseal<User>;
}

/** Signals that follow a session. */
export function makeReseal<User extends object>(session: Session<User>, inBrowser: boolean): Reseal<User> {
  const ready = signal(false);
  const user = signal(session.user);
  const info = signal(session.info);
  const expiresAt = signal(session.expiresAt);
  const endedBecause = signal<string | null>(null);
  const update = () => {
    user.set(session.user);
    info.set(session.info);
    expiresAt.set(session.expiresAt);
  };
  if (inBrowser) {
    session.on('signedin', () => endedBecause.set(null));
    session.on('signedout', ({ reason }) => endedBecause.set(reason));
    for (const event of ['signedin', 'claims', 'renewed', 'expiring', 'signedout'] as const) session.on(event, update);
    void session.ready.then(() => {
      update();
      ready.set(true);
    });
  }
  return {
    session,
    ready: ready.asReadonly(),
    user: user.asReadonly(),
    signedIn: computed(() => user() !== null),
    info: info.asReadonly(),
    expiresAt: expiresAt.asReadonly(),
    endedBecause: endedBecause.asReadonly(),
    confirm: () => confirm(session),
  };
}

async function confirm<User extends object>(session: Session<User>): Promise<User | null> {
  await session.ready;
  if (session.user !== null) {
    try {
      await session.token();
    } catch {
      // Signed out: then there is no user any more. Otherwise the authority is away, or there are no tokens (mode cookie).
    }
  }
  return session.user;
}
