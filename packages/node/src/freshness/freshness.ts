// What the feed told: which sessions ended, whose claims changed, which keys were withdrawn. Pure: the time is an argument.
// Everything only gets stricter: events may come in any order, late or again, and never bring an old right back.
//
// An entry goes when its `until` has passed by the very clock that tokens are judged by. By then each token that it concerns
// has been refused for its age for 30 s at least, with the greatest leeway there may be. Those 30 s are what a clock may be
// set back; beyond it tokens come to life again whose entries may be gone, and the feed must start over.

import { createMaps, type Entries, type FeedEvent, type Maps } from './maps.js';

/** Entries that are kept: some 100 bytes each, twice that for the seconds of starting over. */
export const MAX_ENTRIES = 2_000_000;
/** Seconds that a clock may be set back before entries are missing. */
const CLOCK_SLACK = 30;

/** What the feed says of a token. */
export type Judgement =
  | { readonly kind: 'current' }
  /** The user's claims or the client changed after it was issued. */
  | { readonly kind: 'stale' }
  | { readonly kind: 'ended'; readonly reason: string }
  | { readonly kind: 'withdrawn' };

/** What of a token the feed can concern. */
export interface Facts {
  readonly kid: string | undefined;
  readonly sid: string | undefined;
  readonly sub: string | undefined;
  readonly rev: number | undefined;
  readonly clientId: string | undefined;
  readonly iat: number | undefined;
}

export interface Freshness {
  apply(event: FeedEvent): void;
  /** The worst that is known counts: a withdrawn key, an ended session, stale claims. */
  judge(token: Facts): Judgement;
  isWithdrawn(kid: string): boolean;
  /** All live events will come again: new maps are built beside the old ones, and both are judged by until then. */
  startOver(): void;
  /** All live events have come. The old maps go, unless the new ones had no place for all of it. */
  caughtUp(): void;
  /** Whether an event found no place: then the maps cannot tell, and the feed counts as lost. */
  isIncomplete(): boolean;
  /** Whether the clock was set back too far, or an event found no place and now a quarter of the places is free. */
  mustStartOver(now: number): boolean;
  /** Drops some of what no living token needs any more: call it about once a second. `now` is Unix seconds. */
  prune(now: number): void;
  entries(): Entries;
}

export function createFreshness(maxEntries: number = MAX_ENTRIES): Freshness {
  let current = createMaps(maxEntries);
  /** What was known when the feed started over. */
  let old: Maps | undefined;
  /** The latest time that anything was dropped by. */
  let prunedAt = -Infinity;

  const clockWentBack = (now: number): boolean => now < prunedAt - CLOCK_SLACK;

  return {
    apply: (event) => current.apply(event),
    judge(token) {
      const found = judge(current, token);
      if (old === undefined) return found;
      const before = judge(old, token);
      return SEVERITY[before.kind] > SEVERITY[found.kind] ? before : found;
    },
    isWithdrawn: (kid) => current.isWithdrawn(kid) || (old?.isWithdrawn(kid) ?? false),
    startOver() {
      // Again, before it had caught up: what came so far is small beside what was there.
      if (old === undefined) old = current;
      else old.absorb(current);
      current = createMaps(maxEntries);
      prunedAt = -Infinity;
    },
    caughtUp() {
      if (current.complete) old = undefined;
    },
    isIncomplete: () => !current.complete || old?.complete === false,
    mustStartOver(now) {
      const { sessions, users, clients, keys } = current.entries();
      const hasRoom = sessions + users + clients + keys <= (maxEntries / 4) * 3;
      return clockWentBack(now) || (!current.complete && hasRoom);
    },
    prune(now) {
      if (clockWentBack(now)) return;
      prunedAt = Math.max(prunedAt, now);
      current.sweepNext(now);
      old?.sweepNext(now);
    },
    entries() {
      const [a, b] = [current.entries(), old?.entries()];
      if (b === undefined) return a;
      return {
        sessions: a.sessions + b.sessions,
        users: a.users + b.users,
        clients: a.clients + b.clients,
        keys: a.keys + b.keys,
      };
    },
  };
}

const SEVERITY = { current: 0, stale: 1, ended: 2, withdrawn: 3 } as const;
const CURRENT: Judgement = { kind: 'current' };
const STALE: Judgement = { kind: 'stale' };
const WITHDRAWN: Judgement = { kind: 'withdrawn' };

function judge(maps: Maps, { kid, sid, sub, rev, clientId, iat }: Facts): Judgement {
  if (kid !== undefined && maps.isWithdrawn(kid)) return WITHDRAWN;
  if (sid !== undefined) {
    const reason = maps.ended(sid);
    if (reason !== undefined) return { kind: 'ended', reason };
    // Only of a session: a client's own token has its own name as `sub`.
    const least = sub === undefined ? undefined : maps.leastRevision(sub);
    // A token that does not say how old it is counts as older than any change.
    if (least !== undefined && (rev === undefined || rev < least)) return STALE;
  }
  const before = clientId === undefined ? undefined : maps.clientBefore(clientId);
  if (before !== undefined && (iat === undefined || iat < before)) return STALE;
  return CURRENT;
}
