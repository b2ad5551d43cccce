// Waiting without keeping the process alive, and turns of a bounded number of calls.

/** Milliseconds since some fixed instant; stands still while the machine sleeps. */
export function monotonic(): number {
  return performance.now();
}

/** A long pause looks at the clocks so often. */
const STEP_MS = 15_000;

/**
 * Waits so long by the clock that is ahead: the monotonic one stands still while a machine sleeps. Ends early, without an
 * error, when the signal says so.
 */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  const [from, wall] = [monotonic(), Date.now()];
  while (!signal.aborted) {
    const left = ms - Math.max(monotonic() - from, Date.now() - wall);
    if (left <= 0) return;
    await sleep(Math.min(left, STEP_MS), signal);
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, Math.ceil(ms)).unref();
    signal.addEventListener('abort', end);
  });
}

/**
 * Calls `late` after so long, unless it is called off by what this returns. What has come by then is looked at first: a
 * process that was held up itself must not take it for missing. In the background it keeps no process alive.
 */
export function deadline(ms: number, late: () => void, background: boolean): () => void {
  let last: NodeJS.Immediate | undefined;
  const timer = setTimeout(() => {
    last = setImmediate(late);
  }, ms);
  if (background) timer.unref();
  return () => {
    clearTimeout(timer);
    clearImmediate(last);
  };
}

/** The value, or `otherwise` after so long. Somebody waits for it, so it keeps the process alive. */
export function atMost<T, O>(ms: number, work: Promise<T>, otherwise: O): Promise<T | O> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(otherwise), ms);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** Lets so many run at the same time; the others wait for their turn. */
export interface Turns {
  /** Undefined when too many wait already, or the turn did not come within `ms`. */
  take(ms: number): Promise<(() => void) | undefined>;
}

export function createTurns(max: number, maxWaiting: number): Turns {
  let running = 0;
  const waiting = new Set<(give: boolean) => void>();
  const giveBack = (): void => {
    const [next] = waiting;
    if (next === undefined) running--;
    else next(true);
  };
  /** Good for one giving back, however often it is called. */
  const turn = (): (() => void) => {
    let given = false;
    return () => {
      if (!given) giveBack();
      given = true;
    };
  };
  return {
    take(ms) {
      if (running < max) {
        running++;
        return Promise.resolve(turn());
      }
      if (waiting.size >= maxWaiting) return Promise.resolve(undefined);
      return new Promise((resolve) => {
        const end = (given: boolean): void => {
          clearTimeout(timer);
          waiting.delete(end);
          resolve(given ? turn() : undefined);
        };
        const timer = setTimeout(() => end(false), ms);
        waiting.add(end);
      });
    },
  };
}

/** A number in [0, 1): so that those who fail together do not come back together. */
export type Chance = () => number;
