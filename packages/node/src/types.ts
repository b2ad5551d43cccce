import type { KeyObject } from 'node:crypto';

/** Settings of a {@link Guard}. All times are seconds unless said otherwise. */
export interface GuardOptions<Claims extends object = StandardClaims> {
  /** The authority's URL: the exact text of the tokens' `iss`. `https`, or `http` on this machine. Required unless `secret`. */
  issuer?: string;
  /** Your own name, or names: a token's `aud` must have one (RFC 9068 §4). Required unless `secret`. */
  audience?: string | string[];
  /** Which algorithms are accepted. Default ES256, EdDSA and RS256; with `secret` those that fit the key. */
  algorithms?: string[];
  /** Allowed difference of the clocks, whole seconds, 60 at most. Default 5; with `secret` 0. */
  clockTolerance?: number;
  /**
   * A confidential client with the scope `reseal:feed` (and the right to introspect, for `onFeedLost: 'introspect'`).
   * Without it there is no feed: a revocation or a change of claims is seen when a token expires.
   */
  client?: { id: string; secret: string };
  /** Renew tokens past their `renew_at` on the way. Default true; not with `secret`. */
  sliding?: boolean;
  /**
   * What to do with a token whose claims have changed. `renew` (default): ask the authority for a newer one and go on
   * with that, or not at all. `refuse`: 401 with the reason `claims_changed`.
   */
  onStale?: OnStale;
  /**
   * What to do while the feed is lost (15 s without a word). `accept` (default): tokens are good until `exp`, by what is
   * known. `introspect`: ask the authority about each. `refuse`: 503.
   */
  onFeedLost?: OnFeedLost;
  /** A request without a token goes through as nobody. A bad token is refused all the same. */
  passthrough?: boolean;
  /** `realm` of the challenges. */
  realm?: string;
  /**
   * Keys given by hand, for tokens that another issuer signs: a secret, a public key (PEM or KeyObject), several, or a
   * function that finds them. Then nothing is fetched, nothing is renewed, and there is no feed.
   */
  secret?: SecretSource<Claims>;
  /**
   * A request with Reseal's session cookie and no `Authorization` is exchanged for an access token at the authority, with
   * its check against cross-site requests.
   */
  sessionCookie?: boolean;
  /** Verified tokens that are remembered; 0: none. Default 10,000. */
  cacheSize?: number;
  /** Longest wait of a request for one answer of the authority. Default 3. */
  timeout?: number;
  /** The time in milliseconds since 1970, for tests. Default `Date.now`. */
  now?: () => number;
  /** Where warnings go. Default: the console. Never a token. */
  log?: Logger;
}

/** See {@link GuardOptions.onStale}. */
export type OnStale = 'renew' | 'refuse';

/** See {@link GuardOptions.onFeedLost}. */
export type OnFeedLost = 'accept' | 'introspect' | 'refuse';

/** A key that verifies: a shared secret, or a public key (PEM text or bytes, or a KeyObject). */
export type Secret = string | Buffer | KeyObject;

/** Finds the key of a token by what it says before it was verified. Trust nothing of it but to choose a key. */
export type SecretProvider<Claims extends object = StandardClaims> = (
  header: Readonly<Record<string, unknown>>,
  payload: Claims & RegisteredClaims,
) => Secret | Secret[] | Promise<Secret | Secret[]>;

/** See {@link GuardOptions.secret}. */
export type SecretSource<Claims extends object = StandardClaims> = Secret | Secret[] | SecretProvider<Claims>;

/** Where lines for a person go. */
export interface Logger {
  warn(message: string): void;
  info?(message: string): void;
}

/** The claims that Reseal's clients usually show. Which are there is up to the client's registration; null: not known. */
export interface StandardClaims {
  name?: string | null;
  email?: string | null;
  phone_number?: string | null;
  phone_number_verified?: boolean;
  roles?: string[];
}

