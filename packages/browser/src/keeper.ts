import type { Clock } from './clock.js';
import { type Env, unavailable, within } from './env.js';
import { type Held, choose, format, parse } from './tokens.js';
import type { SessionOptions, TokenStorage } from './types.js';

/** Keeps what is held, here and in the storage that tabs share. */
export interface Keeper {
  readonly held: Held | null;
  /** Reads the storage again, decides, writes: one at a time. Rejects with `unavailable` if it cannot be read. */
  update(decide: (held: Held | null) => Held | null, reason?: string): Promise<Held | null>;
  /** Runs alone across tabs; without a lock when it does not come in time. */
  locked<T>(work: () => Promise<T>): Promise<T>;
  /** Whether tabs see each other's records. */
  readonly shared: boolean;
}

export interface KeeperSettings {
  key: string;
  env: Env;
  clock: Clock;
  place: TokenStorage | undefined;
  /** Whether `place` answers at its leisure and tabs may come between. */
  slow: boolean;
  locks: LockManager | null | undefined;
  options: SessionOptions;
  changed(next: Held | null, previous: Held | null, reason: string): void;
}

export function createKeeper({ key, env, clock, place, slow, locks, options, changed }: KeeperSettings): Keeper {
  const { timeout = 10, lockTimeout = 3 } = options;
  let held: Held | null = null;
  let seen: string | null = null;
  let gone: string | undefined;
  let queue: Promise<unknown> = Promise.resolve();

  const locked = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    if (!locks) return work();
    const stop = new AbortController();
    const timer = env.setTimeout(() => stop.abort(), lockTimeout * 1000);
    let running = false;
    try {
      return await locks.request(name, { signal: stop.signal }, () => {
        env.clearTimeout(timer);
        running = true;
        return work();
      });
    } catch (error) {
      if (running) throw error;
      // Held by a tab that sleeps, or no locks in this kind of page. The authority repeats the successor.
      env.clearTimeout(timer);
      return work();
    }
  };

  const step = async (decide: (held: Held | null) => Held | null, reason: string) => {
    let stored = held;
    let text = seen;
    if (place) {
      try {
        const value = place.get();
        text = typeof value === 'string' || !value ? value : await within(env, timeout, async () => value);
      } catch {
        throw unavailable('The storage cannot be read.');
      }
      if (text !== seen) {
        const record = parse(text);
        if (record) clock.seed(record.skew ?? 0);
        stored = record;
      }
    }
    const next = decide(place ? choose(held, stored, gone) : held);
    if (place && next !== stored) {
      text = next && format(next, clock.skew());
      try {
        await place.set(text);
      } catch {
        // Full, or not allowed: this tab keeps it by itself.
        place = undefined;
      }
    }
    const previous = held;
    seen = text;
    held = next;
    if (next?.session.id !== previous?.session.id) gone = previous?.session.id;
    if (next !== previous) changed(next, previous, reason);
    return next;
  };

  return {
    get held() {
      return held;
    },
    get shared() {
      return !!place;
    },
    update(decide, reason = 'signed_out') {
      const turn = queue.then(() => (slow ? locked(key + ':w', () => step(decide, reason)) : step(decide, reason)));
      queue = turn.catch(() => {});
      return turn;
    },
    locked: (work) => locked(key, work),
  };
}

/** The storage that was asked for; none where the browser does not let us. */
export function placeOf({ storage, mode }: SessionOptions, env: Env, key: string): TokenStorage | undefined {
  if (mode === 'cookie' || !storage || storage === 'memory') return;
  if (typeof storage === 'object') return storage;
  try {
    const area = storage === 'local' ? env.localStorage! : env.sessionStorage!;
    area.getItem(key);
    return {
      get: () => area.getItem(key),
      set: (value) => (value === null ? area.removeItem(key) : area.setItem(key, value)),
      subscribe(changed) {
        const listener = (event: StorageEvent) => {
          if (!event.key || event.key === key) changed();
        };
        env.addEventListener?.('storage', listener);
        return () => env.removeEventListener?.('storage', listener);
      },
    };
  } catch {
    return;
  }
}
