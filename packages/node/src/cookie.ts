// The session cookie of a browser, exchanged for an access token at `GET /gateway/verify`: the authority slides the session
// and applies its rule against cross-site requests to the method and the origin of the request.

import { createTurns } from './time.js';
import { retryAfter, type Answered, type Http } from './http.js';
import { members, parseJson } from './json.js';
import type { Log } from './log.js';
import { asReason } from './renew.js';
import type { GuardedRequest } from './types.js';

const MAX_CALLS = 64;
const MAX_WAITING = 1024;
const MAX_ANSWER = 64 * 1024;
/** Longest cookie of ours, in characters. */
const MAX_COOKIE = 1024;
/** Longest header that is passed on, in characters. */
const MAX_HEADER = 2048;

/** What the authority says to a cookie. */
export type Exchanged =
  | { readonly is: 'token'; readonly token: string; readonly setCookie: readonly string[] }
  | { readonly is: 'refused'; readonly reason: string | undefined }
  /** The request did not come from a page of the app. */
  | { readonly is: 'cross-site' }
  | { readonly is: 'away'; readonly retryAfter: number };

export interface CookieExchange {
  /** The pairs of a request that are ours, as `Cookie` has them; undefined: there are none. */
  find(request: GuardedRequest): string | undefined;
  exchange(cookie: string, request: GuardedRequest): Promise<Exchanged>;
}

export function createCookieExchange(http: Http, url: URL, timeoutMs: number, log: Log): CookieExchange {
  // Without TLS, which is on this machine only, the name has no prefix.
  const names = url.protocol === 'https:' ? ['__Host-reseal'] : ['reseal', '__Host-reseal'];
  const turns = createTurns(MAX_CALLS, MAX_WAITING);
  return {
    find: (request) => findCookie(request.headers['cookie'], names),
    async exchange(cookie, request) {
      const turn = await turns.take(timeoutMs);
      if (turn === undefined) return AWAY;
      try {
        const headers = { ...described(request), Cookie: cookie, Accept: 'application/json' };
        const answer = await http.ask({ method: 'GET', url, headers, timeoutMs, background: false }, MAX_ANSWER);
        const exchanged = readExchange(answer, names);
        if (exchanged.is === 'away')
          log.warn('gateway', `the authority answered a session cookie with ${answer.status}`);
        return exchanged;
      } catch (error) {
        log.warn('gateway', `the authority could not be asked about a session cookie: ${(error as Error).message}`);
        return AWAY;
      } finally {
        turn();
      }
    },
  };
}

const AWAY: Exchanged = { is: 'away', retryAfter: 1 };

/** A cookie that is there twice counts as absent: a sibling host may have planted one. */
export function findCookie(header: string | string[] | undefined, names: readonly string[]): string | undefined {
  const pairs = (Array.isArray(header) ? header.join(';') : (header ?? '')).split(';').map((pair) => pair.trim());
  const found = names.flatMap((name) => {
    const own = pairs.filter((pair) => pair.startsWith(`${name}=`));
    return own.length === 1 ? own : [];
  });
  // What a cookie may be made of (RFC 6265 §4.1.1), so that nothing else rides along.
  const good = found.filter(
    (pair) => pair.length <= MAX_COOKIE && /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+$/.test(pair),
  );
  return good.length === 0 ? undefined : good.join('; ');
}

/** The request, as the authority's rule for cookies wants to know it. */
function described({ method, headers }: GuardedRequest): Record<string, string> {
  const out: Record<string, string> = { 'X-Original-Method': method ?? '' };
  const pass = (from: string, as: string): void => {
    const value = headers[from];
    if (value === undefined) return;
    // What cannot be passed on as it came must not look as if it were not there.
    out[as] = typeof value === 'string' && value.length <= MAX_HEADER && /^[\x20-\x7e]*$/.test(value) ? value : 'null';
  };
  pass('origin', 'Origin');
  pass('sec-fetch-site', 'Sec-Fetch-Site');
  pass('upgrade', 'X-Original-Upgrade');
  return out;
}

/** What an answer of `GET /gateway/verify` means. */
export function readExchange({ status, headers, body }: Answered, names: readonly string[]): Exchanged {
  const { error, reason } = members(parseJson(body));
  const token = /^Bearer ([A-Za-z0-9\-._~+/]+=*)$/.exec(headers.authorization ?? '')?.[1];
  if (status === 200 && token !== undefined) {
    const setCookie = (headers['set-cookie'] ?? []).filter((cookie) =>
      names.some((name) => cookie.startsWith(`${name}=`)),
    );
    return { is: 'token', token, setCookie: setCookie.slice(0, names.length) };
  }
  // In the authority's own words: a 401 of something in between must sign nobody out.
  if (status === 401 && (error === 'invalid_token' || error === 'unauthorized'))
    return { is: 'refused', reason: asReason(reason) };
  if (status === 403 && error === 'cross_site_request') return { is: 'cross-site' };
  return { is: 'away', retryAfter: retryAfter(headers) };
}
