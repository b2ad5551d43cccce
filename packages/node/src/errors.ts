/** Settings that cannot work: thrown when a guard is made, never while it runs. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
}

/** What is wrong with a token, or why it cannot be judged. */
export type FaultKind = 'invalid' | 'expired' | 'ended' | 'changed' | 'unavailable';

/**
 * Thrown inside; each request makes its own refusal of it, since several may wait for one check. Never has a token in its
 * text.
 */
export class Fault extends Error {
  override readonly name = 'Fault';

  constructor(
    readonly kind: FaultKind,
    message: string,
    /** Why the session ended. */
    readonly reason?: string,
  ) {
    super(message);
  }
}

/** The token is not good. */
export function invalid(text: string): Fault {
  return new Fault('invalid', text);
}

/** It cannot be judged now. */
export function cannotTell(text: string): Fault {
  return new Fault('unavailable', text);
}
