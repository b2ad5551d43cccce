// The time by the authority. In production both run by the same clock; in development mode the authority's can be moved
// forward by hand, and this app has to follow, or it would refuse its tokens as issued in the future.

/**
 * @typedef {object} Clock
 * @property {() => number} now milliseconds since 1970
 * @property {(seconds: number) => void} set how far the authority is ahead of this machine, by its answer to a move
 * @property {(date: string | null) => void} learn from the `Date` header of one of its answers
 */

/** @param {{ follow: boolean, system?: () => number }} options @returns {Clock} */
export function createClock({ follow, system = Date.now }) {
  // Only forward, as the authority's goes: an answer that was under way during a move is older than the move.
  let ahead = 0;
  const now = () => system() + ahead;
  return {
    now,
    set: (seconds) => {
      if (follow) ahead = Math.max(ahead, seconds * 1000);
    },
    learn: (date) => {
      const theirs = date === null ? NaN : Date.parse(date);
      // The header has whole seconds, and was some time under way: what is closer than this is no difference.
      if (follow && theirs - now() > 2500) ahead = theirs + 500 - system();
    },
  };
}
