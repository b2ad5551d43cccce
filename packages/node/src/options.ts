// Settings, checked whole before a guard starts.

import { MAX_CACHE } from './cache.js';
import { ConfigurationError } from './errors.js';
import { mayAsk, parseUrl } from './http.js';
import { ALGORITHMS } from './keys/set.js';
import type { GuardOptions, Logger, OnFeedLost, OnStale, SecretSource } from './types.js';

const DEFAULT_LEEWAY = 5;
const MAX_LEEWAY = 60;
const DEFAULT_CACHE = 10_000;
const DEFAULT_TIMEOUT = 3;
const MAX_TIMEOUT = 60;

/** What every guard has. */
interface Common {
  readonly audience: readonly string[] | undefined;
  readonly leeway: number;
  readonly passthrough: boolean;
  readonly realm: string | undefined;
  readonly cacheSize: number;
  readonly timeoutMs: number;
  /** Unix seconds, rounded down. */
  readonly now: () => number;
  readonly log: Logger | undefined;
}

/** For tokens of the authority. */
export interface AuthoritySettings extends Common {
  readonly secret?: undefined;
  readonly issuer: string;
  readonly audience: readonly string[];
  readonly algorithms: readonly string[];
  readonly client: { readonly id: string; readonly secret: string } | undefined;
  readonly sliding: boolean;
  readonly onStale: OnStale;
  readonly onFeedLost: OnFeedLost;
  readonly sessionCookie: boolean;
}

/** For tokens of keys given by hand. */
export interface SecretSettings extends Common {
  readonly secret: SecretSource;
  readonly issuer: string | undefined;
  readonly algorithms: readonly string[] | undefined;
}

export type Settings = AuthoritySettings | SecretSettings;

/** Throws a {@link ConfigurationError} that says what is wrong. */
export function readOptions(options: GuardOptions<never>): Settings {
  const common: Common = {
    audience: readAudience(options.audience),
    leeway: readLeeway(options.clockTolerance, options.secret === undefined ? DEFAULT_LEEWAY : 0),
    passthrough: flag('passthrough', options.passthrough, false),
    realm: readRealm(options.realm),
    cacheSize: whole('cacheSize', options.cacheSize, DEFAULT_CACHE, [0, MAX_CACHE]),
    timeoutMs: readTimeout(options.timeout) * 1000,
    now: clock(options.now ?? Date.now),
    log: options.log,
  };
  return options.secret === undefined
    ? forAuthority(options, common)
    : forSecret(options, options.secret as SecretSource, common);
}

function forAuthority(options: GuardOptions<never>, common: Common): AuthoritySettings {
  const { issuer, client } = options;
  if (issuer === undefined)
    throw new ConfigurationError('name the `issuer`: the URL of the authority whose tokens are accepted');
  if (common.audience === undefined) {
    throw new ConfigurationError('name the `audience`: a token must be for this resource server (RFC 9068 §4)');
  }
  checkIssuer(issuer);
  if (client !== undefined && (!isText(client.id) || !isText(client.secret))) {
    throw new ConfigurationError('`client` has an `id` and a `secret`');
  }
  const onFeedLost = oneOf('onFeedLost', options.onFeedLost, ['accept', 'introspect', 'refuse'] as const);
  if (onFeedLost !== 'accept' && client === undefined) {
    throw new ConfigurationError(
      `\`onFeedLost: '${onFeedLost}'\` needs a \`client\`: without one there is no feed to lose`,
    );
  }
  return {
    ...common,
    issuer,
    audience: common.audience,
    algorithms: readAlgorithms(options.algorithms, ALGORITHMS) ?? ALGORITHMS,
    client: client === undefined ? undefined : { id: client.id, secret: client.secret },
    sliding: flag('sliding', options.sliding, true),
    onStale: oneOf('onStale', options.onStale, ['renew', 'refuse'] as const),
    onFeedLost,
    sessionCookie: flag('sessionCookie', options.sessionCookie, false),
  };
}

