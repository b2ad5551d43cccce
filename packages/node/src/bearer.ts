import type { GuardedRequest } from './types.js';

/** What `Authorization` says: a token, nothing of ours, or what cannot be read. */
export type Presented = { token: string } | 'none' | 'malformed';

/**
 * The token of `Authorization: Bearer` (RFC 6750 §2.1), and from nowhere else: one in a URL ends up in logs (RFC 6750
 * §5.3). Another scheme is no token (RFC 6750 §3.1).
 */
export function bearer(request: GuardedRequest): Presented {
  const value = request.headers['authorization'];
  if (value === undefined) return 'none';
  // Node shows the first of two only.
  if (typeof value !== 'string' || isThereTwice(request.rawHeaders)) return 'malformed';
  const space = value.indexOf(' ');
  const scheme = space < 0 ? value : value.slice(0, space);
  if (scheme.length !== 6 || scheme.toLowerCase() !== 'bearer') return 'none';
  const token = space < 0 ? '' : trimSpaces(value.slice(space));
  return B64TOKEN.test(token) ? { token } : 'malformed';
}

/** `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`. */
const B64TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/;

/** By hand: an expression for both ends takes quadratic time on a long row of spaces. */
function trimSpaces(text: string): string {
  let [from, to] = [0, text.length];
  while (from < to && text.charCodeAt(from) === 32) from++;
  while (to > from && text.charCodeAt(to - 1) === 32) to--;
  return text.slice(from, to);
}

function isThereTwice(raw: readonly string[] | undefined): boolean {
  if (raw === undefined) return false;
  let seen = 0;
  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at];
    if (name !== undefined && name.length === 13 && name.toLowerCase() === 'authorization') seen++;
  }
  return seen > 1;
}
