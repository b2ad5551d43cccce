// Which requests a middleware leaves alone: the options of koa-unless and express-unless.

/** A path, whole or as a pattern, for all methods or some. */
export type PathException = string | RegExp | { url: string | RegExp; methods?: readonly string[] };

/** What is let through without a look. One that fits is enough. */
export interface Exceptions<Context> {
  /** The path, without the query: whole as text, or a pattern that is found in it. */
  path?: PathException | readonly PathException[];
  /** The end of the path: `.css`. */
  ext?: string | readonly string[];
  /** The method, in capitals. */
  method?: string | readonly string[];
  /** Anything else. A promise is awaited; one that rejects fails the request. */
  custom?: (context: Context) => boolean | Promise<boolean>;
  /** Whether the path is that of the client's URL (default), or as changed by routers on the way. */
  useOriginalUrl?: boolean;
}

/** What is judged. */
interface Asked<Context> {
  context: Context;
  method: string;
  url: string;
  originalUrl: string;
}

/** Whether the request is an exception. */
export async function excepts<Context>(exceptions: Exceptions<Context>, asked: Asked<Context>): Promise<boolean> {
  const { path, ext, method, custom, useOriginalUrl = true } = exceptions;
  // Only `true` and its like: a promise is an object, and must not open anything by being there.
  if (custom && (await custom(asked.context))) return true;
  if (many(method).includes(asked.method)) return true;
  const pathname = pathOf(useOriginalUrl ? asked.originalUrl : asked.url);
  if (pathname === undefined) return false;
  return many(path).some((one) => fits(one, pathname, asked.method)) || many(ext).some((end) => pathname.endsWith(end));
}

function fits(exception: PathException, pathname: string, method: string): boolean {
  if (typeof exception === 'string') return exception === pathname;
  // Unlike `exec`, `search` does not begin where the last request's ended.
  if (exception instanceof RegExp) return pathname.search(exception) >= 0;
  const { url, methods } = exception;
  return fits(url, pathname, method) && (methods === undefined || methods.includes(method));
}

/**
 * The path as routers see it: up to the query, nothing decoded. Undefined where they may see another: those of Koa and
 * Express leave what is not plain to `url.parse`, which turns backslashes, cuts off spaces, and takes part of a strange host
 * for the path.
 */
function pathOf(url: string): string | undefined {
  if (url.startsWith('/') && !STRANGE.test(url)) {
    const query = url.indexOf('?');
    return query < 0 ? url : url.slice(0, query);
  }
  const found = PLAIN.exec(url);
  return found === null ? undefined : found[1] || '/';
}

/** What makes routers look closer. */
const STRANGE = /[\s#\ufeff]/;
/**
 * A path of nothing that is changed on the way (RFC 3986 §3.3), perhaps after scheme and host, as clients of a proxy send it
 * (RFC 9112 §3.2.2).
 */
const PLAIN =
  /^(?:https?:\/\/(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?=[/?#]|$))?((?:\/[a-z0-9\-._~!$&()*+,;=:@%/]*)?)(?:[?#]|$)/i;

function many<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}