function forSecret(options: GuardOptions<never>, secret: SecretSource, common: Common): SecretSettings {
  const contradicts = (name: string, why: string): ConfigurationError =>
    new ConfigurationError(
      `\`secret\` and \`${name}\` contradict each other: ${why}. Leave \`secret\` out, or \`${name}\``,
    );
  if (options.client !== undefined)
    throw contradicts('client', 'the feed tells of tokens of the authority, which its own keys verify');
  if (options.sliding === true)
    throw contradicts('sliding', 'only the authority renews, and it signs with its own keys');
  if (options.sessionCookie === true)
    throw contradicts('sessionCookie', 'it is exchanged for a token that the authority signs');
  if (options.onFeedLost !== undefined) throw contradicts('onFeedLost', 'there is no feed');
  if (options.onStale !== undefined) throw contradicts('onStale', 'without a feed no token is known to be stale');
  if (options.issuer !== undefined && !isText(options.issuer)) throw new ConfigurationError('the `issuer` is a text');
  const algorithms = readAlgorithms(options.algorithms, SECRET_ALGORITHMS);
  return { ...common, secret, issuer: options.issuer, algorithms };
}

const SECRET_ALGORITHMS = ['HS', 'RS', 'PS', 'ES']
  .flatMap((kind) => ['256', '384', '512'].map((bits) => kind + bits))
  .concat('EdDSA');

function checkIssuer(issuer: unknown): asserts issuer is string {
  const url = parseUrl(issuer);
  if (url === undefined) throw new ConfigurationError('the `issuer` is not a URL');
  if (url.search !== '' || url.hash !== '') throw new ConfigurationError('the `issuer` has a query or a fragment');
  if (url.username !== '' || url.password !== '')
    throw new ConfigurationError('the `issuer` has a user name or a password');
  if (!mayAsk(url)) throw new ConfigurationError('the `issuer` must be https; http is for this machine only');
}

function readAudience(audience: string | string[] | undefined): readonly string[] | undefined {
  if (audience === undefined) return undefined;
  const names = Array.isArray(audience) ? [...audience] : [audience];
  if (names.length === 0 || !names.every(isText)) throw new ConfigurationError('the `audience` is a name, or several');
  return names;
}

function readAlgorithms(given: readonly string[] | undefined, known: readonly string[]): readonly string[] | undefined {
  if (given === undefined) return undefined;
  if (!Array.isArray(given) || given.length === 0)
    throw new ConfigurationError('the list of `algorithms` is empty: no token could be accepted');
  for (const algorithm of given) {
    if (known.includes(algorithm)) continue;
    throw new ConfigurationError(`the algorithm ${JSON.stringify(algorithm)} is none of ${known.join(', ')}`);
  }
  return [...given];
}

function readLeeway(seconds: number | undefined, otherwise: number): number {
  return whole('clockTolerance', seconds, otherwise, [0, MAX_LEEWAY]);
}

function readTimeout(seconds: number | undefined): number {
  if (seconds === undefined) return DEFAULT_TIMEOUT;
  if (typeof seconds === 'number' && seconds > 0 && seconds <= MAX_TIMEOUT) return seconds;
  throw new ConfigurationError(`\`timeout\` is a number of seconds, ${MAX_TIMEOUT} at most`);
}

function readRealm(realm: string | undefined): string | undefined {
  if (realm === undefined || typeof realm === 'string') return realm;
  throw new ConfigurationError('the `realm` is a text');
}

function clock(now: () => number): () => number {
  if (typeof now !== 'function') throw new ConfigurationError('`now` is a function that tells milliseconds');
  return () => Math.floor(now() / 1000);
}

function whole(name: string, value: number | undefined, otherwise: number, [least, most]: [number, number]): number {
  if (value === undefined) return otherwise;
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new ConfigurationError(`\`${name}\` is a whole number from ${least} to ${most}`);
}

function flag(name: string, value: boolean | undefined, otherwise: boolean): boolean {
  if (value === undefined || typeof value === 'boolean') return value ?? otherwise;
  throw new ConfigurationError(`\`${name}\` is true or false`);
}

/** The first is the default. */
function oneOf<T extends string>(name: string, value: T | undefined, values: readonly [T, ...T[]]): T {
  if (value === undefined) return values[0];
  if (values.includes(value)) return value;
  throw new ConfigurationError(`\`${name}\` is one of ${values.map((one) => `'${one}'`).join(', ')}`);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}
