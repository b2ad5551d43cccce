import type { ResealError } from './error.js';
import type { Mode } from './types.js';

/**
 * Whether the refusal of a renewal says that the credential is no good. Only the authority's own word does (RFC 6749
 * §5.2, RFC 6750 §3.1); network failures, 403, 429, 5xx and whatever a proxy answers never do.
 */
export const isDead = (mode: Mode, { status, code }: Pick<ResealError, 'status' | 'code'>): boolean =>
  mode === 'refresh' && status === 400
    ? code === 'invalid_grant'
    : status === 401 && (code === DEAD || (mode === 'cookie' && code === 'unauthorized'));

/** The error of a token that is no good any more (RFC 6750 §3.1). */
export const DEAD = 'invalid_token';

/** `error` of a `WWW-Authenticate` challenge. */
export const challengeError = (header: string | null) => /\berror="?([\w-]+)/i.exec(header!)?.[1];
