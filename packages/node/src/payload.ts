import { invalid } from './errors.js';
import { parseObject, utf8 } from './json.js';

/** More claims than any honest token has. */
const MAX_CLAIMS = 256;
/** More entries than any honest `aud`, `scope` or `amr` has. */
const MAX_LIST = 256;

/** The registered claims (RFC 9068 §2.2, design of the authority), as they are checked. Times are whole Unix seconds. */
export interface Registered {
  readonly iss: string | undefined;
  readonly sub: string | undefined;
  readonly aud: readonly string[];
  readonly exp: number | undefined;
  readonly nbf: number | undefined;
  readonly iat: number | undefined;
  readonly clientId: string | undefined;
  readonly scope: readonly string[];
  readonly sid: string | undefined;
  readonly rev: number | undefined;
  readonly authTime: number | undefined;
  readonly acr: string | undefined;
  readonly amr: readonly string[];
  readonly renewAt: number | undefined;
}

/** A token whose signature and claims were checked. */
export interface Token {
  readonly registered: Registered;
  /** The payload: JSON, checked. Each request parses it anew, so that none sees what another has done with it. */
  readonly payload: string;
  readonly kid: string | undefined;
  /** The thumbprint (RFC 7638) of the key that verified it: more exact than a name. */
  readonly key: string;
}

/** A payload that somebody we trust has signed: strict about what is checked, silent about the rest. */
export function parsePayload(bytes: Uint8Array): { registered: Registered; payload: string } {
  const payload = utf8(bytes);
  if (payload === undefined) throw invalid('the payload is not UTF-8');
  const claims = parseObject(payload, MAX_CLAIMS);
  if (claims === undefined) throw invalid('the payload is not a JSON object, or has a claim twice');
  return { registered: registered(claims), payload };
}

function registered(claims: Record<string, unknown>): Registered {
  return {
    iss: text(claims, 'iss'),
    sub: text(claims, 'sub'),
    aud: list(claims, 'aud'),
    // Rounded so that no token lives longer than it says.
    exp: time(claims, 'exp', Math.floor),
    nbf: time(claims, 'nbf', Math.ceil),
    iat: time(claims, 'iat', Math.floor),
    clientId: text(claims, 'client_id'),
    scope: Object.freeze(list(claims, 'scope').flatMap((words) => words.split(' ').filter((word) => word !== ''))),
    sid: text(claims, 'sid'),
    authTime: time(claims, 'auth_time', Math.floor),
    acr: text(claims, 'acr'),
    amr: list(claims, 'amr'),
    // These two names are ours; with other issuers they may mean anything.
    rev: whole(claims['rev']),
    renewAt: whole(claims['renew_at']),
  };
}

function text(claims: Record<string, unknown>, name: string): string | undefined {
  const value = claims[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw wrong(name);
  return value;
}

/** One text, or an array of them. Frozen: all requests with the token share it. */
function list(claims: Record<string, unknown>, name: string): readonly string[] {
  const value = claims[name];
  if (value === undefined || value === null) return NONE;
  if (typeof value === 'string') return Object.freeze([value]);
  if (!Array.isArray(value) || value.length > MAX_LIST || !value.every((entry) => typeof entry === 'string'))
    throw wrong(name);
  return Object.freeze(value as string[]);
}

const NONE: readonly string[] = Object.freeze([]);

/** A NumericDate (RFC 7519 §2), perhaps with a fraction. */
function time(claims: Record<string, unknown>, name: string, round: (value: number) => number): number | undefined {
  const value = claims[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !Number.isFinite(value)) throw wrong(name);
  return round(value);
}

function whole(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

function wrong(name: string): Error {
  return invalid(`the claim \`${name}\` is not what it should be`);
}
