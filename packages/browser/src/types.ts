/** What `createSession` takes. */
export interface SessionOptions {
  /** The authority's URL (its issuer). */
  api: string;
  /** The public client that this page is (RFC 6749 §2). */
  clientId: string;
  /** How the client's policy renews: its `kind`. */
  mode: Mode;
  /** Where tokens are kept. Default `'memory'`; not with mode `'cookie'`. */
  storage?: 'memory' | 'session' | 'local' | TokenStorage;
  /** Origins that get the token, the authority's besides. Default: the page's own. */
  origins?: string[];
  /** Seconds ahead of its expiry at which a token is renewed; at most 20 % of its life. Default 60. */
  renewBefore?: number;
  /**
   * `'use'` renews only what is used, so that an idle user is signed out (default for sliding and cookie); `'open'`
   * renews while the page is open and visible (default for refresh).
   */
  keepAlive?: 'use' | 'open';
  /** Seconds before the end for the event `expiring`. Default 60. */
  expiringBefore?: number;
  /** Seconds that one call to the authority may take. Default 10. */
  timeout?: number;
  /** Seconds to wait for the lock across tabs; then it goes on without. Default 3. */
  lockTimeout?: number;
  /** Used in place of the page's `fetch`. */
  fetch?: typeof fetch;
  /** Used in place of `navigator.locks`; null: no locks. */
  locks?: LockManager | null;
}

/** The `kind` of the client's policy. */
export type Mode = 'sliding' | 'fixed' | 'refresh' | 'cookie';

/** A storage of your own for one text, shared by those tabs that are to share a session. */
export interface TokenStorage {
  /** The text that was set last, or null. */
  get(): string | null | Promise<string | null>;
  /** Replaces it; null removes it. */
  set(value: string | null): void | Promise<void>;
  /** Calls `changed` when another tab has set it; returns what ends that. */
  subscribe?(changed: () => void): () => void;
}

/** One login of one user in this page. */
export interface Session<User extends object = Claims> {
  /** Resolves when the storage was read (cookie: when the authority has answered); never rejects. */
  readonly ready: Promise<void>;
  /** The claims of the newest access token (cookie: the record of `GET /v1/me`). For display only. */
  readonly user: User | null;
  /** What the authority told of the session. */
  readonly info: SessionInfo | null;
  /** When the user is signed out unless something renews: Unix seconds by the authority's clock. */
  readonly expiresAt: number | null;
  /** The authority's clock, Unix seconds. */
  now(): number;
  /** Logs in. Rejects with `ResealError`: `invalid_credentials`, `too_many_requests` (`retryAfter`), `unavailable`. */
  login(credentials: Credentials): Promise<LoginResult<User>>;
  /** The second step of a login. Rejects with `ResealError`: `invalid_code`, ... */
  secondFactor(step: SecondFactor): Promise<User>;
  /** Sends the code once more. `challenge` defaults to that of the last `login()`. */
  resendCode(challenge?: string): Promise<void>;
  /** A good access token; renews when needed. Rejects with `signed_out`, `unavailable`, or `no_token` (mode cookie). */
  token(): Promise<string>;
  /** As `window.fetch`, with this session's credential for own origins, and once more after a renewal on a 401. */
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
  /** Calls the authority's first-party API (`/v1/...`) and adopts a credential in the answer. */
  call<T>(method: string, path: string, body?: unknown): Promise<T>;
  /** Renews now, whatever the clock says. Rejects with `signed_out` or `unavailable`. */
  renew(): Promise<void>;
  /** The user's sessions on all devices, at most 200. */
  readonly sessions: {
    list(): Promise<SessionItem[]>;
    end(id: string): Promise<void>;
    endOthers(): Promise<void>;
  };
  /**
   * Signs out here, `everywhere`: on all devices. Away from the authority the user is signed out here all the same, save
   * in mode cookie, which rejects with `unavailable`; `everywhere` rejects, too, as the other devices stay signed in.
   */
  signOut(options?: { everywhere?: boolean }): Promise<void>;
  /** Calls `listener` at each event; returns what ends that. */
  on<E extends keyof Events<User>>(event: E, listener: (detail: Events<User>[E]) => void): () => void;
  /** Releases timers, listeners and channel; signs nobody out. */
  dispose(): void;
  /**
   * For interceptors of other HTTP clients: what to add to a request to `url` (absolute, or relative to the page).
   * null: nothing; then `settle` is not to be called. Rejects with `unavailable` where the token is dead and cannot be
   * renewed because the authority is away.
   */
  prepare(url: string): Promise<Prepared | null>;
  /**
   * Hears of the answer: adopts `Renewed-Access-Token`. Resolves to true when the request may be sent ONCE more, after
   * another `prepare`. `retried`: this was that second time.
   */
  settle(sent: Prepared, answer: Answer, retried: boolean): Promise<boolean>;
}

/** What to add to a request. */
export interface Prepared {
  readonly headers: Readonly<Record<string, string>>;
  /** Whether cookies are sent along (`credentials: 'include'`). */
  readonly credentials: boolean;
}

/** The answer of another HTTP client. */
export interface Answer {
  status: number;
  /** A header's value, whatever the case of its name. */
  header(name: string): string | null;
  /** The body; read only for a 401 whose headers tell nothing. */
  json?(): Promise<unknown>;
}

/** What the access token says about the user (RFC 9068, OpenID Connect's names), and what else the client's list of claims projects. */
export interface Claims {
  sub: string;
  sid?: string;
  rev?: number;
  scope?: string;
  acr?: string;
  amr?: string[];
  auth_time?: number;
  name?: string | null;
  email?: string | null;
  phone_number?: string | null;
  phone_number_verified?: boolean;
  roles?: string[];
  [claim: string]: unknown;
}

/** The wire's `session`; times are Unix seconds by the authority's clock. */
export interface SessionInfo {
  id: string;
  kind: Mode;
  policy: string;
  generation?: number;
  started_at: number;
  authenticated_at: number;
  renew_at?: number;
  idle_expires_at?: number;
  expires_at: number;
  acr: string;
  amr: string[];
}

/** One of the user's sessions. */
export interface SessionItem extends SessionInfo {
  /** Whether it is this one. */
  current: boolean;
  /** The client's name for people. */
  client: string;
  client_id: string;
  user_agent?: string;
  ip?: string;
  renewed_at: number;
}

export interface Credentials {
  username: string;
  password: string;
  scope?: string;
}

export interface SecondFactor {
  code: string;
  /** Default `'phone'`. */
  factor?: 'phone' | 'recovery_code';
  /** Default: that of the last `login()`. */
  challenge?: string;
}

/** A way to pass the second step; `hint` shows which phone. */
export interface FactorOffer {
  factor: 'phone' | 'recovery_code';
  hint?: string;
}

export type LoginResult<User> =
  { status: 'signed_in'; user: User } | { status: 'second_factor_required'; challenge: string; factors: FactorOffer[] };

/** The events and what their listeners get. */
export interface Events<User> {
  /** A login, here or in another tab of the same storage, or a session found when the page loaded. */
  signedin: { user: User };
  /** The claims have changed. */
  claims: { user: User; previous: User };
  /** The credential was renewed. */
  renewed: { expiresAt: number };
  /** The end is near, and nothing will renew by itself; once per deadline. */
  expiring: { expiresAt: number };
  /** Signed out: `reason` is the authority's, or `signed_out`. */
  signedout: { reason: string };
}
