import type { Claims, SessionInfo } from './types.js';

/** What is held of a session. */
export interface Held extends Offer {
  /** Of a record that was read: how far the device was behind when it was written. */
  skew?: number;
  session: SessionInfo;
  /** What the access token shows; mode cookie: the record. */
  claims: Shown;
}

/** What an answer brings. */
export interface Offer {
  session?: SessionInfo | undefined;
  claims?: Shown | undefined;
  access_token?: string | undefined;
  refresh_token?: string | undefined;
  /** The number of the refresh token. */
  generation?: number | undefined;
}

/** The claims that matter to us. */
export interface Shown extends Claims {
  iat?: number;
  exp?: number;
  renew_at?: number;
  revision?: number;
}

const TOKEN_MAX = 16384;

/**
 * The state after an answer: each credential only if it is newer than the one held, and nothing of another session.
 * Returns `held` itself when nothing is taken.
 */
export function merge(held: Held, offer: Offer): Held {
  if ((offer.session?.id ?? offer.claims?.sid) !== held.session.id) return held;
  const refresh = offer.generation! > held.generation!;
  const access =
    offer.claims &&
    !offer.access_token === !held.access_token &&
    // Two renewals within a second bring tokens of equal rank.
    (isNewer(offer.claims, held.claims) || (refresh && !isNewer(held.claims, offer.claims)));
  // Deadlines travel with the tokens of their answer; an answer without a token tells how things are now.
  if (!access && !refresh && (offer.access_token || !offer.session)) return held;
  const next = { ...held, session: offer.session ?? held.session };
  if (access) {
    next.claims = offer.claims!;
    next.access_token = offer.access_token;
    const { renew_at, exp } = next.claims;
    // A token that came alone, in a header: a touch moved the idle end with it.
    if (!offer.session && renew_at) next.session = { ...held.session, renew_at, idle_expires_at: exp! };
  }
  if (refresh) {
    next.refresh_token = offer.refresh_token;
    next.generation = offer.generation;
  }
  return next;
}

/**
 * What a tab goes by that holds one thing and reads another in the storage. The storage says whether there is a session;
 * but a slow tab may have written over what is newer.
 */
export function choose(held: Held | null, stored: Held | null, gone: string | undefined): Held | null {
  if (!stored || stored.session.id === gone) return null;
  if (!held) return stored;
  if (held.session.id === stored.session.id) return merge(stored, held);
  return held.session.started_at > stored.session.started_at ? held : stored;
}

/** The user's revision that claims or a record show. */
export const revision = (claims: Shown) => (claims.rev ?? claims.revision)!;

/** Access tokens of one session are ordered by `rev`, `iat`, `exp`. */
export function isNewer(a: Shown, b: Shown): boolean {
  // What is not there is not newer.
  return (revision(a) - revision(b) || a.iat! - b.iat! || a.exp! - b.exp!) > 0;
}

/** What an answer of the authority, or a kept record, has to offer. Whatever is malformed is nothing. */
export function offer(body: Record<string, unknown> | null): Offer {
  const { session, access_token, refresh_token, generation, user } = (body ?? {}) as Offer & { user?: Shown };
  const info = session?.id ? session : undefined;
  return {
    session: info,
    claims: access_token ? decode(access_token) : user,
    access_token,
    refresh_token,
    generation: generation ?? info?.generation,
  };
}

/** An offer that is whole enough to be held. */
export const whole = (offer: Offer): Held | null => (offer.session && offer.claims?.sub ? (offer as Held) : null);

/** The claims of a JWT, unverified: for display and timing only. */
export function decode(token: unknown): Shown | undefined {
  try {
    const text = token as string;
    if (text.length > TOKEN_MAX) return;
    const part = atob(text.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/'));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(part, (c) => c.charCodeAt(0))));
  } catch {
    return;
  }
}

/** The record as it is stored. */
export const format = ({ claims: _, ...record }: Held, skew: number) => JSON.stringify({ v: 1, ...record, skew });

/** A stored record; null: there is none, or it cannot be read. */
export function parse(text: unknown): Held | null {
  try {
    const record = JSON.parse(text as string);
    const held = record.v === 1 && record.access_token && whole(offer(record));
    return held ? { ...held, skew: +record.skew || 0 } : null;
  } catch {
    return null;
  }
}
