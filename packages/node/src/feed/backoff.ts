// How long to wait before the next connection, in milliseconds: exponential with full jitter. Pure.

const FIRST = 50;
/** A restart of the authority is over in a moment: for so many tries no wait is longer, or a change would come late. */
const BRIEF = 250;
const BRIEF_TRIES = 20;
const MOST = 5000;
/** For what only a person can mend: a missing scope, a wrong secret. */
const SLOW = 15_000;

/** After so many failures in a row before this one. */
export function backoff(failures: number, chance: number): number {
  const late = failures - BRIEF_TRIES;
  const bound = late < 0 ? Math.min(FIRST * 2 ** failures, BRIEF) : Math.min(BRIEF * 2 ** Math.min(late + 1, 16), MOST);
  return bound * chance;
}

export function slowBackoff(chance: number): number {
  return SLOW / 2 + (SLOW / 2) * chance;
}
