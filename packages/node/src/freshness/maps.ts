// One generation of what is known: four maps, each entry with the second after which it may go.

/** An event of the feed (docs: reference/feed). Times are Unix seconds. */
export type FeedEvent = { readonly until: number } & (
  | { readonly type: 'session-ended'; readonly sid: string; readonly reason: string }
  | { readonly type: 'claims-changed'; readonly sub: string; readonly rev: number }
  | { readonly type: 'client-changed'; readonly clientId: string; readonly before: number }
  | { readonly type: 'keys-changed'; readonly withdrawn: readonly string[] }
);

/** How many entries each map has. */
export interface Entries {
  sessions: number;
  users: number;
  clients: number;
  keys: number;
}

/** Ids are spread over so many maps, so that sweeping one never holds requests up for long. */
const SHARDS = 64;
/** Longest total of the names of withdrawn keys. */
const MAX_KID_CHARACTERS = 1 << 20;
/** A session id has 22 characters and a user id 36; a longer one is none of ours and would make the bound meaningless. */
const MAX_ID_LENGTH = 64;

/** The reasons that a session ends for, by their place in an entry. A later authority may know others. */
const REASONS = [
  'idle_timeout',
  'max_lifetime',
  'signed_out',
  'revoked',
  'password_changed',
  'reuse_detected',
  'user_disabled',
] as const;
const REVOKED = REASONS.indexOf('revoked');
/** Room for a reason beside the time in one number: it keeps an entry at 8 bytes beside its id. */
const REASON_BASE = 16;

type Changed = { value: number; until: number };

/** Maps whose entries only ever get stricter. */
export interface Maps {
  apply(event: FeedEvent): void;
  /** Takes in all of another generation. */
  absorb(other: Maps): void;
  /** Drops the dead of the next shard, and now and then those of the small maps. */
  sweepNext(now: number): void;
  ended(sid: string): string | undefined;
  leastRevision(sub: string): number | undefined;
  clientBefore(clientId: string): number | undefined;
  isWithdrawn(kid: string): boolean;
  entries(): Entries;
  events(): Iterable<FeedEvent>;
  /** Whether nothing that was applied found no place. */
  readonly complete: boolean;
}

export function createMaps(maxEntries: number): Maps {
  const sessions = Array.from({ length: SHARDS }, () => new Map<string, number>());
  const users = Array.from({ length: SHARDS }, () => new Map<string, Changed>());
  const clients = new Map<string, Changed>();
  const keys = new Map<string, number>();
  const count: Entries = { sessions: 0, users: 0, clients: 0, keys: 0 };
  let kidCharacters = 0;
  let nextShard = 0;
  let complete = true;

  const hasRoom = (id: string): boolean =>
    id.length <= MAX_ID_LENGTH && count.sessions + count.users + count.clients + count.keys < maxEntries;

  const end = (sid: string, reason: string, until: number): void => {
    const shard = sessions[shardOf(sid)] as Map<string, number>;
    const known = shard.get(sid);
    const found = REASONS.indexOf(reason as (typeof REASONS)[number]);
    const code = found < 0 ? REVOKED : found;
    if (known !== undefined) {
      // A session ends once; should the log ever say it twice, the order must not matter.
      const [knownUntil, knownCode] = [Math.floor(known / REASON_BASE), known % REASON_BASE];
      shard.set(sid, Math.max(knownUntil, until) * REASON_BASE + Math.min(knownCode, code));
    } else if (hasRoom(sid)) {
      shard.set(sid, until * REASON_BASE + code);
      count.sessions++;
    } else complete = false;
  };

  /** The larger value and the later end stay. */
  const raise = (map: Map<string, Changed>, which: 'users' | 'clients', id: string, changed: Changed): void => {
    const known = map.get(id);
    if (known !== undefined) {
      known.value = Math.max(known.value, changed.value);
      known.until = Math.max(known.until, changed.until);
    } else if (hasRoom(id)) {
      map.set(id, changed);
      count[which]++;
    } else complete = false;
  };

  const withdraw = (kid: string, until: number): void => {
    const known = keys.get(kid);
    if (known !== undefined) keys.set(kid, Math.max(known, until));
    else if (hasRoom('') && kidCharacters + kid.length <= MAX_KID_CHARACTERS) {
      keys.set(kid, until);
      kidCharacters += kid.length;
      count.keys++;
    } else complete = false;
  };

  const apply = (event: FeedEvent): void => {
    switch (event.type) {
      case 'session-ended':
        return end(event.sid, event.reason, event.until);
      case 'claims-changed':
        return raise(users[shardOf(event.sub)] as Map<string, Changed>, 'users', event.sub, {
          value: event.rev,
          until: event.until,
        });
      case 'client-changed':
        return raise(clients, 'clients', event.clientId, { value: event.before, until: event.until });
      case 'keys-changed':
        for (const kid of event.withdrawn) withdraw(kid, event.until);
    }
  };

  /** Removes what is past its time; how many those are. */
  const sweep = <V>(
    map: Map<string, V>,
    now: number,
    untilOf: (value: V) => number,
    gone?: (id: string) => void,
  ): number => {
    let dropped = 0;
    for (const [id, value] of map) {
      if (untilOf(value) >= now) continue;
      map.delete(id);
      gone?.(id);
      dropped++;
    }
    return dropped;
  };

  return {
    apply,
    absorb(other) {
      for (const event of other.events()) apply(event);
      complete &&= other.complete;
    },
    sweepNext(now) {
      count.sessions -= sweep(sessions[nextShard] as Map<string, number>, now, (entry) =>
        Math.floor(entry / REASON_BASE),
      );
      count.users -= sweep(users[nextShard] as Map<string, Changed>, now, ({ until }) => until);
      nextShard = (nextShard + 1) % SHARDS;
      if (nextShard !== 0) return;
      count.clients -= sweep(clients, now, ({ until }) => until);
      count.keys -= sweep(
        keys,
        now,
        (until) => until,
        (kid) => (kidCharacters -= kid.length),
      );
    },
    ended(sid) {
      const entry = (sessions[shardOf(sid)] as Map<string, number>).get(sid);
      return entry === undefined ? undefined : reasonOf(entry);
    },
    leastRevision: (sub) => (users[shardOf(sub)] as Map<string, Changed>).get(sub)?.value,
    clientBefore: (clientId) => clients.get(clientId)?.value,
    isWithdrawn: (kid) => keys.has(kid),
    entries: () => ({ ...count }),
    *events() {
      for (const shard of sessions) {
        for (const [sid, entry] of shard) {
          yield { type: 'session-ended', sid, reason: reasonOf(entry), until: Math.floor(entry / REASON_BASE) };
        }
      }
      for (const shard of users) {
        for (const [sub, { value, until }] of shard) yield { type: 'claims-changed', sub, rev: value, until };
      }
      for (const [clientId, { value, until }] of clients)
        yield { type: 'client-changed', clientId, before: value, until };
      for (const [kid, until] of keys) yield { type: 'keys-changed', withdrawn: [kid], until };
    },
    get complete() {
      return complete;
    },
  };
}

/** A time that is none leaves no room for a reason; ended it is all the same. */
function reasonOf(entry: number): string {
  return REASONS[entry % REASON_BASE] ?? 'revoked';
}

/** By the last characters but one: they are random in session ids and in UUIDs alike. */
function shardOf(id: string): number {
  return (id.charCodeAt(id.length - 2) * 31 + id.charCodeAt(id.length - 3)) & (SHARDS - 1) || 0;
}
