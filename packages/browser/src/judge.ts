import type { Mode } from './types.js';

/** What an answer to a renewal means: renewed or alive, over for good, replaced a moment ago, or nothing at all. */
export type Verdict = 'good' | 'over' | 'superseded' | 'away';

/**
 * Only the authority's own word ends a session (RFC 6749 §5.2, RFC 6750 §3.1); network failures, 403, 429, 5xx and
 * whatever a proxy answers never do.
 */
export function judge(mode: Mode, status: number, body: Record<string, unknown>): Verdict {
  if (status === 200) return 'good';
  const over =
    mode === 'refresh' && status === 400
      ? body.error === 'invalid_grant'
      : status === 401 && (body.error === 'invalid_token' || (mode === 'cookie' && body.error === 'unauthorized'));
  if (!over) return 'away';
  return body.reason === 'superseded' ? 'superseded' : 'over';
}

/** `error` of a `WWW-Authenticate` challenge. */
export const challengeError = (header: string | null) => /\berror="?([\w-]+)/i.exec(header ?? '')?.[1];
