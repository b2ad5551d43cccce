import { noop } from './env.js';
import type { State } from './state.js';

/** What tabs tell each other. Only `record` holds tokens; it is sent with storage `'session'` and from nowhere else. */
export interface Message {
  /** The user (`sub`) signed out; with `sid`: of that session only. */
  out?: string;
  sid?: string | undefined;
  reason?: string;
  /** The claims of `sub` have changed: the least revision that is good. */
  rev?: number;
  sub?: string;
  /** Whoever holds this session in a copy of this tab's storage is to send its record. */
  ask?: string;
  record?: string;
}

/** The other tabs of this client; undefined where the browser has no channels. */
export function openChannel(state: State): BroadcastChannel | undefined {
  try {
    const channel = new state.env.BroadcastChannel!(state.label);
    channel.onmessage = ({ data }) => data && state.heard(data).catch(noop);
    return channel;
  } catch {
    return;
  }
}
