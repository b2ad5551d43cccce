import { mayBeSentTo, parseUrl, type Http } from '../http.js';
import { members, parseJson } from '../json.js';
import { monotonic } from '../time.js';
import { maxAge } from './schedule.js';
import { MAX_KEY_SET_LENGTH, parseKeySet, type VerifyingKey } from './set.js';

/** Longest wait for one answer, in milliseconds. */
const ANSWER_MS = 5000;
const MAX_METADATA_LENGTH = 64 * 1024;
/** Metadata is read again after so long, in milliseconds. */
const METADATA_LIFE = 3_600_000;

/** What of the metadata matters here (RFC 8414 §2). */
export interface Metadata {
  readonly jwksUri: URL;
  readonly tokenEndpoint: URL | undefined;
  readonly introspectionEndpoint: URL | undefined;
}

/** A key set as it came. */
export interface FetchedKeys {
  readonly keys: VerifyingKey[];
  readonly raw: Buffer;
  /** Milliseconds. */
  readonly maxAge: number | undefined;
}

/** Asks the issuer; remembers the metadata. */
export interface Fetcher {
  /** The key set as it is published now. Rejects with an `Error` that says why there is none. */
  keys(): Promise<FetchedKeys>;
  /** The metadata, read anew if it is old. */
  metadata(): Promise<Metadata>;
  /** The metadata that was read last. */
  readonly known: Metadata | undefined;
}

export function createFetcher(http: Http, issuer: string): Fetcher {
  const base = new URL(issuer);
  let known: Metadata | undefined;
  let due = 0;

  const get = async (url: URL, max: number): Promise<{ body: Buffer; maxAge: number | undefined }> => {
    if (!mayBeSentTo(url, base)) throw new Error('the metadata names a URL that may not be asked: without TLS');
    const headers = { Accept: 'application/json, application/jwk-set+json' };
    const answer = await http.ask({ method: 'GET', url, headers, timeoutMs: ANSWER_MS, background: true }, max);
    if (answer.status !== 200) throw new Answer(answer.status);
    const control = answer.headers['cache-control'];
    return { body: answer.body, maxAge: control === undefined ? undefined : maxAge(control, answer.headers.age) };
  };

  /** Of the first place that has metadata of this very issuer (RFC 8414 §3.3: or anybody could speak for it). */
  const readMetadata = async (): Promise<Metadata> => {
    let first: Error | undefined;
    for (const url of metadataUrls(issuer)) {
      try {
        return parseMetadata((await get(url, MAX_METADATA_LENGTH)).body, issuer);
      } catch (error) {
        if (!(error instanceof Answer)) throw error;
        first ??= error;
      }
    }
    throw first ?? new Error('the issuer is no URL');
  };

  const metadata = async (): Promise<Metadata> => {
    if (known !== undefined && monotonic() < due) return known;
    try {
      known = await readMetadata();
      due = monotonic() + METADATA_LIFE;
    } catch (error) {
      // What was true an hour ago is likely true now.
      if (known === undefined) throw error;
    }
    return known;
  };

  return {
    metadata,
    async keys() {
      try {
        const { body, maxAge } = await get((await metadata()).jwksUri, MAX_KEY_SET_LENGTH);
        const keys = await parseKeySet(body);
        // To trust nobody from now on is nothing that an issuer says in this way.
        if (keys.length === 0) throw new Error('no key of the key set can be used');
        return { keys, raw: body, maxAge };
      } catch (error) {
        // Perhaps the keys have moved: ask where they are before the next try.
        due = 0;
        throw error;
      }
    },
    get known() {
      return known;
    },
  };
}

/** An answer that is no metadata: the next place may have it. */
class Answer extends Error {
  constructor(what: number | string) {
    super(typeof what === 'number' ? `the authority answered with ${what}` : what);
  }
}

function parseMetadata(body: Uint8Array, issuer: string): Metadata {
  const said = members(parseJson(body));
  const jwksUri = parseUrl(said['jwks_uri']);
  if (said['issuer'] !== issuer) throw new Answer('the metadata is of another issuer');
  if (jwksUri === undefined) throw new Answer('the metadata is not what RFC 8414 has');
  return {
    jwksUri,
    tokenEndpoint: parseUrl(said['token_endpoint']),
    introspectionEndpoint: parseUrl(said['introspection_endpoint']),
  };
}

/**
 * Where an issuer's metadata may be: RFC 8414 §3.1, then OpenID Connect Discovery §4; last the place where an issuer with a
 * path serves it that has only that path to itself.
 */
export function metadataUrls(issuer: string): URL[] {
  const base = parseUrl(issuer);
  if (base === undefined) return [];
  const path = base.pathname.replace(/\/+$/, '');
  const at = (pathname: string): URL => {
    const url = new URL(base);
    url.pathname = pathname;
    return url;
  };
  const urls = [at(`/.well-known/oauth-authorization-server${path}`), at(`${path}/.well-known/openid-configuration`)];
  if (path !== '') urls.push(at(`${path}/.well-known/oauth-authorization-server`));
  return urls;
}
