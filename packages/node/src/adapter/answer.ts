// Headers that must be on an answer, whoever makes it.

import type { OutgoingHttpHeader, ServerResponse } from 'node:http';

/** Headers to be sent: one value, or several of a header that may be there more than once. */
type Headers = Readonly<Record<string, string | string[]>>;

/**
 * Calls `put` right before the head of the answer is sent, with all headers in place that the framework has set. `put` must
 * not throw: nobody expects that of a stream that begins to flow.
 *
 * Error handlers wipe headers, streams fail late, and an error object may be shared between requests, so that nothing
 * secret may be left on it: the moment at which the head leaves is the only one at which a header surely stays.
 *
 * @returns false if the head was sent already: `put` will not be called.
 */
export function beforeHead(res: ServerResponse, put: () => void): boolean {
  if (res.headersSent) return false;
  const send = res.writeHead;
  res.writeHead = function writeHead(this: ServerResponse, ...args: unknown[]) {
    // One that fails, of a status that is none, is not the last.
    if (!res.headersSent) {
      // Headers in the arguments would go over those that `put` sets.
      const given = args.findIndex((arg, index) => index > 0 && typeof arg === 'object' && arg !== null);
      if (given > 0) setAll(res, args.splice(given, 1)[0] as object);
      put();
    }
    return Reflect.apply(send, this, args) as ServerResponse;
  } as typeof res.writeHead;
  return true;
}

/** Known as going before `Cache-Control` (the Edge Architecture, nginx, RFC 9213 with a name for each kind of cache). */
const STRONGER = /^(surrogate-control|x-accel-expires|.+-cache-control)$/;

/**
 * Puts headers on an answer beside those that the application has set: lists are merged, cookies added, and an answer that
 * must not be stored is not. A cookie or a `Renewed-Access-Token` of the application's own is newer than ours.
 */
export function putHeaders(res: ServerResponse, headers: Headers): void {
  for (const [name, value] of Object.entries(headers)) {
    switch (name.toLowerCase()) {
      case 'set-cookie':
        addCookies(res, value);
        break;
      case 'access-control-expose-headers':
      case 'vary':
        res.setHeader(name, merged(res.getHeader(name), value));
        break;
      case 'cache-control':
        res.setHeader(name, value);
        for (const other of res.getHeaderNames()) if (STRONGER.test(other)) res.removeHeader(other);
        break;
      case 'renewed-access-token':
        if (!res.hasHeader(name)) res.setHeader(name, value);
        break;
      default:
        res.setHeader(name, value);
    }
  }
}

/** Each once, however often it is put, and not over one that is there: it may be that of a sign-out. */
function addCookies(res: ServerResponse, added: string | string[]): void {
  const missing = list(added).filter((cookie) => !setsCookie(res, cookie.split('=', 1)[0] as string));
  if (missing.length > 0) res.setHeader('Set-Cookie', [...list(res.getHeader('Set-Cookie')), ...missing]);
}

/** Whether the answer sets the cookie of that name already. */
export function setsCookie(res: ServerResponse, name: string): boolean {
  return list(res.getHeader('Set-Cookie')).some((cookie) => cookie.startsWith(`${name}=`));
}

/** The members of both lists, each once, those that were there first. */
function merged(there: OutgoingHttpHeader | undefined, added: string | string[]): string {
  const members = [...list(there), ...list(added)].flatMap((value) => value.split(',').map((member) => member.trim()));
  const seen = new Set<string>();
  return members
    .filter((member) => member !== '' && !seen.has(member.toLowerCase()) && seen.add(member.toLowerCase()))
    .join(', ');
}

function list(value: OutgoingHttpHeader | undefined): string[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [String(value)];
}

/** Sets what was given to `writeHead`: an object, or names and values in turn. */
function setAll(res: ServerResponse, given: object): void {
  if (!Array.isArray(given)) {
    for (const [name, value] of Object.entries(given) as [string, OutgoingHttpHeader | undefined][]) {
      if (value !== undefined) res.setHeader(name, value);
    }
    return;
  }
  const flat = given.flat() as OutgoingHttpHeader[];
  const byName = new Map<string, OutgoingHttpHeader[]>();
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const name = String(flat[i]);
    byName.set(name, [...(byName.get(name) ?? []), flat[i + 1] as OutgoingHttpHeader]);
  }
  for (const [name, values] of byName) {
    res.setHeader(name, values.length === 1 ? (values[0] as OutgoingHttpHeader) : values.map(String));
  }
}
