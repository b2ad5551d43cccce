/**
 * A challenge of the `Bearer` scheme (RFC 6750 §3). Values are reduced to what the grammar allows, so that no name, scope
 * or message can add a parameter or a header.
 */
export function challenge(realm: string | undefined, parameters: readonly (readonly [string, string])[]): string {
  const parts = realm === undefined ? [] : [`realm="${quotedPairs(realm)}"`];
  for (const [name, value] of parameters) parts.push(`${name}="${plain(value)}"`);
  return parts.length === 0 ? 'Bearer' : `Bearer ${parts.join(', ')}`;
}

/** Longest value of a parameter, in characters. */
const VALUE_MAX = 512;

/** `%x20-21 / %x23-5B / %x5D-7E`: a quote or a backslash becomes an apostrophe, anything else a question mark. */
export function plain(text: string): string {
  return map(text, (c) => (c === '"' || c === '\\' ? "'" : c));
}

/** The same for a `realm`, where a quoted pair may stand (RFC 9110 §5.6.4). */
function quotedPairs(text: string): string {
  return map(text, (c) => (c === '"' || c === '\\' ? `\\${c}` : c));
}

function map(text: string, quote: (c: string) => string): string {
  let out = '';
  let length = 0;
  for (const c of text) {
    if (length++ === VALUE_MAX) break;
    out += c >= ' ' && c <= '~' ? quote(c) : '?';
  }
  return out;
}
