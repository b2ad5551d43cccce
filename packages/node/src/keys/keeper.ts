import { cannotTell } from '../errors.js';
import type { Log } from '../log.js';
import { atMost, monotonic, pause, type Chance } from '../time.js';
import type { KeysHealth } from '../types.js';
import type { Fetcher } from './fetch.js';
import { afterFailure, afterSuccess, MAX_STALE } from './schedule.js';
import { hasName, usableKeys, type KeySet, type VerifyingKey } from './set.js';
import { createUnknown } from './unknown.js';

/** Longest wait for a key that is being fetched: two places of metadata and the set itself. Milliseconds. */
export const PATIENCE = 10_000;
/** Most names of withdrawn keys that are remembered beside those of the set. */
const MAX_WITHDRAWN = 1024;

/** The issuer's keys, kept fresh by one loop: whoever misses a key waits for it, and nobody else asks the issuer. */
export interface Keys {
  /** The keys that are good now. Throws a `Fault` while there are none. */
  current(): KeySet;
  /** A newer set than that one, for a token whose key it does not have; undefined if there is no such key. */
  newer(kid: string | undefined, generation: number): Promise<KeySet | undefined>;
  /** Resolves when a first fetch has ended, well or not. */
  firstRound(): Promise<void>;
  /** The feed told that keys were withdrawn, or was lost for a while: look at both. */
  changed(): void;
  health(): KeysHealth;
  close(): void;
}

/** What a keeper of keys needs. */
export interface KeysSource {
  readonly fetcher: Fetcher;
  /** Whether the feed has withdrawn the key of that name. */
  readonly isWithdrawn: (kid: string) => boolean;
  readonly log: Log;
  readonly chance: Chance;
}

export function keepKeys({ fetcher, isWithdrawn, log, chance }: KeysSource): Keys {
  const ending = new AbortController();
  const unknown = createUnknown();
  let withdrawn = new Set<string>();
  let set: KeySet | undefined;
  let generation = 0;
  let raw: Buffer | undefined;
  let fetchedAt: number | undefined;
  let failures = 0;
  /** The round that is under way or was the last, the last that somebody waits for, and the last that has ended. */
  let [round, wanted, done] = [0, 0, 0];
  let wasGood = false;
  let waiting: (() => void)[] = [];
  let wake = new AbortController();

  /** The next set. What was withdrawn stays so, should the issuer (or a cache on the way) still show it. */
  const replace = (keys: readonly VerifyingKey[]): void => {
    const names = keys.flatMap(({ kid }) => (kid === undefined ? [] : [kid]));
    const dead = new Set(names.filter((kid) => withdrawn.has(kid) || isWithdrawn(kid)));
    withdrawn = new Set([...(withdrawn.size > MAX_WITHDRAWN ? [] : withdrawn), ...dead]);
    set = { keys, withdrawn: dead, generation: ++generation };
  };

  /** Fetches once; how long to wait before the next time. */
  const fetch = async (): Promise<number> => {
    try {
      const fetched = await fetcher.keys();
      if (set === undefined || raw === undefined || !raw.equals(fetched.raw)) replace(fetched.keys);
      raw = fetched.raw;
      [fetchedAt, failures, wasGood] = [monotonic(), 0, true];
      return afterSuccess(fetched.maxAge, chance());
    } catch (error) {
      wasGood = false;
      failures++;
      if (fetchedAt === undefined || monotonic() - fetchedAt > MAX_STALE) set = undefined;
      if (!ending.signal.aborted)
        log.warn('keys', `the authority's keys could not be fetched: ${(error as Error).message}`);
      return afterFailure(failures, chance());
    }
  };

  const run = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      const number = ++round;
      wake = new AbortController();
      const wait = await fetch();
      done = number;
      const told = waiting;
      waiting = [];
      for (const resolve of told) resolve();
      if (wanted <= round) await pause(wait, AbortSignal.any([ending.signal, wake.signal]));
    }
  };

  /** Until that round has ended; false if it takes too long. */
  const ended = async (target: number): Promise<boolean> => {
    const end = (async () => {
      while (done < target) await new Promise<void>((resolve) => waiting.push(resolve));
      return true;
    })();
    return atMost(PATIENCE, end, false);
  };

  const current = (): KeySet => {
    if (set === undefined) throw cannotTell("the authority's keys could not be fetched");
    return set;
  };

  void run();
  return {
    current,
    async newer(kid, ofGeneration) {
      if (set !== undefined && set.generation !== ofGeneration && hasName(set, kid)) return set;
      let target = Math.max(wanted, round);
      if (target <= done) {
        if (!unknown.ask(kid, monotonic())) {
          if (wasGood) return undefined;
          throw cannotTell("the authority's keys could not be fetched");
        }
        target = wanted = round + 1;
        wake.abort();
      }
      // A round that has begun already may have been answered before the key was published.
      const isLater = target > round;
      if (!(await ended(target)) || !wasGood) throw cannotTell("the authority's keys could not be fetched");
      if (set !== undefined && hasName(set, kid)) return set;
      if (isLater) unknown.isMissing(kid, monotonic());
      return undefined;
    },
    async firstRound() {
      await ended(1);
    },
    changed() {
      if (set !== undefined) replace(set.keys);
      wake.abort();
    },
    health() {
      const health: KeysHealth = { given: false, usable: set === undefined ? 0 : usableKeys(set), failures };
      if (fetchedAt !== undefined) health.fetchedSecondsAgo = Math.floor((monotonic() - fetchedAt) / 1000);
      return health;
    },
    close() {
      ending.abort();
      // Nobody may wait for what will not come.
      wasGood = false;
      done = Infinity;
      for (const resolve of waiting) resolve();
    },
  };
}
