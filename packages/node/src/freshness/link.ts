// Whether the feed is heard: pure, both clocks are arguments.

/** After so long without a word the feed counts as lost, in milliseconds. */
export const HEARTBEAT_LIMIT = 15_000;

/**
 * An instant by two clocks, milliseconds: the monotonic one stands still while a machine sleeps, the wall clock may be set
 * back. The feed is lost if either says so.
 */
export interface Moment {
  readonly monotonic: number;
  readonly wall: number;
}

/** What is known of the connection. */
export interface Link {
  /** Whether the feed had been lost before, the start aside. */
  caughtUp(now: Moment): boolean;
  /** An event or a heartbeat. On a connection that has not caught up it says nothing of what is missing. */
  heard(now: Moment): void;
  /** The connection is gone, or all events come again: what was heard before still counts for its time. */
  behind(): void;
  /** As before the first `caught-up`. */
  lose(): void;
  isLost(now: Moment): boolean;
  readonly isCaughtUp: boolean;
  readonly lastHeard: Moment | undefined;
}

export function createLink(): Link {
  let last: Moment | undefined;
  let isCaughtUp = false;
  let isKnown = false;
  const isLost = (now: Moment): boolean => last === undefined || since(last, now) > HEARTBEAT_LIMIT;
  return {
    isLost,
    caughtUp(now) {
      const isBack = isKnown && isLost(now);
      [last, isCaughtUp, isKnown] = [now, true, true];
      return isBack;
    },
    heard(now) {
      if (isCaughtUp) last = now;
    },
    behind() {
      isCaughtUp = false;
    },
    lose() {
      [last, isCaughtUp] = [undefined, false];
    },
    get isCaughtUp() {
      return isCaughtUp;
    },
    get lastHeard() {
      return last;
    },
  };
}

/** The longer of the times that the two clocks say have passed. */
export function since(earlier: Moment, now: Moment): number {
  return Math.max(now.monotonic - earlier.monotonic, now.wall - earlier.wall);
}
