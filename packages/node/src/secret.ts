// Keys given by hand: plain JWTs of any issuer, as koa-jwt takes them. No key set, no feed, no renewal.

import { createPublicKey, KeyObject } from 'node:crypto';
import { compactVerify } from 'jose';
import { tokenHash, type TokenCache } from './cache.js';
import { ConfigurationError, invalid } from './errors.js';
import { members, parseJson } from './json.js';
import { MAX_TOKEN_LENGTH, parseJws, type Jws } from './jws.js';
import { parsePayload, type Token } from './payload.js';
import { checkHeader, checkParties, checkTime, type Rules } from './rules.js';
import type { Secret, SecretSource } from './types.js';

/** Most keys that are tried. */
const MAX_SECRETS = 16;

/** Checks tokens with keys given by hand. Rejects with a `Fault`, or with what the function that finds keys throws. */
export interface SecretVerifier {
  check(text: string, secret?: SecretSource): Promise<Token>;
  /** How many keys there are, as far as that is known. */
  readonly keys: number;
}

/** A key, and the algorithms that it is for: nothing else keeps a public key from being taken for a shared secret. */
export interface SecretKey {
  readonly key: Uint8Array | KeyObject;
  readonly algorithms: readonly string[];
}

export function createSecretVerifier(
  secret: SecretSource,
  rules: Omit<Rules, 'algorithms'> & { algorithms: readonly string[] | undefined },
  { cache, now }: { cache: TokenCache; now: () => number },
): SecretVerifier {
  const given = typeof secret === 'function' ? undefined : readSecrets(secret);

  const keysFor = async (jws: Jws, of: SecretSource): Promise<SecretKey[]> => {
    if (typeof of !== 'function') return readSecrets(of);
    const payload = members(parseJson(jws.payload));
    const found = await of(jws.header.all, payload);
    try {
      return readSecrets(found);
    } catch (error) {
      if (error instanceof ConfigurationError) throw invalid('there is no usable key for it');
      throw error;
    }
  };

  const first = async (text: string, keys: SecretKey[] | undefined, of: SecretSource): Promise<Token> => {
    const jws = parseJws(text);
    const candidates = keys ?? (await keysFor(jws, of));
    const key = await signer(jws, candidates, rules.algorithms);
    checkHeader({ ...rules, algorithms: key.algorithms }, jws.header);
    const { registered, payload } = parsePayload(jws.payload);
    return { registered, payload, kid: jws.header.kid, key: '' };
  };

  const accept = (token: Token): Token => {
    const all: Rules = { ...rules, algorithms: [] };
    checkParties(all, token.registered);
    checkTime(all, token.registered, now());
    return token;
  };

  return {
    keys: given?.length ?? 1,
    async check(text, own) {
      if (text.length > MAX_TOKEN_LENGTH) throw invalid('the token is too long');
      const of = own ?? secret;
      // What a function finds may be another key next time, so nothing is remembered of its tokens.
      if (of !== secret || given === undefined) return accept(await first(text, undefined, of));
      const hash = tokenHash(text);
      const known = cache.get(hash);
      if (known !== undefined) return accept(known.token);
      const token = accept(await first(text, given, of));
      cache.put(hash, { token, generation: 0 });
      return token;
    },
  };
}

/** The key that signed it; as with several keys in koa-jwt, any will do. */
async function signer(jws: Jws, keys: SecretKey[], allowed: readonly string[] | undefined): Promise<SecretKey> {
  const { alg } = jws.header;
  if (allowed !== undefined && !allowed.includes(alg)) throw invalid('its algorithm is not accepted here');
  const fitting = keys.filter(({ algorithms }) => algorithms.includes(alg));
  if (fitting.length === 0) throw invalid('its algorithm is not that of the key');
  for (const key of fitting) {
    try {
      await compactVerify(jws.text, key.key, { algorithms: [alg] });
      return key;
    } catch {
      // Perhaps the next.
    }
  }
  throw invalid('the signature is wrong: the token was changed, or signed with another key');
}

/** Reads keys. Throws a {@link ConfigurationError} for what is none. */
export function readSecrets(secret: Secret | Secret[]): SecretKey[] {
  const secrets = Array.isArray(secret) ? secret : [secret];
  if (secrets.length === 0 || secrets.length > MAX_SECRETS)
    throw new ConfigurationError(`give 1 to ${MAX_SECRETS} secrets`);
  return secrets.map(readSecret);
}

function readSecret(secret: Secret): SecretKey {
  if (secret instanceof KeyObject) return secret.type === 'secret' ? shared(secret.export()) : asymmetric(secret);
  if (typeof secret !== 'string' && !(secret instanceof Uint8Array)) {
    throw new ConfigurationError('a secret is a text, bytes, or a KeyObject');
  }
  const bytes = typeof secret === 'string' ? Buffer.from(secret) : Buffer.from(secret);
  const parsed = parsePem(bytes);
  if (parsed !== undefined) return asymmetric(parsed);
  // A public key that is taken for a shared secret lets anybody sign.
  if (bytes.includes('-----BEGIN '))
    throw new ConfigurationError('the secret looks like a PEM key, and cannot be read as one');
  if (isPublicKey(bytes)) {
    throw new ConfigurationError('the secret is a public key in DER or JWK: give a KeyObject (crypto.createPublicKey)');
  }
  return shared(bytes);
}

/** In a form that is not read here: bytes of DER, their base64 (PEM without its frame), a JWK or a set of them. */
function isPublicKey(bytes: Buffer): boolean {
  const text = bytes.toString('latin1');
  if (/^\s*\{[^]*"kty"\s*:/.test(text)) return true;
  const decoded = /^[A-Za-z0-9+/=_\s-]+$/.test(text) ? [Buffer.from(text, 'base64')] : [];
  return [bytes, ...decoded].some((der) => isDer({ key: der, type: 'spki' }) || isDer({ key: der, type: 'pkcs1' }));
}

function shared(bytes: Uint8Array): SecretKey {
  if (bytes.length === 0) throw new ConfigurationError('the secret is empty');
  return { key: new Uint8Array(bytes), algorithms: ['HS256', 'HS384', 'HS512'] };
}

function parsePem(bytes: Buffer): KeyObject | undefined {
  try {
    return createPublicKey(bytes);
  } catch {
    return undefined;
  }
}

function isDer(of: { key: Buffer; type: 'spki' | 'pkcs1' }): boolean {
  try {
    createPublicKey({ ...of, format: 'der' });
    return true;
  } catch {
    return false;
  }
}

function asymmetric(given: KeyObject): SecretKey {
  // Of a private key its public half verifies.
  const key = given.type === 'private' ? createPublicKey(given) : given;
  const algorithms = algorithmsOf(key);
  if (algorithms === undefined) throw new ConfigurationError('the key is of a kind that no algorithm here is for');
  return { key, algorithms };
}

const PSS = ['PS256', 'PS384', 'PS512'];
const CURVES: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' };

function algorithmsOf({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): string[] | undefined {
  switch (type) {
    case 'rsa':
      return ['RS256', 'RS384', 'RS512', ...PSS];
    case 'rsa-pss':
      return PSS;
    case 'ec': {
      const algorithm = CURVES[details?.namedCurve ?? ''];
      return algorithm === undefined ? undefined : [algorithm];
    }
    case 'ed25519':
      return ['EdDSA'];
    default:
      return undefined;
  }
}
