// The way of a request through an adapter: the guard, the application's own list of revoked tokens, the answer's headers.

import type { ServerResponse } from 'node:http';
import { bearer } from '../bearer.js';
import { ConfigurationError } from '../errors.js';
import { Guard } from '../guard.js';
import { invalidToken, missingToken, unavailable } from '../refusal.js';
import type { GuardedRequest, GuardOptions, RegisteredClaims, RequestSession, StandardClaims } from '../types.js';
import { beforeHead, putHeaders, setsCookie } from './answer.js';

/** What every adapter takes: the settings of its guard, or a guard that is shared between several. */
export interface AdapterOptions<Claims extends object = StandardClaims> extends GuardOptions<Claims> {
  /** A guard that another middleware of the process has already: one feed, one cache. Its settings are its own. */
  guard?: Guard<Claims>;
  /**
   * Says in the answer what exactly was wrong with a token.
   * For development: it helps whoever forges tokens, too.
   */
  debug?: boolean;
}

/** Asked about a good token, as it was sent: true refuses it with 401. */
export type IsRevoked<Claims extends object> = (
  claims: Claims & RegisteredClaims,
  token: string,
) => boolean | Promise<boolean>;

const OF_THE_GUARD: Required<{ [Name in keyof GuardOptions]: true }> = {
  issuer: true,
  audience: true,
  algorithms: true,
  clockTolerance: true,
  client: true,
  sliding: true,
  onStale: true,
  onFeedLost: true,
  passthrough: true,
  realm: true,
  secret: true,
  sessionCookie: true,
  cacheSize: true,
  timeout: true,
  now: true,
  log: true,
};

/**
 * The guard of a middleware with these options, of which `own` are the adapter's.
 *
 * @throws ConfigurationError for an option that nobody knows: one that limits what is accepted must not be lost.
 */
export function guardOf<Claims extends object>(options: AdapterOptions<Claims>, own: readonly string[]): Guard<Claims> {
  const { guard, ...rest } = options;
  const settings: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(rest)) {
    if (name === 'debug' || name === 'passthrough' || own.includes(name) || value === undefined) continue;
    if (!Object.hasOwn(OF_THE_GUARD, name)) throw new ConfigurationError(`unknown option \`${name}\``);
    if (guard && name !== 'realm') throw new ConfigurationError(`\`${name}\` is the guard's own: give it there`);
    settings[name] = value;
  }
  return guard ?? new Guard<Claims>(settings as GuardOptions<Claims>);
}

/**
 * The session of a request that may go on.
 *
 * @throws Refusal
 */
export async function admit<Claims extends object>(
  guard: Guard<Claims>,
  request: GuardedRequest,
  isRevoked?: IsRevoked<Claims>,
  realm?: string,
): Promise<RequestSession<Claims>> {
  const session = await guard.admit(request, realm);
  if (session === null) throw missingToken(realm ?? guard.realm);
  if (isRevoked === undefined) return session;
  let revoked: boolean;
  try {
    const { claims, token } = asSent(request, session);
    revoked = await isRevoked(claims, token);
  } catch (cause) {
    // Where the list cannot be read nobody is signed out for it.
    throw unavailable(1, cause);
  }
  if (!revoked) return session;
  const more = { reason: 'revoked', cause: new Error('Token revoked') };
  throw invalidToken('The access token was revoked.', realm ?? guard.realm, more);
}

/** The token as it was sent: a list of revoked tokens knows nothing of one that was renewed on the way. */
function asSent<Claims extends object>(request: GuardedRequest, session: RequestSession<Claims>) {
  const found = request.token === undefined ? bearer(request) : { token: request.token };
  // Of the session cookie the token is known here only.
  if (typeof found === 'string' || found.token === session.token) return session;
  const payload = Buffer.from(found.token.split('.')[1] ?? '', 'base64url').toString();
  return { token: found.token, claims: JSON.parse(payload) as Claims & RegisteredClaims };
}

/** A cookie of the application's own that holds the token. */
export interface OwnCookie {
  name: string;
  /** Sets it on the answer. Must not throw. */
  set(token: string): void;
}

/**
 * Sees to it that the answer carries what the session has for its client then.
 *
 * @param own where the token came in a cookie that scripts cannot read: the newer one goes there, instead of into a header
 * that they can.
 */
export function carry<Claims extends object>(
  res: ServerResponse,
  session: RequestSession<Claims>,
  own?: OwnCookie,
): void {
  beforeHead(res, () => {
    const headers = session.responseHeaders();
    const renewed = headers['Renewed-Access-Token'];
    if (own !== undefined && typeof renewed === 'string') {
      delete headers['Renewed-Access-Token'];
      delete headers['Access-Control-Expose-Headers'];
      // A handler that has set it was there last: it may have signed the user out.
      if (!setsCookie(res, own.name)) own.set(renewed);
    }
    putHeaders(res, headers);
  });
}
