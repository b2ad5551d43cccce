import { noop, pause } from './env.js';
import type { State } from './state.js';

/** What tabs tell each other. Only `record` holds tokens; it is sent with storage `'session'` and from nowhere else. */
export interface Message {
  /** The user (`sub`) signed out; with `sid`: of that session only. */
  out?: string;
  sid?: string;
  reason?: string;
  /** The claims of `sub` have changed: the least revision that is good. */
  rev?: number;
  sub?: string;
  /** Whoever owns this session is to send its record; he renews first unless it is newer than `generation`. */
  ask?: string;
  generation?: number;
  /** The record of him who owns the session. */
  record?: string;
}

/** The other tabs of this client; undefined where the browser has no channels. */
export function openChannel(state: State): BroadcastChannel | undefined {
  try {
    const channel = new state.env.BroadcastChannel!(state.label);
    channel.onmessage = ({ data }) => data && state.heard(data).catch(noop);
    // On Node it would keep the process alive.
    (channel as { unref?(): void }).unref?.();
    return channel;
  } catch {
    return;
  }
}

/** Which of the tabs that were duplicated from one another may present the session's refresh token. */
export interface Owner {
  owns: boolean;
  /** Asks to own this session, and waits for its turn. */
  claim(sid: string): void;
  /** Gives it up, or stops waiting. */
  release(): void;
}

/** Seconds in which the other tabs answer with what is newer. */
const ANSWER = 0.3;

/**
 * The owner holds a lock named by the session for as long as its page lives. Without locks all are owners, a moment after
 * they have asked, and keep each other up to date: as with a shared storage, the authority repeats the successor.
 */
export function createOwner({ env, label }: State, locks: LockManager | null | undefined, won: () => void): Owner {
  let claimed = '';
  let free = noop;
  const owner: Owner = {
    owns: false,
    claim(sid) {
      if (claimed === sid) return;
      owner.release();
      claimed = sid;
      let over = false;
      let done = noop;
      const stop = new AbortController();
      free = () => {
        over = true;
        stop.abort();
        done();
      };
      const win = () => {
        if (over) return done();
        owner.owns = true;
        won();
      };
      const alone = () => pause(env, ANSWER).then(win);
      // What the last owner said is in the queue: a macrotask lets it in first.
      const held = () =>
        new Promise<void>((resolve) => {
          done = resolve;
          env.setTimeout(win);
        });
      if (locks) locks.request(label + ':' + sid, { signal: stop.signal }, held).catch(alone);
      else void alone();
    },
    release() {
      free();
      free = noop;
      claimed = '';
      owner.owns = false;
    },
  };
  return owner;
}
