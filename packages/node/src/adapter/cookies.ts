// A cookie of a request, where the framework has no parser of its own.

/** Headers are longer than this only by mistake or malice; Node's own limit is 16 KiB. */
const MOST_CHARACTERS = 16_384;

/**
 * The value of the first cookie of that name (RFC 6265 §4.2), percent-decoded as `res.cookie` of Express encodes it.
 * Undefined if there is none.
 */
export function cookieIn(header: string | undefined, name: string): string | undefined {
  if (header === undefined || header.length > MOST_CHARACTERS) return undefined;
  for (const pair of header.split(';')) {
    const equals = pair.indexOf('=');
    if (equals < 0 || pair.slice(0, equals).trim() !== name) continue;
    const value = pair
      .slice(equals + 1)
      .trim()
      .replace(/^"(.*)"$/, '$1');
    try {
      return decodeURIComponent(value);
    } catch {
      return value;
    }
  }
  return undefined;
}
