// JSON as tokens have it: UTF-8, an object, and no member twice.

/** Reads an object; undefined when it is none, or when a member of it is there twice (RFC 7515 §4, RFC 7519 §4). */
export function parseObject(text: string, maxMembers: number): Record<string, unknown> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  // Which of two values counts would depend on who reads.
  return countMembers(text) === Object.keys(value).length && Object.keys(value).length <= maxMembers
    ? (value as Record<string, unknown>)
    : undefined;
}

/** Bytes as text; undefined when they are not UTF-8. */
export function utf8(bytes: Uint8Array): string | undefined {
  try {
    return UTF8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Bytes as the JSON they should be. */
export function parseJson(bytes: Uint8Array): unknown {
  const text = utf8(bytes);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The members of an answer that is an object; of any other none. */
export function members(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The number of members of an object that is known to be JSON: of the colons outside of texts and inner values. */
function countMembers(text: string): number {
  let count = 0;
  let depth = 0;
  let inText = false;
  for (let at = 0; at < text.length; at++) {
    const c = text.charCodeAt(at);
    if (inText) {
      if (c === BACKSLASH) at++;
      else if (c === QUOTE) inText = false;
    } else if (c === QUOTE) inText = true;
    else if (c === OPEN_OBJECT || c === OPEN_ARRAY) depth++;
    else if (c === CLOSE_OBJECT || c === CLOSE_ARRAY) depth--;
    else if (c === COLON && depth === 1) count++;
  }
  return count;
}

const [QUOTE, BACKSLASH, COLON] = [0x22, 0x5c, 0x3a];
const [OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY] = [0x7b, 0x7d, 0x5b, 0x5d];
