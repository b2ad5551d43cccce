import { calculateJwkThumbprint, compactVerify, importJWK, type CryptoKey, type JWK } from 'jose';
import { invalid } from '../errors.js';
import { parseObject, utf8 } from '../json.js';
import type { Jws, JwsHeader } from '../jws.js';

/** Longest key set that is read, in bytes. */
export const MAX_KEY_SET_LENGTH = 64 * 1024;
const MAX_KEYS = 100;
/** Most keys that are tried for a token without `kid`. */
const MAX_CANDIDATES = 8;

/** The algorithms of issuers' keys. */
export const ALGORITHMS = ['ES256', 'EdDSA', 'RS256'] as const;

/** A public key with the one algorithm that it verifies. */
export interface VerifyingKey {
  readonly algorithm: string;
  readonly kid: string | undefined;
  readonly thumbprint: string;
  readonly key: CryptoKey;
}

/** The keys that are good now. */
export interface KeySet {
  readonly keys: readonly VerifyingKey[];
  /** The names of those of them that were withdrawn. */
  readonly withdrawn: ReadonlySet<string>;
  /** Another number with every set. */
  readonly generation: number;
}

/** Reads a key set (RFC 7517 §5). Keys that are malformed, unknown or not for verifying are passed over. */
export async function parseKeySet(body: Uint8Array): Promise<VerifyingKey[]> {
  const text = utf8(body);
  const set = text === undefined ? undefined : parseObject(text, 64);
  const raw = set?.['keys'];
  if (!Array.isArray(raw) || raw.length > MAX_KEYS) throw new Error('the key set is not what RFC 7517 has');
  const usable: VerifyingKey[] = [];
  for (const jwk of raw as unknown[]) {
    const key = await parseKey(jwk);
    // The same key once more is no harm, and of no use.
    if (key !== undefined && !usable.some((other) => other.kid === key.kid && other.thumbprint === key.thumbprint)) {
      usable.push(key);
    }
  }
  // Which of two different keys with one name is meant cannot be known, so neither is used.
  const isTwin = (a: VerifyingKey, b: VerifyingKey): boolean =>
    a !== b && a.kid !== undefined && a.kid === b.kid && a.algorithm === b.algorithm;
  return usable.filter((key) => !usable.some((other) => isTwin(key, other)));
}

async function parseKey(value: unknown): Promise<VerifyingKey | undefined> {
  if (typeof value !== 'object' || value === null) return undefined;
  const jwk = value as JWK;
  const algorithm = algorithmOf(jwk);
  if (algorithm === undefined || !isForVerifying(jwk) || (jwk.kid !== undefined && typeof jwk.kid !== 'string'))
    return undefined;
  try {
    // Public members only, whatever else stands there.
    const { kty, crv, x, y, n, e } = jwk;
    const bare = JSON.parse(JSON.stringify({ kty, crv, x, y, n, e })) as JWK;
    const [key, thumbprint] = await Promise.all([importJWK(bare, algorithm), calculateJwkThumbprint(bare)]);
    if (key instanceof Uint8Array || isWeak(key)) return undefined;
    return { algorithm, kid: jwk.kid, thumbprint, key };
  } catch {
    return undefined;
  }
}

function algorithmOf({ kty, crv, alg }: JWK): string | undefined {
  const own =
    kty === 'EC' && crv === 'P-256'
      ? 'ES256'
      : kty === 'OKP' && crv === 'Ed25519'
        ? 'EdDSA'
        : kty === 'RSA'
          ? 'RS256'
          : undefined;
  const said = alg === 'Ed25519' ? 'EdDSA' : alg;
  return said === undefined || said === own ? own : undefined;
}

function isForVerifying({ use, key_ops }: JWK): boolean {
  return (
    (use === undefined || use === 'sig') &&
    (key_ops === undefined || (Array.isArray(key_ops) && key_ops.includes('verify')))
  );
}

/** RFC 7518 §3.3: 2048 bits at least. */
function isWeak({ algorithm }: CryptoKey): boolean {
  return 'modulusLength' in algorithm && Number(algorithm.modulusLength) < 2048;
}

/** Whether there is a key that a token with this header may be of. */
export function mayHaveSigned(set: KeySet, header: JwsHeader): boolean {
  return set.keys.some((key) => isCandidate(key, header));
}

function isCandidate(key: VerifyingKey, { kid, alg }: JwsHeader): boolean {
  return kid === undefined ? key.algorithm === alg : key.kid === kid;
}

/** Whether a key of this name is in the set; without a name, whether any is. */
export function hasName(set: KeySet, kid: string | undefined): boolean {
  return kid === undefined || set.keys.some((key) => key.kid === kid);
}

/** Whether the key of this thumbprint is in the set and was not withdrawn. */
export function hasKey(set: KeySet, thumbprint: string): boolean {
  return set.keys.some((key) => key.thumbprint === thumbprint && !isDead(set, key));
}

/** How many can be used. */
export function usableKeys(set: KeySet): number {
  return set.keys.filter((key) => !isDead(set, key)).length;
}

function isDead(set: KeySet, key: VerifyingKey): boolean {
  return key.kid !== undefined && set.withdrawn.has(key.kid);
}

/** Checks the signature, by the key that the header names and only with that key's algorithm; the key that made it. */
export async function verifySignature(set: KeySet, jws: Jws): Promise<VerifyingKey> {
  const candidates = set.keys.filter((key) => isCandidate(key, jws.header));
  if (candidates.length === 0) throw invalid('no usable key is of its `kid` and algorithm');
  const fitting = candidates.filter((key) => key.algorithm === jws.header.alg);
  if (fitting.length === 0) throw invalid('its key is for another algorithm');
  if (fitting.length > MAX_CANDIDATES) throw invalid('it has no `kid`, and too many keys may be meant');
  for (const key of fitting) {
    if (!(await isSignedBy(jws, key))) continue;
    if (isDead(set, key)) throw invalid('the key that signed the token was withdrawn');
    return key;
  }
  throw invalid('the signature is wrong: the token was changed, or signed with another key');
}

async function isSignedBy(jws: Jws, key: VerifyingKey): Promise<boolean> {
  try {
    await compactVerify(jws.text, key.key, { algorithms: [key.algorithm] });
    return true;
  } catch {
    return false;
  }
}
