import { type Message, openChannel } from './channel.js';
import { type Clock, createClock } from './clock.js';
import type { Env } from './env.js';
import { type Authority, createAuthority } from './http.js';
import { createKeeper, createLocked, type Keeper, type Locked, storageOf } from './keeper.js';
import { type Plan, plan } from './schedule.js';
import { format, type Held, merge, type Offer, revision, sameClaims } from './tokens.js';
import type { Claims, Events, SessionOptions, TokenStorage } from './types.js';

type Work = () => Promise<void>;

/** What the parts of a session share. Each part adds what it does; the names are shortened in what is published. */
export interface State extends Keeper {
  options: SessionOptions;
  env: Env;
  clock: Clock;
  /** Mode cookie. */
  cookie: boolean;
  baseUrl: string | undefined;
  issuer: string;
  /** Of the record, the lock and the channel. */
  label: string;
  send: typeof fetch;
  ask: Authority;
  /** Seconds of a call. */
  limit: number;
  shelf: TokenStorage | undefined;
  locked: Locked;
  channel: BroadcastChannel | undefined;
  /** What another tab says. */
  heard(message: Message): Promise<void>;
  /** Storage `'session'`: duplicated tabs have a copy each of one session, and keep each other up to date. */
  twins: boolean;
  listeners: Record<string, Set<(detail: never) => void>>;
  /** Used since the last renewal. */
  used: boolean;
  /** Mode cookie: the authority has yet to tell if there is a session. */
  unknown: boolean;
  /** Counts logins and sign-outs: an answer to what was asked before is late. */
  epoch: number;
  disposed: boolean;
  ready: Promise<void>;

  emit<E extends keyof Events<Claims>>(event: E, detail: Events<Claims>[E]): void;
  post(message: Message): void;
  /** Sends the record to the tabs that were duplicated from this one. */
  share(held: Held): void;
  planOf(held: Held): Plan;
  sync(): Promise<Held | null>;
  /** Adopts what is newer. */
  take(offer: Offer): Promise<Held | null>;
  drop(held: Held, reason: string): Promise<unknown>;
  /** Signs out here and in the other tabs of this session, or in all of this user's. */
  finish(held: Held | null, reason: string, all?: boolean): Promise<void>;

  /** Renews, whatever the clock says; or looks how things are, without keeping anything alive. */
  renewal: Work;
  look: Work;
  /** Does it now, or joins a flight of the same kind. */
  again(work: Work): Promise<void>;
  /** For somebody who waits: as `again`, but not twice in a second with one credential. */
  demand(work: Work): Promise<void>;
  /** Looks what is due, does it, and sets the one timer to what comes next. */
  tick(): void;
  /** Notes a use, and renews in the background what is due by it. */
  use(): void;
  /** The page woke up, or the network did: no more waiting. */
  hurry(online: boolean): void;
  own(url: string): boolean;
  /** Ends a session at the authority, as far as it can be reached. */
  farewell(held: Held): Promise<unknown>;
}

/** What is held, where it is kept, who hears of changes. */
export function createState(options: SessionOptions, env: Env): State {
  const { mode, storage, timeout = 10 } = options;
  const state = { options, env, limit: timeout, epoch: 0 } as unknown as State;
  const locks = options.locks === undefined ? env.navigator?.locks : options.locks;
  const clock = (state.clock = createClock(env));
  const cookie = (state.cookie = state.unknown = mode === 'cookie');
  const credentials = cookie ? 'include' : 'same-origin';
  state.baseUrl = env.document?.baseURI ?? env.location?.href;
  state.issuer = new URL(options.api, state.baseUrl).href.replace(/\/$/, '');
  const label = (state.label = `reseal:${options.clientId}@${state.issuer}`);
  // Bound now: who replaces `window.fetch` later does not see the refresh token pass.
  const send = (state.send = options.fetch ?? env.fetch.bind(env));
  state.ask = createAuthority(env, clock, timeout, (path, init) => send(state.issuer + path, { ...init, credentials }));
  state.shelf = storageOf(options, env, label);
  state.locked = createLocked(env, locks, options.lockTimeout ?? 3);
  state.listeners = {};

  // Async: a listener's own fault is reported like any that nobody handles, and stops nothing here.
  state.emit = (event, detail) => state.listeners[event]?.forEach(async (listener) => listener(detail as never));

  createKeeper(state, typeof storage === 'object', (held, before, reason) => {
    const other = held?.session.id !== before?.session.id;
    const renewed = other || held?.access_token !== before?.access_token;
    if (other) state.epoch++;
    if (renewed) state.used = false;
    if (!held) {
      state.emit('signedout', { reason });
    } else if (other || !before) {
      state.unknown = false;
      if (state.twins) state.post({ ask: held.session.id });
      state.emit('signedin', { user: held.claims });
    } else {
      const rev = revision(held.claims);
      const { end } = state.planOf(held);
      if (state.twins) state.share(held);
      if (rev > revision(before.claims)) state.post({ rev, sub: held.claims.sub });
      if (!sameClaims(held.claims, before.claims)) state.emit('claims', { user: held.claims, previous: before.claims });
      if (renewed || end !== state.planOf(before).end) {
        if (cookie) state.used = false;
        state.emit('renewed', { expiresAt: end });
      }
    }
    state.tick();
  });
  state.channel = openChannel(state);
  state.twins = storage === 'session';

  state.post = (message) => state.channel?.postMessage(message);
  state.share = (held) => state.post({ record: format(held, clock.skew()) });
  state.planOf = (held) => plan(mode, held, options.renewBefore ?? 60);
  state.sync = () => state.update((held) => held);
  state.take = (offer) => state.update((held) => held && merge(held, offer));
  state.drop = ({ session }, reason) => state.update((held) => (held?.session.id === session.id ? null : held), reason);
  state.finish = async (held, reason, all) => {
    if (!held) return;
    await state.drop(held, reason);
    state.post({ out: held.claims.sub, reason, ...(all ? {} : { sid: held.session.id }) });
  };
  return state;
}
