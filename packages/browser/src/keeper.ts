import { type Env, noop, within } from './env.js';
import { unavailable } from './error.js';
import type { State } from './state.js';
import { choose, format, type Held, parse } from './tokens.js';
import type { SessionOptions, TokenStorage } from './types.js';

type Decide = (held: Held | null) => Held | null;

/** Keeps what is held, here and in the storage that tabs share. */
export interface Keeper {
  held: Held | null;
  /** Reads the storage again, decides, writes: one at a time. Rejects with `unavailable` if it cannot be read. */
  update(decide?: Decide, reason?: string): Promise<Held | null>;
}

/** Hears of every change of what is held. */
export type Changed = (held: Held | null, before: Held | null, reason: string) => void;
/** Runs alone across tabs. */
export type Locked = (work: () => Promise<void>) => Promise<void>;

export function createKeeper(state: State, changed: Changed) {
  const { env, clock, limit } = state;
  let storage = state.shelf;
  let seen: string | null = null;
  let queue: Promise<unknown> = Promise.resolve();
  state.held = null;

  const step = async (decide: Decide, reason: string) => {
    const before = state.held;
    let stored = before;
    let text = seen;
    if (storage) {
      try {
        text = await within(env, limit, async () => storage!.get());
      } catch {
        throw unavailable();
      }
      if (text !== seen) {
        stored = parse(text);
        if (stored) clock.seed(stored.skew!);
      }
    }
    const held = decide(storage ? choose(before, stored, state.gone) : before);
    if (storage && held !== stored) {
      text = held && format(held, clock.skew());
      try {
        await within(env, limit, async () => storage!.set(text));
      } catch {
        // Full, or not allowed: this tab keeps it by itself.
        storage = undefined;
      }
    }
    seen = text;
    if (held !== before) {
      state.held = held;
      changed(held, before, reason);
    }
    return held;
  };

  state.update = (decide = (held) => held, reason = 'signed_out') => {
    const turn = queue.then(() => step(decide, reason));
    queue = turn.catch(noop);
    return turn;
  };
}

/** Runs work under a lock across tabs, and without one when it does not come in time. */
export function createLocked(env: Env, label: string, locks: LockManager | null | undefined, timeout: number): Locked {
  return (work) => {
    if (!locks) return work();
    let running: Promise<void> | undefined;
    const run = () => (running ??= work());
    // Held by a tab that sleeps, or no locks in this kind of page: the authority repeats the successor. Whoever has the
    // lock by then only goes on waiting for his work.
    return within(env, timeout, (signal) => locks.request(label, { signal }, run) as unknown as Promise<void>).catch(
      run,
    );
  };
}

/** The storage that was asked for; none where there is none of that name, or the browser does not let us. */
export function storageOf({ storage }: SessionOptions, env: Env, key: string): TokenStorage | undefined {
  if (typeof storage === 'object') return storage;
  try {
    const area = env[`${storage as 'local'}Storage`]!;
    area.getItem(key);
    return {
      get: () => area.getItem(key),
      set: (text) => (text === null ? area.removeItem(key) : area.setItem(key, text)),
    };
  } catch {
    return;
  }
}
