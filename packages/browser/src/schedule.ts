import type { Held } from './tokens.js';
import type { Mode } from './types.js';

/** Moments in Unix seconds by the authority's clock. */
export interface Plan {
  /** From here on a use renews. */
  use: number;
  /** Here it renews without being used, if it is to be kept alive. */
  ahead: number;
  /** The user is signed out here unless something renews. */
  last: number;
}

/** What is due when. Where a renewal can win no time there is none. */
export function plan(mode: Mode, { claims, session }: Held, renewBefore: number): Plan {
  const limit = session.expires_at;
  const idle = Math.min(session.idle_expires_at ?? limit, limit);
  const until = claims.exp ?? idle;
  const half = claims.renew_at ?? session.renew_at;
  const ahead = until < limit ? until - Math.min(renewBefore, 0.2 * (until - (claims.iat ?? half ?? until))) : Infinity;
  return {
    use: ahead < limit ? Math.min(half ?? ahead, ahead) : ahead,
    ahead,
    last: mode === 'refresh' ? idle : until,
  };
}

/** Seconds to wait after the nth failure in a row: 1 to 30, spread so that pages do not come back all at once. */
export const backOff = (failures: number, random: number, retryAfter = 0) =>
  Math.min(30, Math.max(retryAfter, 2 ** failures)) * (0.5 + random / 2) + 0.5;
