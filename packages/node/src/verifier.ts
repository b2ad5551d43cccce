// Signature, claims, feed.

import { tokenHash, type TokenCache } from './cache.js';
import { cannotTell, ended, invalid } from './errors.js';
import type { Feed } from './feed/feed.js';
import type { Facts, Judgement } from './freshness/freshness.js';
import type { Introspector } from './introspect.js';
import { MAX_TOKEN_LENGTH, parseJws } from './jws.js';
import type { Keys } from './keys/keeper.js';
import { hasKey, mayHaveSigned, verifySignature } from './keys/set.js';
import { parsePayload, type Token } from './payload.js';
import { checkHeader, checkParties, checkTime, type Rules } from './rules.js';
import type { OnFeedLost } from './types.js';

/** A token that is good, and whether a newer one would say something else. */
export interface Checked {
  readonly token: Token;
  /** The user or the client has changed since it was issued. */
  readonly stale: boolean;
}

/** Checks tokens. Rejects with a `Fault`. */
export interface Verifier {
  check(text: string): Promise<Checked>;
  /**
   * Whether a token is stale only because its client changed in the second that it was issued in: `iat` knows no parts of
   * it.
   */
  isOfTheSecondOfTheChange(token: Token): boolean;
}

export interface VerifierParts {
  readonly rules: Rules;
  readonly keys: Keys;
  readonly cache: TokenCache;
  readonly feed: Feed | undefined;
  readonly onFeedLost: OnFeedLost;
  readonly introspector: Introspector | undefined;
  /** Unix seconds, rounded down. */
  readonly now: () => number;
}

/** Most first checks that are shared by those who come with the same token meanwhile. */
const MAX_PENDING = 4096;

interface Good {
  readonly token: Token;
  /** Of the keys that it is good under. */
  readonly generation: number;
}

export function createVerifier({ rules, keys, cache, feed, onFeedLost, introspector, now }: VerifierParts): Verifier {
  const pending = new Map<string, Promise<Good>>();

  /** A token that was not seen before. */
  const first = async (text: string): Promise<Good> => {
    const jws = parseJws(text);
    checkHeader(rules, jws.header);
    let set = keys.current();
    if (!mayHaveSigned(set, jws.header)) set = (await keys.newer(jws.header.kid, set.generation)) ?? set;
    const key = await verifySignature(set, jws);
    // Only now is it worth reading: somebody we trust wrote it.
    const { registered, payload } = parsePayload(jws.payload);
    checkParties(rules, registered);
    checkTime(rules, registered, now());
    return { token: { registered, payload, kid: key.kid, key: key.thumbprint }, generation: set.generation };
  };

  /** One check for all who come with it at the same time. */
  const shared = (hash: string, text: string): Promise<Good> => {
    const running = pending.get(hash);
    if (running !== undefined) return running;
    const check = first(text);
    if (pending.size >= MAX_PENDING) return check;
    pending.set(hash, check);
    const end = (): boolean => pending.delete(hash);
    check.then(end, end);
    return check;
  };

  /** Of the cache, if its key is still good. */
  const remembered = (hash: string): Token | undefined => {
    const found = cache.get(hash);
    if (found === undefined) return undefined;
    const set = keys.current();
    if (found.generation === set.generation) return found.token;
    if (hasKey(set, found.token.key)) {
      cache.put(hash, { token: found.token, generation: set.generation });
      return found.token;
    }
    cache.remove(hash);
    return undefined;
  };

  /** Everything but the feed. */
  const local = async (text: string): Promise<Token> => {
    // Before anything is made of it: a long text costs nothing.
    if (text.length > MAX_TOKEN_LENGTH) throw invalid('the token is too long');
    const hash = tokenHash(text);
    const known = remembered(hash);
    if (known !== undefined) {
      checkParties(rules, known.registered);
      checkTime(rules, known.registered, now());
      return known;
    }
    const good = await shared(hash, text);
    cache.put(hash, good);
    return good.token;
  };

  /** By what the feed told: whether it is stale. */
  const judge = (token: Token): boolean => {
    const judgement = feed?.judge(factsOf(token));
    if (judgement?.kind === 'ended') throw ended(judgement.reason);
    if (judgement?.kind === 'withdrawn') throw invalid('the key that signed the token was withdrawn');
    return judgement?.kind === 'stale';
  };

  const isLost = (): boolean => feed !== undefined && feed.isLost();

  return {
    async check(text) {
      const token = await local(text);
      const lost = onFeedLost !== 'accept' && isLost();
      const stale = judge(token);
      if (!lost) return { token, stale };
      if (onFeedLost === 'refuse' || introspector === undefined) throw cannotTell('the feed is lost');
      return { token, stale: (await introspector.ask(text, token)) || stale };
    },
    isOfTheSecondOfTheChange(token) {
      // While the feed is lost it may be the authority that called it stale, and it knows no such doubt.
      if (feed === undefined || isLost()) return false;
      const facts = factsOf(token);
      const judged = (iat: number | undefined): Judgement['kind'] => feed.judge({ ...facts, iat }).kind;
      return judged(facts.iat) === 'stale' && facts.iat !== undefined && judged(facts.iat + 1) === 'current';
    },
  };
}

function factsOf({ registered, kid }: Token): Facts {
  const { sid, sub, rev, clientId, iat } = registered;
  return { kid, sid, sub, rev, clientId, iat };
}
