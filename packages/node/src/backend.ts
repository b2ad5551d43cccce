// What a guard is made of, for each of the two kinds of settings.

import { createAdmission, type Admitted } from './admission.js';
import { createCache } from './cache.js';
import { createCookieExchange } from './cookie.js';
import { Fault, invalid } from './errors.js';
import { feedAuthority } from './feed/authority.js';
import { followFeed, type Feed } from './feed/feed.js';
import { createHttp, under } from './http.js';
import { createIntrospector } from './introspect.js';
import { createFetcher } from './keys/fetch.js';
import { keepKeys, PATIENCE } from './keys/keeper.js';
import { createLog } from './log.js';
import type { AuthoritySettings, SecretSettings } from './options.js';
import { Refusal } from './refusal.js';
import { createRenewer } from './renew.js';
import { createSecretVerifier } from './secret.js';
import { atMost, monotonic } from './time.js';
import type { GuardedRequest, Health, SecretSource } from './types.js';
import { createVerifier } from './verifier.js';

/** Judges credentials. Rejects with a `Fault`, or with a `Refusal` that a function of the user's threw. */
export interface Backend {
  ready(): Promise<void>;
  token(text: string, request: GuardedRequest): Promise<Admitted>;
  /** Undefined: there is none that is looked at. */
  cookie(request: GuardedRequest): Promise<Admitted | undefined>;
  health(): Health;
  close(): void;
}

/** For tokens of the authority: starts to fetch keys and to follow the feed. */
export function startAuthorityBackend(settings: AuthoritySettings): Backend {
  const { issuer, audience, algorithms, client, onFeedLost, timeoutMs, now } = settings;
  const log = createLog(settings.log, monotonic);
  const http = createHttp();
  const fetcher = createFetcher(http, issuer);
  let feed: Feed | undefined;
  const keys = keepKeys({ fetcher, isWithdrawn: (kid) => feed?.isWithdrawn(kid) ?? false, log, chance: Math.random });
  if (client !== undefined) {
    const authority = feedAuthority(http, issuer, client, fetcher);
    feed = followFeed({ authority, now, onKeysChanged: keys.changed, log, chance: Math.random });
  } else {
    log.warn(
      'no feed',
      'there is no feed without `client`: revocations and changed claims are seen when a token expires',
    );
  }
  const introspector =
    client === undefined ? undefined : createIntrospector({ http, issuer, client, fetcher, timeoutMs, log });
  const rules = { issuer, audience, algorithms, accessTokens: true, leeway: settings.leeway };
  const cache = createCache(settings.cacheSize);
  const verifier = createVerifier({ rules, keys, cache, feed, onFeedLost, introspector, now });
  const renewer = createRenewer({ http, url: under(issuer, '/v1/session/renew'), timeoutMs, now, log });
  const cookies = settings.sessionCookie
    ? createCookieExchange(http, under(issuer, '/gateway/verify'), timeoutMs, log)
    : undefined;
  const admission = createAdmission({ ...settings, verifier, renewer, cookies, now, log });

  let isReady = false;
  let becoming: Promise<void> | undefined;
  const ready = (): Promise<void> => {
    becoming ??= atMost(PATIENCE, Promise.all([keys.firstRound(), feed?.began()]), undefined).then(() => {
      isReady = true;
    });
    return becoming;
  };

  return {
    ready,
    async token(text) {
      // So that what ended before this service came is known to it.
      if (!isReady) await ready();
      return admission.token(text);
    },
    async cookie(request) {
      if (!isReady && cookies !== undefined) await ready();
      return admission.cookie(request);
    },
    health() {
      const [known, told] = [keys.health(), feed?.health()];
      const refuses = told?.lost === true && onFeedLost === 'refuse';
      const health: Health = { ready: known.usable > 0 && !refuses, issuer, keys: known };
      if (told !== undefined) health.feed = told;
      return health;
    },
    close() {
      feed?.close();
      keys.close();
      http.close();
    },
  };
}

/** For tokens of keys given by hand. */
export function createSecretBackend(settings: SecretSettings): Backend {
  const { secret, issuer, audience, algorithms, leeway, now } = settings;
  const rules = { issuer, audience, algorithms, accessTokens: false, leeway };
  const verifier = createSecretVerifier(secret, rules, { cache: createCache(settings.cacheSize), now });

  const check = async (text: string, own: SecretSource | undefined): Promise<Admitted> => {
    try {
      const token = await verifier.check(text, own);
      return { held: { token, text, renewed: false, setCookie: [] }, reseal: async () => undefined };
    } catch (error) {
      if (error instanceof Fault || error instanceof Refusal) throw error;
      // As koa-jwt has it: a function that finds no key has refused the token.
      throw invalid('there is no key for it', error);
    }
  };

  return {
    ready: async () => {},
    token: (text, request) => check(text, request.secret),
    cookie: async () => undefined,
    health: () => ({ ready: true, keys: { given: true, usable: verifier.keys, failures: 0 } }),
    close: () => {},
  };
}
