import { challenge, plain } from './challenge.js';
import { Fault } from './errors.js';

/** The body of a refusal, as JSON. */
export interface RefusalBody {
  error: string;
  error_description: string;
  reason?: string;
  acr_values?: string;
  max_age?: number;
}

/** The statuses of refusals. */
export type RefusalStatus = 400 | 401 | 403 | 503;

/**
 * Why a request is refused, and the whole answer to it (RFC 6750 §3, RFC 9470 §3). Middleware of Koa and Express finds
 * `status`, `expose` and `headers` where it looks for them.
 */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly status: RefusalStatus;
  /** As `status`, where Express looks for it. */
  readonly statusCode: RefusalStatus;
  /** The `error` of the body: `invalid_token` and the like. */
  readonly code: string;
  /** `WWW-Authenticate`, `Retry-After`, `Cache-Control`. */
  readonly headers: Record<string, string>;
  readonly body: RefusalBody;
  /** The message is for the client. */
  readonly expose = true;

  constructor(answer: RefusalAnswer, cause?: unknown) {
    super(answer.body.error_description, cause === undefined ? undefined : { cause });
    this.status = this.statusCode = answer.status;
    this.code = answer.body.error;
    this.body = answer.body;
    this.headers = { 'Cache-Control': 'no-store', ...answer.headers };
  }
}

/** What a {@link Refusal} is made of. */
export interface RefusalAnswer {
  status: RefusalStatus;
  headers: Record<string, string>;
  body: RefusalBody;
}

type Realm = string | undefined;

/** The answer to what went wrong, a new one for each request: middleware may put headers on it. */
export function refusalOf(error: unknown, realm: Realm): Refusal {
  if (!(error instanceof Fault)) throw error;
  switch (error.kind) {
    case 'missing':
      return missingToken(realm);
    case 'malformed':
      return withError([400, 'invalid_request', MALFORMED], realm, { cause: error });
    case 'expired':
      return withError([401, 'invalid_token', 'The access token has expired.'], realm, { cause: error });
    case 'ended':
      return withError([401, 'invalid_token', sessionOver(error.reason)], realm, {
        reason: error.reason,
        cause: error,
      });
    case 'changed':
      return withError([401, 'invalid_token', CLAIMS_CHANGED], realm, { reason: 'claims_changed', cause: error });
    case 'cross-site':
      return crossSite();
    case 'unavailable':
      return unavailable(error.retryAfter, error);
    case 'invalid':
      return withError([401, 'invalid_token', `The access token is not valid here: ${error.message}.`], realm, {
        cause: error,
      });
  }
}

/** No token was sent, or another scheme: a challenge without an error code (RFC 6750 §3). */
export function missingToken(realm: Realm): Refusal {
  const text = 'Sign in first: send an access token as a Bearer token.';
  return refusal(401, { error: 'unauthorized', error_description: text }, challenge(realm, []));
}

const MALFORMED = 'The Authorization header must be `Bearer` and one token.';
const CLAIMS_CHANGED = 'The claims have changed since the access token was issued. Renew it and try again.';

/** The reason is told to its owner. */
function sessionOver(reason: string | undefined): string {
  return reason === undefined
    ? 'The authority does not accept the access token.'
    : `The session is over (${reason}). Sign in again.`;
}

/** The token is not good (any more), by whatever else the service knows of it. */
export function invalidToken(text: string, realm: Realm, more: { reason?: string; cause?: unknown } = {}): Refusal {
  return withError([401, 'invalid_token', text], realm, more);
}

/** The token does not grant all of these. */
export function insufficientScope(scopes: readonly string[], realm: Realm): Refusal {
  const [error, scope] = ['insufficient_scope', scopes.join(' ')];
  const parameters = [['error', error] as const, ['scope', scope] as const];
  return refusal(403, { error, error_description: `This needs the scope ${scope}.` }, challenge(realm, parameters));
}

/** The user must authenticate again, or better (RFC 9470 §3). */
export function insufficientAuthentication(acr: readonly string[], maxAge: number | undefined, realm: Realm): Refusal {
  const error = 'insufficient_user_authentication';
  const what = acr.length === 0 ? 'recent' : maxAge === undefined ? 'stronger' : 'stronger or more recent';
  const body: RefusalBody = { error, error_description: `This needs a ${what} login.` };
  const parameters: [string, string][] = [['error', error]];
  if (acr.length > 0) {
    body.acr_values = acr.join(' ');
    parameters.push(['acr_values', body.acr_values]);
  }
  if (maxAge !== undefined) {
    body.max_age = maxAge;
    parameters.push(['max_age', String(maxAge)]);
  }
  return refusal(401, body, challenge(realm, parameters));
}

/** A request with the session cookie from a page that is not one of the client's. */
function crossSite(): Refusal {
  const text =
    "A request with the session cookie must come from an origin that the client lists. Add it to the client's `origins`.";
  return new Refusal({ status: 403, headers: {}, body: { error: 'cross_site_request', error_description: text } });
}

/** Nobody can say now whether the token is good. Never 401: a client must not sign its user out because of it. */
export function unavailable(retryAfter = 1, cause?: unknown): Refusal {
  const text = 'The access token cannot be judged right now. Try again; keep your session.';
  const body = { error: 'temporarily_unavailable', error_description: text };
  return new Refusal({ status: 503, headers: { 'Retry-After': String(Math.max(1, retryAfter)) }, body }, cause);
}

function withError(
  [status, code, text]: readonly [400 | 401, string, string],
  realm: Realm,
  { reason, cause }: { reason?: string | undefined; cause?: unknown },
): Refusal {
  const body: RefusalBody = { error: code, error_description: plain(text) };
  if (reason !== undefined) body.reason = reason;
  const parameters = [['error', code] as const, ['error_description', text] as const];
  return refusal(status, body, challenge(realm, parameters), cause);
}

function refusal(status: RefusalStatus, body: RefusalBody, wwwAuthenticate: string, cause?: unknown): Refusal {
  return new Refusal({ status, headers: { 'WWW-Authenticate': wwwAuthenticate }, body }, cause);
}
