import { invalid } from './errors.js';
import { parseObject, utf8 } from './json.js';

/** Longest token that is read, in characters. */
export const MAX_TOKEN_LENGTH = 16 * 1024;
const MAX_HEADER_LENGTH = 8 * 1024;
const MAX_HEADER_MEMBERS = 64;

/** A compact JWS (RFC 7515 §7.1) whose signature was not looked at. */
export interface Jws {
  readonly text: string;
  readonly header: JwsHeader;
  /** The payload, decoded. */
  readonly payload: Uint8Array;
}

/** The members that mean something here. Those that point to keys (`jwk`, `jku`, `x5c`) are ignored. */
export interface JwsHeader {
  readonly alg: string;
  readonly kid: string | undefined;
  readonly typ: string | undefined;
  /** All members. */
  readonly all: Readonly<Record<string, unknown>>;
}

/** Reads a token. Each has exactly one spelling, so that no change of a character leaves it good. */
export function parseJws(text: string): Jws {
  if (text.length > MAX_TOKEN_LENGTH) {
    throw invalid(`the token has ${text.length} characters; more than ${MAX_TOKEN_LENGTH} are not read`);
  }
  const [header, payload, signature, ...more] = text.split('.', 6);
  if (header === undefined || payload === undefined || signature === undefined || more.length > 0) {
    throw invalid('a token has three parts with a `.` between them');
  }
  if (header.length > MAX_HEADER_LENGTH) throw invalid('the header is too long');
  decode(signature, 'signature');
  return { text, header: parseHeader(decode(header, 'header')), payload: decode(payload, 'payload') };
}

function parseHeader(bytes: Uint8Array): JwsHeader {
  const json = utf8(bytes);
  const all = json === undefined ? undefined : parseObject(json, MAX_HEADER_MEMBERS);
  if (all === undefined) throw invalid('the header is not a JSON object, or has a member twice');
  // RFC 7515 §4.1.11: extensions that must be understood, and none are. RFC 7797: a payload that is not encoded.
  if ('crit' in all || 'b64' in all) throw invalid('the header has `crit` or `b64`');
  const { alg, kid, typ } = all;
  if (typeof alg !== 'string') throw invalid('the header has no `alg`');
  if (!isTextOrAbsent(kid) || !isTextOrAbsent(typ)) throw invalid('a member of the header is not a text');
  return { alg, kid, typ, all };
}

function isTextOrAbsent(value: unknown): value is string | undefined {
  return value === undefined || typeof value === 'string';
}

/** Canonical base64url: Node passes over what it does not know. */
function decode(part: string, what: string): Uint8Array {
  const bytes = Buffer.from(part, 'base64url');
  if (bytes.toString('base64url') !== part) throw invalid(`the ${what} is not base64url`);
  return bytes;
}
