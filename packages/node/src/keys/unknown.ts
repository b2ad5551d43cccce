import { tokenHash } from '../cache.js';

/** A name that a fresh set did not have is not asked for again for so long, in milliseconds. */
const MISSING_FOR = 60_000;
/** Most names that are remembered as missing. */
const MAX_MISSING = 1024;
/** Fetches for unknown keys are so far apart, in milliseconds. */
export const KEY_COOLDOWN = 10_000;

/** When a key that is not in the set is worth a fetch. Pure: `now` is milliseconds since some fixed instant. */
export interface Unknown {
  /** Not if a fresh set was seen not to have it, and at most once per cooldown whatever the names. */
  ask(kid: string | undefined, now: number): boolean;
  /** A set that was fetched just now does not have it. */
  isMissing(kid: string | undefined, now: number): void;
  readonly size: number;
}

export function createUnknown(cooldown: number = KEY_COOLDOWN): Unknown {
  // By the hash of the name: names are as long as an attacker likes.
  const missing = new Map<string, number>();
  let askedAt: number | undefined;
  const nameOf = (kid: string | undefined): string => (kid === undefined ? '' : tokenHash(kid));
  return {
    ask(kid, now) {
      const seen = missing.get(nameOf(kid));
      if (seen !== undefined && now < seen + MISSING_FOR) return false;
      if (askedAt !== undefined && now < askedAt + cooldown) return false;
      askedAt = now;
      return true;
    },
    isMissing(kid, now) {
      // At worst the cooldown alone holds until they are known again.
      if (missing.size >= MAX_MISSING) missing.clear();
      missing.set(nameOf(kid), now);
    },
    get size() {
      return missing.size;
    },
  };
}