/** The claims of every access token (RFC 9068 §2.2). Times are Unix seconds. */
export interface RegisteredClaims {
  iss?: string;
  sub?: string;
  aud?: string | string[];
  exp?: number;
  nbf?: number;
  iat?: number;
  jti?: string;
  client_id?: string;
  scope?: string;
  sid?: string;
  rev?: number;
  auth_time?: number;
  acr?: string;
  amr?: string[];
  renew_at?: number;
}

/** What of a request is looked at. Node's `IncomingMessage` is one. */
export interface GuardedRequest {
  method?: string | undefined;
  headers: Readonly<Record<string, string | string[] | undefined>>;
  /** As Node has them; two `Authorization` headers are seen only here. */
  rawHeaders?: readonly string[] | undefined;
  /** A token that was found elsewhere than in `Authorization`, which is not looked at then; nor is the cookie. */
  token?: string | undefined;
  /** Other keys for this request than {@link GuardOptions.secret}, of a guard that has one. */
  secret?: SecretSource | undefined;
}

/** A request whose token is good. */
export interface RequestSession<Claims extends object = StandardClaims> {
  /** The token's payload. After {@link RequestSession.reseal} the newest. */
  readonly claims: Claims & RegisteredClaims;
  /** The access token as text: the newest. Never log it. */
  readonly token: string;
  /** The session (`sid`); none in a client's own token. */
  readonly id?: string | undefined;
  /** The user, or the client itself. */
  readonly subject: string;
  readonly clientId: string | undefined;
  readonly scope: readonly string[];
  readonly acr?: string | undefined;
  readonly amr: readonly string[];
  /** When the user authenticated, Unix seconds. */
  readonly authTime?: number | undefined;
  /** Unix seconds. Infinity for a token without `exp`, which only a guard with `secret` accepts. */
  readonly expiresAt: number;
  /** From when on the token may be renewed by presenting it, Unix seconds. */
  readonly renewAt?: number | undefined;
  /**
   * After a change of the user's record: asks the authority for a token with the new claims, whatever the feed says, and
   * sends it back with the answer. Null when there is nothing newer to be had here.
   *
   * Rejects with a {@link Refusal}: 503 while the authority is away, 401 when the session is over.
   */
  reseal(): Promise<(Claims & RegisteredClaims) | null>;
  /** Throws a {@link Refusal} (403 `insufficient_scope`) unless the token grants all of these. */
  requireScope(...scopes: string[]): void;
  /** Throws a {@link Refusal} (401, RFC 9470) unless the user authenticated in one of these ways, such as `aal2`. */
  requireAcr(...values: string[]): void;
  /** Throws a {@link Refusal} (401, RFC 9470) unless the user authenticated within this many seconds. */
  requireMaxAge(seconds: number): void;
  /**
   * What the answer must carry, as of now: `Renewed-Access-Token`, `Cache-Control`, `Access-Control-Expose-Headers` (add
   * it to what is exposed already), `Set-Cookie`. Ask when the answer is about to go; errors carry it, too.
   */
  responseHeaders(): Record<string, string | string[]>;
}

/** How a guard is doing, for a health page. */
export interface Health {
  /** Whether tokens can be judged. */
  ready: boolean;
  issuer?: string;
  keys: KeysHealth;
  /** Only where there is a feed. */
  feed?: FeedHealth;
}

export interface KeysHealth {
  /** Given by `secret`, and none are fetched. */
  given: boolean;
  /** How many keys tokens can be verified with. */
  usable: number;
  fetchedSecondsAgo?: number;
  /** How many times in a row fetching has failed. */
  failures: number;
}

export interface FeedHealth {
  /** Whether changes may have been missed. */
  lost: boolean;
  connected: boolean;
  caughtUp: boolean;
  /** More has changed than there is room for: counts as lost. */
  full: boolean;
  silentForSeconds?: number;
  /** By how much the authority's clock is ahead. Beyond 30 s either way something is wrong. */
  clockDifferenceSeconds?: number;
  problem?: string;
  reconnects: number;
  /** How often it started over. */
  starts: number;
  events: number;
  entries: { sessions: number; users: number; clients: number; keys: number };
}
