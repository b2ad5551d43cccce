// Whether a request of the authority's users is let through, and with which token.

import type { CookieExchange } from './cookie.js';
import { cannotTell, changed, ended, Fault } from './errors.js';
import type { Log } from './log.js';
import type { Token } from './payload.js';
import type { Renewer } from './renew.js';
import type { GuardedRequest, OnStale } from './types.js';
import type { Checked, Verifier } from './verifier.js';

/** The newest token of a request, and what its answer must carry. */
export interface Held {
  readonly token: Token;
  readonly text: string;
  /** Whether its sender is to be given it. */
  readonly renewed: boolean;
  readonly setCookie: readonly string[];
}

/** A request that is let through. */
export interface Admitted {
  readonly held: Held;
  /** A newer token after a change of the record; undefined: there is none to be had here. */
  readonly reseal: (held: Held) => Promise<Held | undefined>;
}

/** Lets requests in, or rejects with a `Fault`. */
export interface Admission {
  token(text: string): Promise<Admitted>;
  /** Undefined: there is no cookie of ours. */
  cookie(request: GuardedRequest): Promise<Admitted | undefined>;
}

export interface AdmissionParts {
  readonly verifier: Verifier;
  readonly renewer: Renewer;
  readonly cookies: CookieExchange | undefined;
  readonly onStale: OnStale;
  readonly sliding: boolean;
  /** Unix seconds. */
  readonly now: () => number;
  readonly log: Log;
}

export function createAdmission({ verifier, renewer, cookies, onStale, sliding, now, log }: AdmissionParts): Admission {
  const reseal = async (held: Held): Promise<Held | undefined> => {
    const newer = await replace(held.text, held.token, { resealing: true });
    return newer?.text === held.text ? held : newer;
  };

  /** Past the half of its life: a newer token if there is one, else this one goes on while it lasts. */
  const slide = async (text: string, token: Token): Promise<Held> => {
    const asIs = heldAs(text, token, false);
    const { outcome } = await renewer.renew(text, 'due');
    if (outcome.is === 'refused') throw ended(outcome.reason);
    if (outcome.is !== 'renewed') return asIs;
    let newer: Checked;
    try {
      newer = await verifier.check(outcome.token);
    } catch (error) {
      if (!(error instanceof Fault) || error.kind === 'ended') throw error;
      // For example signed with a key that could not be fetched yet.
      log.warn('renewed', `a renewed token cannot be used yet: ${error.message}; the one presented is still good`);
      return asIs;
    }
    if (!isSuccessor(newer.token, token, log)) return asIs;
    if (!newer.stale) return heldAs(outcome.token, newer.token, true);
    // Something changed since; the old one is as stale.
    if (onStale === 'refuse') throw changed();
    return stale(text, token);
  };

  const stale = async (text: string, token: Token): Promise<Held> => {
    const newer = await replace(text, token, { resealing: false });
    if (newer === undefined) throw changed();
    return newer;
  };

  /**
   * A token with other claims; undefined: its holder has to renew it himself.
   *
   * The newer one may be stale again. Either it was asked for before the change (others' call, or an answer that was kept):
   * then a later call is made, once. Or the change was one of the client, in this very second: `iat` knows no parts of it,
   * so a token of that second counts as older, wherever it came from. One that we asked for after we had learned of the
   * change is newer, and is accepted here.
   */
  const replace = async (
    text: string,
    token: Token,
    { resealing }: { resealing: boolean },
  ): Promise<Held | undefined> => {
    // The feed may not have told yet of what the handler has just done: only a call that begins now knows it.
    let after = resealing ? renewer.latest : undefined;
    for (let attempt = 0; attempt < 2; attempt++) {
      const isLater = after !== undefined;
      const { outcome, flight, askedForMe } = await renewer.renew(text, 'stale', after);
      if (outcome.is === 'refused') throw ended(outcome.reason);
      if (outcome.is === 'away') throw cannotTell('the authority did not answer', outcome.retryAfter);
      if (outcome.is === 'not-yet') {
        // It would issue a newer one to this holder, but there is nothing new to say.
        return resealing && outcome.renewAt !== undefined ? heldAs(text, token, false) : undefined;
      }
      const newer = await verifier.check(outcome.token);
      if (!isSuccessor(newer.token, token, log)) break;
      const asked = askedForMe || isLater;
      if (!newer.stale || (asked && verifier.isOfTheSecondOfTheChange(newer.token))) {
        return heldAs(outcome.token, newer.token, true);
      }
      after = flight;
    }
    throw cannotTell('the authority answered no newer token');
  };

  const exchange = async (cookie: string, request: GuardedRequest, exchanger: CookieExchange): Promise<Held> => {
    for (let attempt = 0; attempt < 2; attempt++) {
      const exchanged = await exchanger.exchange(cookie, request);
      if (exchanged.is === 'refused') throw ended(exchanged.reason);
      if (exchanged.is === 'cross-site') throw new Fault('cross-site', 'a cross-site request with the session cookie');
      if (exchanged.is === 'away') throw cannotTell('the authority did not answer', exchanged.retryAfter);
      const { token, stale } = await verifier.check(exchanged.token);
      const { setCookie } = exchanged;
      // Stale the first time: the change came in between.
      const isGood = !stale || (attempt > 0 && verifier.isOfTheSecondOfTheChange(token));
      if (isGood) return { token, text: exchanged.token, renewed: false, setCookie };
    }
    throw cannotTell('the authority answered a stale token');
  };

  return {
    async token(text) {
      const { token, stale: isStale } = await verifier.check(text);
      if (isStale && onStale === 'refuse') throw changed();
      if (isStale) return { held: await stale(text, token), reseal };
      const { renewAt } = token.registered;
      const isDue = sliding && renewAt !== undefined && renewAt <= now();
      return { held: isDue ? await slide(text, token) : heldAs(text, token, false), reseal };
    },
    async cookie(request) {
      const cookie = cookies?.find(request);
      if (cookies === undefined || cookie === undefined) return undefined;
      const again = async (before: Held): Promise<Held> => {
        const newer = await exchange(cookie, request, cookies);
        // What an earlier answer said to set is still to be set, unless there is something newer.
        return newer.setCookie.length > 0 ? newer : { ...newer, setCookie: before.setCookie };
      };
      return { held: await exchange(cookie, request, cookies), reseal: again };
    },
  };
}

function heldAs(text: string, token: Token, renewed: boolean): Held {
  return { token, text, renewed, setCookie: NONE };
}

const NONE: readonly string[] = [];

/**
 * Whether one token is of the same session and user as the other. Anything else the authority never answers, and if it did,
 * it would let one user act as another.
 */
function isSuccessor({ registered: newer }: Token, { registered: token }: Token, log: Log): boolean {
  const isSame = newer.sid !== undefined && newer.sid === token.sid && newer.sub === token.sub;
  if (!isSame) log.warn('successor', 'the authority answered a renewal with a token of another session');
  return isSame;
}
