import type {
  Claims,
  Credentials,
  Events,
  LoginResult,
  SecondFactor,
  Session,
  SessionInfo,
  SessionItem,
  SessionOptions,
} from '@reseal/browser';
import type { IPromise } from 'angular';

/** `resealProvider`, in a config block. */
export interface ResealProvider {
  /** What `createSession` of `@reseal/browser` takes; required, once. A function is called when the app starts. */
  configure(options: SessionOptions | (() => SessionOptions)): void;
}

/**
 * The service `reseal`: the session of this page. Its promises are those of `$q`, its listeners run in a digest, and
 * `user`, `info` and `expiresAt` may stand in a template as they are.
 */
export interface ResealService<User extends object = Claims> {
  /** Resolves when the storage was read (cookie: when the authority has answered); never rejects. */
  readonly ready: IPromise<void>;
  /** The claims of the newest access token (cookie: the record of `GET /v1/me`), null when signed out. For display only. */
  readonly user: User | null;
  /** What the authority told of the session. */
  readonly info: SessionInfo | null;
  /** When the user is signed out unless something renews: Unix seconds by the authority's clock. */
  readonly expiresAt: number | null;
  /** The authority's clock, Unix seconds. */
  now(): number;
  login(credentials: Credentials): IPromise<LoginResult<User>>;
  secondFactor(step: SecondFactor): IPromise<User>;
  resendCode(challenge?: string): IPromise<void>;
  /** A good access token; renews when needed. Rejects with `signed_out`, `unavailable`, or `no_token` (mode cookie). */
  token(): IPromise<string>;
  /** As `window.fetch`, with the session's credential for own origins. `$http` needs nothing of the kind. */
  fetch(input: RequestInfo | URL, init?: RequestInit): IPromise<Response>;
  /** Calls the authority's first-party API (`/v1/...`) and adopts a credential in the answer. */
  call<T>(method: string, path: string, body?: unknown): IPromise<T>;
  renew(): IPromise<void>;
  readonly sessions: {
    list(): IPromise<SessionItem[]>;
    end(id: string): IPromise<void>;
    endOthers(): IPromise<void>;
  };
  signOut(options?: { everywhere?: boolean }): IPromise<void>;
  /**
   * For the `resolve` of a route: the user, once it is sure that he is signed in (a token that has expired is renewed).
   * Rejects with a `ResealError`, code `signed_out`, and the reason of the last ending as its `reason`, if known. An
   * authority that is away signs nobody out: who was signed in, stays.
   */
  requireSignedIn(): IPromise<User>;
  /** Calls `listener` in a digest at each event; returns what ends that. */
  on<E extends keyof Events<User>>(event: E, listener: (detail: Events<User>[E]) => void): () => void;
  /** Releases timers, listeners, channel and locks; signs nobody out. Done by itself when `$rootScope` is destroyed. */
  dispose(): void;
  /** The session itself, with native promises and no digest. */
  readonly session: Session<User>;
}

/** How a request fails whose access token has expired and cannot be renewed now; shaped as other failures of `$http`. */
export interface UnsentResponse {
  data: null;
  /** -1, as for every request without an answer. */
  status: -1;
  statusText: string;
  headers(name?: string): null;
  config: object;
  xhrStatus: 'error' | 'timeout' | 'abort';
  /** Why, if it was not for a timeout: a `ResealError`. */
  error?: unknown;
}

declare module 'angular' {
  interface IRequestShortcutConfig {
    /** false: the request is sent as it is, without the session's credential. */
    reseal?: boolean;
  }
}
