/** Why a call failed. Never holds a token. */
export class ResealError extends Error {
  /** The wire's `error`, or `signed_out`, `unavailable` (authority away, or no readable answer), `no_token` (mode cookie). */
  readonly code: string;
  /** The HTTP status, if there was an answer. */
  readonly status?: number;
  /** The wire's `reason`: why a session ended. */
  readonly reason?: string;
  /** Seconds to wait, by `Retry-After`. */
  readonly retryAfter?: number;
  /** What else the body told, such as `challenge` or `max_age`. */
  readonly details?: Record<string, unknown>;

  constructor(
    code: string,
    more: {
      message?: string;
      status?: number;
      reason?: string;
      retryAfter?: number;
      details?: Record<string, unknown>;
    } = {},
  ) {
    super(more.message ?? code);
    this.name = 'ResealError';
    this.code = code;
    const { message: _, ...rest } = more;
    Object.assign(this, rest);
  }
}
