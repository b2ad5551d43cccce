import type { Env } from './env.js';
import { noop } from './env.js';

/** What tabs tell each other. Only `record` holds tokens; it is sent with storage `'session'` and from nowhere else. */
export interface Message {
  /** The user (`sub`) signed out; with `sid`: of that session only. */
  out?: string;
  sid?: string;
  reason?: string;
  /** The claims of `sub` have changed: the least revision that is good. */
  rev?: number;
  sub?: string;
  /** Whoever owns this session is to renew, unless its refresh token is newer than `generation`. */
  ask?: string;
  generation?: number;
  /** The owner's newest record. */
  record?: string;
  /** Who owns this session? Asked where there are no locks; the least `n` of those who ask at once wins. */
  who?: string;
  n?: number;
  /** I own this session. */
  owner?: string;
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
  heard(message: Message): void;
}

export interface OwnerSettings {
  key: string;
  env: Env;
  locks: LockManager | null | undefined;
  channel: Channel | undefined;
  /** This tab has become the owner. */
  won(): void;
}

/** Seconds in which an owner answers. */
const ANSWER = 0.3;

/** The owner holds a lock named by the session for as long as its page lives; without locks it answers who asks. */
export function createOwner({ key, env, locks, channel, won }: OwnerSettings): Owner {
  const n = env.Math.random();
  let claimed: string | undefined;
  let owns = false;
  let asking: Promise<void> | undefined;
  let taken = false;
  let free = noop;

  const win = () => {
    owns = true;
    won();
  };
  const ask = (sid: string) =>
    (asking ??= new Promise((resolve) => {
      taken = false;
      channel?.post({ who: sid, n });
      env.setTimeout(
        () => {
          asking = undefined;
          if (claimed === sid && !taken) win();
          resolve();
        },
        channel ? ANSWER * 1000 : 0,
      );
    }));

  return {
    get owns() {
      return owns;
    },
    claim(sid) {
      free();
      claimed = sid;
      if (!locks) return void ask(sid);
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
        .catch(() => void (over || ask(sid)));
    },
    release() {
      free();
      free = noop;
      claimed = undefined;
      owns = false;
    },
    async check() {
      if (!locks && claimed) await ask(claimed);
    },
    heard({ who, n: other, owner }) {
      if (!claimed) return;
      if (owner === claimed) taken = true;
      if (who === claimed && (owns || (asking && n < other!))) channel?.post({ owner: who });
    },
  };
}
