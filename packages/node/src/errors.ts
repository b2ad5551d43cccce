/** Settings that cannot work: thrown when a guard is made, never while it runs. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
}

/** Why a request is refused: what is wrong with its token, or why that cannot be judged. */
export type FaultKind =
  | 'missing'
  | 'malformed'
  | 'invalid'
  | 'expired'
  /** The session is over, or the authority does not accept the credential. */
  | 'ended'
  | 'changed'
  | 'cross-site'
  | 'unavailable';

/**
 * Thrown inside; each request makes its own refusal of it, since several may wait for one check. Never has a token in its
 * text.
 */
export class Fault extends Error {
  override readonly name = 'Fault';
  /** Why the session ended. */
  readonly reason: string | undefined;
  /** When to try again, in seconds. */
  readonly retryAfter: number;

  constructor(
    readonly kind: FaultKind,
    message: string,
    more: { reason?: string | undefined; retryAfter?: number; cause?: unknown } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.reason = more.reason;
    this.retryAfter = more.retryAfter ?? 1;
  }
}

/** The token is not good. */
export function invalid(text: string, cause?: unknown): Fault {
  return new Fault('invalid', text, { cause });
}

/** The session is over; without a reason the authority just does not accept the credential. */
export function ended(reason: string | undefined): Fault {
  return new Fault('ended', 'the session has ended', { reason });
}

/** The claims are not those of the record any more. */
export function changed(): Fault {
  return new Fault('changed', 'the claims have changed');
}

/** It cannot be judged now. */
export function cannotTell(text: string, retryAfter = 1): Fault {
  return new Fault('unavailable', text, { retryAfter });
}
