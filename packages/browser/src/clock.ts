import type { Env } from './env.js';

/** The authority's clock, in Unix seconds. */
export interface Clock {
  now(): number;
  /** Seconds that only ever grow, for waits. */
  mono(): number;
  /** Takes the time from an answer: the `iat` of a token issued with it, else its `Date`. */
  hear(date: string | null, iat: number | undefined): void;
  /** How far the device is behind. */
  skew(): number;
  /** Starts with a skew measured before, until the authority is heard. */
  seed(skew: number): void;
}

/**
 * The device's clock counts only what has passed since the authority was heard last. A clock that is set back does not
 * stop that: the monotonic one counts on. One that is set forward looks like sleep; the next answer corrects it.
 */
export function createClock({ Date, performance }: Env): Clock {
  const wall = () => Date.now() / 1000;
  const mono = () => performance.now() / 1000;
  let heard = false;
  let drift = 0;
  let authority: number, atWall: number, atMono: number;
  const set = (to: number) => {
    authority = to;
    atWall = wall();
    atMono = mono();
  };
  const now = () => authority + Math.max(wall() - atWall, mono() - atMono);
  set(wall());
  return {
    now,
    mono,
    hear(date, iat) {
      const told = Date.parse(date ?? '') / 1000;
      // `Date` may come from a proxy; what `iat` says beside it is the measure.
      if (iat) drift = iat - told || 0;
      const to = iat ?? told + drift;
      if (to) {
        heard = true;
        set(to);
      }
    },
    skew: () => now() - wall(),
    seed(skew) {
      if (!heard) set(wall() + skew);
    },
  };
}
