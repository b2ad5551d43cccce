// What a token must say to be accepted. Pure: `now` is an argument.

import { Fault, invalid } from './errors.js';
import type { JwsHeader } from './jws.js';
import type { Registered } from './payload.js';

/** What tokens are checked against. */
export interface Rules {
  /** `iss` must be exactly this; undefined: anything. */
  readonly issuer: string | undefined;
  /** `aud` must have one of these; undefined: anything. */
  readonly audience: readonly string[] | undefined;
  /** The header's `alg` must be one of these. */
  readonly algorithms: readonly string[];
  /** The header's `typ` must be `at+jwt` (RFC 9068 §4), and `exp` and `sub` must be there. */
  readonly accessTokens: boolean;
  /** Allowed difference of the clocks, seconds. */
  readonly leeway: number;
}

/** The algorithm and the type (RFC 8725 §3.1 and §3.11). */
export function checkHeader(rules: Rules, header: JwsHeader): void {
  if (!rules.algorithms.includes(header.alg)) throw invalid('its algorithm is not accepted here');
  if (rules.accessTokens && mediaType(header.typ) !== 'at+jwt') {
    throw invalid('this is not an access token: its `typ` is another one');
  }
}

/** What must be there, the issuer and the audience (RFC 9068 §4). */
export function checkParties(rules: Rules, claims: Registered): void {
  if (rules.accessTokens && (claims.exp === undefined || claims.sub === undefined)) {
    throw invalid('a claim is missing that every access token has');
  }
  if (rules.issuer !== undefined && claims.iss !== rules.issuer) throw invalid('the token is of another issuer');
  const { audience } = rules;
  if (audience !== undefined && !claims.aud.some((name) => audience.includes(name))) {
    throw invalid('the token is for another audience');
  }
}

/**
 * `exp` and `nbf` (RFC 7519 §4.1.4 and §4.1.5): dead from `exp + leeway` on, valid from `nbf - leeway` on. `now` is Unix
 * seconds, rounded down.
 */
export function checkTime(rules: Rules, claims: Registered, now: number): void {
  if (claims.exp !== undefined && now >= claims.exp + rules.leeway) throw new Fault('expired', 'the token has expired');
  if (claims.nbf !== undefined && now < claims.nbf - rules.leeway) throw invalid('the token is not valid yet');
}

const APPLICATION = 'application/';

/** In lower case, without `application/` where no other slash follows (RFC 7515 §4.1.9). */
function mediaType(typ: string | undefined): string | undefined {
  const lower = typ?.toLowerCase();
  if (!lower?.startsWith(APPLICATION)) return lower;
  const rest = lower.slice(APPLICATION.length);
  return rest.includes('/') ? lower : rest;
}
