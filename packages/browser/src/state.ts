import { type Message, openChannel } from './channel.js';
import { type Clock, createClock } from './clock.js';
import type { Env } from './env.js';
import { type Authority, type Body, createAuthority } from './http.js';
import { createKeeper, createLocked, type Keeper, type Locked, storageOf } from './keeper.js';
import { type Plan, plan } from './schedule.js';
import { format, type Held, merge, offer, revision, type Shown } from './tokens.js';
import type { Claims, Events, SessionOptions, TokenStorage } from './types.js';

type Work = () => Promise<void>;

/** What the parts of a session share. Each part adds what it does; the names are shortened in what is published. */
export interface State extends Keeper {
  options: SessionOptions;
  env: Env;
  clock: Clock;
  /** Mode cookie. */
  cookie: boolean;
  /** What relative URLs are relative to, as the page says now. */
  baseUrl(): string | undefined;
  issuer: string;
  /** Of the record, the lock and the channel. */
  label: string;
  send: typeof fetch;
  query: Authority;
  /** Seconds of a call. */
  limit: number;
  shelf: TokenStorage | undefined;
  alone: Locked;
  channel: BroadcastChannel | undefined;
  /** What another tab says. */
  heard(message: Message): Promise<void>;
  /** Storage `'session'`: duplicated tabs have a copy each of one session, and keep each other up to date. */
  twins: boolean | undefined;
  listeners: Record<string, Set<(detail: never) => void>>;
  /** Used since the last renewal. */
  used: boolean;
  /** Mode cookie: the authority has yet to tell if there is a session. */
  unknown: boolean;
  /** Counts logins and sign-outs: an answer to what was asked before is late. */
  epoch: number;
  /** The session that this tab saw end. */
  gone: string | undefined;
  ready: Promise<void>;

  emit<E extends keyof Events<Claims>>(event: E, detail: Events<Claims>[E]): void;
  post(message: Message): void;
  /** Sends the record to the tabs that were duplicated from this one. */
  share(held: Held): void;
  /** Tells the other tabs that the claims have changed. */
  tell(claims: Shown): void;
  planOf(held: Held): Plan;
  /** Adopts what of an answer is newer. */
  take(body: Body): Promise<Held | null>;
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
  /** Looks what is due, does it, and sets the one timer to what comes next. `use`: because the session is used now. */
  tick(use?: boolean): void;
  /** The page woke up, or the network did: no more waiting. */
  hurry(event: string): void;
  own(url: string): boolean;
  /** Ends a session at the authority, as far as it can be reached. */
  farewell(held: Held): Promise<unknown>;
}

/** What is held, where it is kept, who hears of changes. */
export function createState(options: SessionOptions, env: Env): State {
  const { mode, storage, timeout = 10, locks = env.navigator?.locks } = options;
  const cookie = mode === 'cookie';
  const clock = createClock(env);
  // Bound now: who replaces `window.fetch` later does not see the refresh token pass.
  const send = options.fetch ?? env.fetch.bind(env);
  const credentials = cookie ? 'include' : 'same-origin';
  const baseUrl = () => env.document?.baseURI ?? env.location?.href;
  const issuer = new URL(options.api, baseUrl()).href.replace(/\/$/, '');
  const label = `reseal:${options.clientId}@${issuer}`;
  const shelf = cookie ? undefined : storageOf(options, env, label);
  // The parts add the rest.
  const state = {
    options,
    env,
    clock,
    cookie,
    baseUrl,
    issuer,
    label,
    send,
    held: null,
    limit: timeout,
    shelf,
    alone: createLocked(env, label, locks, options.lockTimeout ?? 3),
    query: createAuthority(env, clock, timeout, (path, init) => send(issuer + path, { ...init, credentials })),
    listeners: {},
    twins: shelf && storage === 'session',
    unknown: cookie,
    epoch: 0,
    // Async: a listener's own fault is reported like any that nobody handles, and stops nothing here.
    emit: (event, detail) => state.listeners[event]?.forEach(async (listener) => listener(detail as never)),
    post: (message) => state.channel?.postMessage(message),
    share: (held) => state.post({ record: format(held, clock.skew()) }),
    tell: (claims) => state.post({ sub: claims.sub, rev: revision(claims) }),
    planOf: (held) => plan(mode, held, options.renewBefore ?? 60),
    take: (body) => state.update((held) => held && merge(held, offer(body))),
    drop: ({ session }, reason) => state.update((held) => (held?.session.id === session.id ? null : held), reason),
    async finish(held, reason, all) {
      if (!held) return;
      state.post({ out: held.claims.sub, reason, sid: all ? undefined : held.session.id });
      await state.drop(held, reason);
    },
  } as State;
  // Node has channels, too, but no tabs.
  state.channel = env.location && openChannel(state);

  createKeeper(state, (held, before, reason) => {
    const other = held?.session.id !== before?.session.id;
    const renewed = other || held?.access_token !== before?.access_token;
    if (other) {
      state.epoch++;
      state.gone = before?.session.id;
    }
    if (renewed) state.used = false;
    if (!held) {
      state.emit('signedout', { reason });
    } else if (other || !before) {
      state.unknown = false;
      if (state.twins) state.post({ ask: held.session.id });
      state.emit('signedin', { user: held.claims });
    } else {
      const { last: end } = state.planOf(held);
      if (state.twins) state.share(held);
      const changed = revision(held.claims) > revision(before.claims);
      if (changed) state.tell(held.claims);
      if (changed || held.claims.acr !== before.claims.acr) {
        state.emit('claims', { user: held.claims, previous: before.claims });
      }
      if (renewed || end !== state.planOf(before).last) {
        if (cookie) state.used = false;
        state.emit('renewed', { expiresAt: end });
      }
    }
    state.tick();
  });
  return state;
}
