import type { ResealError } from './error.js';
import type { Mode } from './types.js';

/** What a refused renewal means: over for good, replaced a moment ago, or nothing at all. */
export type Verdict = 'over' | 'superseded' | 'away';

/**
 * Only the authority's own word ends a session (RFC 6749 §5.2, RFC 6750 §3.1); network failures, 403, 429, 5xx and
 * whatever a proxy answers never do.
 */
export function judge(mode: Mode, { status, code, reason }: Pick<ResealError, 'status' | 'code' | 'reason'>): Verdict {
  const over =
    mode === 'refresh' && status === 400
      ? code === 'invalid_grant'
      : status === 401 && (code === DEAD || (mode === 'cookie' && code === 'unauthorized'));
  return !over ? 'away' : reason === 'superseded' ? reason : 'over';
}

/** The error of a token that is no good any more (RFC 6750 §3.1). */
export const DEAD = 'invalid_token';

/** `error` of a `WWW-Authenticate` challenge. */
export const challengeError = (header: string | null) => /\berror="?([\w-]+)/i.exec(header!)?.[1];
