/** Why a call failed. Never holds a token. */
export class ResealError extends Error {
  /** The wire's `error`; or `signed_out`, `unavailable` (no answer, or none to be understood), `no_token` (mode cookie). */
  declare readonly code: string;
  /** The HTTP status, if there was an answer. */
  declare readonly status?: number;
  /** The wire's `reason`: why a session ended. */
  declare readonly reason?: string;
  /** Seconds to wait, by `Retry-After`. */
  declare readonly retryAfter?: number;
  /** What else the body told, such as `challenge`, `tries_left` or `max_age`. */
  declare readonly details?: Record<string, unknown>;

  constructor(code: string, message = code, more?: object) {
    super(message);
    Object.assign(this, { name: 'ResealError', code }, more);
  }
}

/** There was no answer, or none that can be understood. */
export const unavailable = (message?: string) => new ResealError('unavailable', message);
export const signedOut = (reason?: string) => new ResealError('signed_out', reason, { reason });

/** What there is while somebody is signed in. */
export function need<T>(found: T | null): T {
  if (!found) throw signedOut();
  return found;
}
