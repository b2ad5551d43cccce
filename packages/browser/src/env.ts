import { unavailable } from './error.js';

/** What of the page is touched: `globalThis`, or a made-up page in tests. What servers lack is optional. */
export type Env = Pick<typeof globalThis, 'fetch' | 'setTimeout' | 'clearTimeout' | 'performance' | 'Date' | 'Math'> &
  Partial<
    Pick<
      typeof globalThis,
      | 'document'
      | 'location'
      | 'navigator'
      | 'localStorage'
      | 'sessionStorage'
      | 'BroadcastChannel'
      | 'addEventListener'
      | 'removeEventListener'
    >
  >;

/** Bounds every wait: rejects with `unavailable` after these seconds, and tells the work by its signal. */
export const within = <T>(env: Env, seconds: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    const stop = new AbortController();
    const timer = env.setTimeout(() => {
      stop.abort();
      reject(unavailable());
    }, seconds * 1000);
    work(stop.signal)
      .then(resolve, reject)
      .finally(() => env.clearTimeout(timer));
  });

export const pause = (env: Env, seconds: number) =>
  new Promise<void>((resolve) => env.setTimeout(resolve, seconds * 1000));

export const noop = () => {};
