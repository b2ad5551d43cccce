import { unavailable } from './refusal.js';
import type { GuardedRequest, GuardOptions, Health, RequestSession, StandardClaims } from './types.js';

/** Verifies the access tokens of requests, with the issuer's published keys and without a call per request. */
export class Guard<Claims extends object = StandardClaims> {
  /** Settings that contradict each other throw a `ConfigurationError`. */
  constructor(options: GuardOptions<Claims>) {
    void options;
  }

  /** Resolves when the keys are there and the feed has caught up, or when the first try has failed: 10 s at most. */
  async ready(): Promise<void> {}

  /** Checks a request. Null only with `passthrough`. Rejects with a {@link Refusal}. */
  async admit(request: GuardedRequest): Promise<RequestSession<Claims> | null> {
    void request;
    throw unavailable();
  }

  /** How it is doing, for a health page. */
  health(): Health {
    return { ready: false, keys: { given: false, usable: 0, failures: 0 } };
  }

  /** Ends everything that runs in the background. Requests after it are refused with 503. */
  async close(): Promise<void> {}
}
