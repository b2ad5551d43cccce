// Renewal at the authority: one call however many requests with the same token are in flight. A call belongs to none of
// them, so one that is given up takes nobody's answer with it. Answers are kept for a while, so that requests that come late
// with the old token get the same new one; a refusal and an authority that is away are kept as well, for less.

import { tokenHash } from './cache.js';
import { retryAfter, type Answered as HttpAnswer, type Http } from './http.js';
import { members, parseJson } from './json.js';
import type { Log } from './log.js';
import { createTurns, monotonic } from './time.js';

/** Answers and calls in flight that are remembered at most. */
const MAX_FLIGHTS = 8192;
/** Calls at the same time at most; others wait for their turn, no longer than a call may take. */
const MAX_CALLS = 64;
const MAX_ANSWER = 64 * 1024;
/** How long what is kept, in milliseconds. */
const KEEP_RENEWED = 30_000;
const KEEP_REFUSED = 10_000;
const KEEP_NOT_YET_STALE = 2000;
const KEEP_NOT_YET = 300_000;
const KEEP_AWAY = 1000;

/** Why a newer token is wanted: half of its life has passed, or its claims have changed. */
export type Why = 'due' | 'stale';

/** What the authority answered. */
export type Outcome =
  /** A newer token, not verified yet. */
  | { readonly is: 'renewed'; readonly token: string }
  /** None now; from then on (Unix seconds), or never. */
  | { readonly is: 'not-yet'; readonly renewAt: number | undefined }
  /** The token is not good (any more). */
  | { readonly is: 'refused'; readonly reason: string | undefined }
  /** No answer, or one that means nothing. When to try again, in seconds. */
  | { readonly is: 'away'; readonly retryAfter: number };

/** What came of asking. */
export interface Renewed {
  readonly outcome: Outcome;
  /** The number of the call; later ones have greater. */
  readonly flight: number;
  /** Whether the call began after this request asked. */
  readonly askedForMe: boolean;
}

/** Asks the authority, once for all who ask at the same time. */
export interface Renewer {
  /** A newer token. With `after` the answer of a later call than that. */
  renew(token: string, why: Why, after?: number): Promise<Renewed>;
  /** The number of the latest call. */
  readonly latest: number;
}

export interface RenewerParts {
  readonly http: Http;
  readonly url: URL;
  readonly timeoutMs: number;
  /** Unix seconds, to know when a "not yet" is over. */
  readonly now: () => number;
  readonly log: Log;
}

interface Flight {
  readonly number: number;
  readonly outcome: Promise<Outcome>;
  /** Set when the answer is there. */
  keepUntil: number | undefined;
}

export function createRenewer({ http, url, timeoutMs, now, log }: RenewerParts): Renewer {
  const turns = createTurns(MAX_CALLS, MAX_FLIGHTS);
  /** By the hash of the token and the reason, in the order they began. */
  const flights = new Map<string, Flight>();
  let latest = 0;
  let awayUntil = 0;

  const call = async (token: string): Promise<Outcome> => {
    const turn = await turns.take(timeoutMs);
    if (turn === undefined) return AWAY;
    try {
      const headers = { Authorization: `Bearer ${token}`, Accept: 'application/json' };
      const answer = await http.ask({ method: 'POST', url, headers, timeoutMs, background: false }, MAX_ANSWER);
      const outcome = readOutcome(answer);
      if (outcome.is === 'away') log.warn('renewal', `the authority answered a renewal with ${answer.status}`);
      return outcome;
    } catch (error) {
      log.warn('renewal', `the authority could not be asked for a newer token: ${(error as Error).message}`);
      return AWAY;
    } finally {
      turn();
    }
  };

  /** Drops what is over from the front and, when there is too much, the oldest answer; false: all are in flight. */
  const makeRoom = (): boolean => {
    for (const [key, { keepUntil }] of flights) {
      const isFull = flights.size >= MAX_FLIGHTS;
      if (keepUntil === undefined ? !isFull : monotonic() < keepUntil && !isFull) return true;
      if (keepUntil === undefined) return false;
      flights.delete(key);
    }
    return true;
  };

  const begin = (key: string, token: string, why: Why): Flight | undefined => {
    if (!makeRoom()) return undefined;
    const outcome = call(token);
    const flight: Flight = { number: ++latest, outcome, keepUntil: undefined };
    // To the end of the line, should there be an older one.
    flights.delete(key);
    flights.set(key, flight);
    void outcome.then((ended) => {
      awayUntil = ended.is === 'away' ? monotonic() + KEEP_AWAY : 0;
      flight.keepUntil = monotonic() + keep(ended, why, now());
    });
    return flight;
  };

  return {
    async renew(token, why, after) {
      const key = why + tokenHash(token);
      const known = flights.get(key);
      if (known !== undefined && (known.keepUntil === undefined || monotonic() < known.keepUntil)) {
        if (after === undefined || known.number > after) {
          return { outcome: await known.outcome, flight: known.number, askedForMe: false };
        }
      }
      // Those who can wait do not all find out by themselves that the authority is away.
      const isAway = why === 'due' && monotonic() < awayUntil;
      const flight = isAway ? undefined : begin(key, token, why);
      if (flight === undefined) return { outcome: AWAY, flight: 0, askedForMe: false };
      return { outcome: await flight.outcome, flight: flight.number, askedForMe: true };
    },
    get latest() {
      return latest;
    },
  };
}

const AWAY: Outcome = { is: 'away', retryAfter: 1 };

/** What an answer of `POST /v1/session/renew` means. */
export function readOutcome({ status, headers, body }: HttpAnswer): Outcome {
  const value = parseJson(body);
  const said = members(value);
  const { renewed, access_token: token, renew_at: renewAt, error, reason } = said;
  if (status === 200 && renewed === true && typeof token === 'string') return { is: 'renewed', token };
  if (status === 200 && renewed === false) {
    return {
      is: 'not-yet',
      renewAt: typeof renewAt === 'number' && Number.isSafeInteger(renewAt) ? renewAt : undefined,
    };
  }
  // In the authority's own words: a 401 of something in between must sign nobody out.
  if (status === 401 && error === 'invalid_token') return { is: 'refused', reason: asReason(reason) };
  // A client's own token: it has no session to renew.
  if (status === 403 && typeof error === 'string') return { is: 'not-yet', renewAt: undefined };
  return { is: 'away', retryAfter: retryAfter(headers) };
}

/** A word like `signed_out`: it goes into our own answers. */
export function asReason(value: unknown): string | undefined {
  return typeof value === 'string' && /^[a-z_]{1,64}$/.test(value) ? value : undefined;
}

/** How long an answer is kept, in milliseconds. */
export function keep(outcome: Outcome, why: Why, now: number): number {
  switch (outcome.is) {
    case 'renewed':
      return KEEP_RENEWED;
    case 'refused':
      return KEEP_REFUSED;
    case 'away':
      return KEEP_AWAY;
    case 'not-yet':
      if (why === 'stale') return KEEP_NOT_YET_STALE;
      if (outcome.renewAt === undefined) return KEEP_NOT_YET;
      return Math.min(Math.max(outcome.renewAt - now, 1) * 1000, KEEP_NOT_YET);
  }
}
