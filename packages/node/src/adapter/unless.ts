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
  const pathname = pathOf(useOriginalUrl ? asked.originalUrl : asked.url);
  return (
    many(path).some((one) => fits(one, pathname, asked.method)) ||
    many(ext).some((end) => pathname.endsWith(end)) ||
    many(method).includes(asked.method)
  );
}

function fits(exception: PathException, pathname: string, method: string): boolean {
  if (typeof exception === 'string') return exception === pathname;
  // Unlike `exec`, `search` does not begin where the last request's ended.
  if (exception instanceof RegExp) return pathname.search(exception) >= 0;
  const { url, methods } = exception;
  return fits(url, pathname, method) && (methods === undefined || methods.includes(method));
}

/** The path as routers see it: up to the query, nothing decoded. */
function pathOf(url: string): string {
  const path = url.startsWith('/') ? url : afterOrigin(url);
  const end = path.search(/[?#]/);
  return end < 0 ? path : path.slice(0, end);
}

/** Clients of a proxy send the whole URL (RFC 9112 §3.2.2). */
function afterOrigin(url: string): string {
  const authority = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i.exec(url);
  return authority ? url.slice(authority[0].length) || '/' : url;
}

function many<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}
