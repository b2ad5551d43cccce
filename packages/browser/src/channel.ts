import type { Env } from './env.js';
import { noop, pause } from './env.js';

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
  /** Where there are no locks: of those who ask at once the least becomes the owner. */
  n?: number;
  /** The record of him who owns the session, or is about to. */
  record?: string;
}

export interface Channel {
  post(message: Message): void;
  close(): void;
}

/** The other tabs of this client; undefined where the browser has no channels. */
export function openChannel(env: Env, name: string, heard: (message: Message) => void): Channel | undefined {
  try {
    const channel = new env.BroadcastChannel!(name);
    channel.onmessage = ({ data }) => data && typeof data === 'object' && heard(data);
    // On Node it would keep the process alive.
    (channel as { unref?(): void }).unref?.();
    return { post: (message) => channel.postMessage(message), close: () => channel.close() };
  } catch {
    return;
  }
}

/** Which of the tabs that were duplicated from one another may present the session's refresh token. */
export interface Owner {
  readonly owns: boolean;
  /** Asks to own this session, and waits for its turn. */
  claim(sid: string): void;
  /** Gives it up, or stops waiting. */
  release(): void;
  /** Before a follower asks: without locks it may find that the owner is gone. */
  check(): Promise<void>;
  /** Another tab has shown that it owns the session. */
  yield(): void;
  /** Whether this tab answers who asks. */
  answers(n?: number): boolean;
}

export interface OwnerSettings {
  key: string;
  env: Env;
  locks: LockManager | null | undefined;
  /** Asks the owner for his record. */
  ask(sid: string, n: number): void;
  /** This tab has become the owner. */
  won(): void;
}

/** Seconds in which an owner answers. */
const ANSWER = 0.3;

/** The owner holds a lock named by the session for as long as its page lives; without locks it answers who asks. */
export function createOwner({ key, env, locks, ask, won }: OwnerSettings): Owner {
  const n = env.Math.random();
  let claimed = '';
  let owns = false;
  let asking: Promise<void> | undefined;
  let taken = false;
  let free = noop;

  const win = () => {
    owns = true;
    won();
  };
  const look = (sid: string) =>
    (asking ??= pause(env, ANSWER).then(() => {
      asking = undefined;
      if (claimed === sid && !taken) win();
    }));

  return {
    get owns() {
      return owns;
    },
    claim(sid) {
      free();
      claimed = sid;
      taken = false;
      // A copy may be older than what the owner holds.
      ask(sid, n);
      if (!locks) return void look(sid);
      const stop = new AbortController();
      let done = noop;
      let over = false;
      free = () => {
        over = true;
        stop.abort();
        done();
      };
      locks
        .request(
          `${key}:${sid}`,
          { signal: stop.signal },
          () =>
            new Promise<void>((resolve) => {
              done = resolve;
              // What the last owner said is in the queue: a macrotask lets it in first.
              env.setTimeout(() => (over ? resolve() : win()));
            }),
        )
        .catch(() => void (over || look(sid)));
    },
    release() {
      free();
      free = noop;
      claimed = '';
      owns = false;
    },
    async check() {
      if (locks) return;
      taken = false;
      ask(claimed, n);
      await look(claimed);
    },
    yield() {
      taken = true;
    },
    answers: (other) => owns || (!!asking && n < other!),
  };
}
