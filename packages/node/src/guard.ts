import { inspect } from 'node:util';
import type { Admitted } from './admission.js';
import { createSecretBackend, startAuthorityBackend, type Backend } from './backend.js';
import { bearer } from './bearer.js';
import { cannotTell, Fault, invalid } from './errors.js';
import { readOptions, type Settings } from './options.js';
import { refusalOf } from './refusal.js';
import { GuardedSession } from './session.js';
import type { GuardedRequest, GuardOptions, Health, RequestSession, StandardClaims } from './types.js';

/**
 * Verifies the access tokens of requests, with the issuer's published keys and without a call per request. Make one for each
 * service: it fetches keys and follows the feed in the background, and keeps no process alive by that.
 */
export class Guard<Claims extends object = StandardClaims> {
  readonly #settings: Settings;
  readonly #backend: Backend;
  #closed = false;

  /** Throws a `ConfigurationError` for settings that contradict each other. */
  constructor(options: GuardOptions<Claims>) {
    this.#settings = readOptions(options as GuardOptions<never>);
    this.#backend =
      this.#settings.secret === undefined ? startAuthorityBackend(this.#settings) : createSecretBackend(this.#settings);
  }

  /**
   * Resolves when the keys are there and the feed has caught up, or when the first try has failed: 10 s at most. The first
   * request waits for it by itself.
   */
  ready(): Promise<void> {
    return this.#backend.ready();
  }

  /**
   * Checks a request; Node's `IncomingMessage` will do. Null only with `passthrough`. Rejects with a `Refusal`, which is the
   * whole answer. `realm` goes before that of the guard.
   */
  async admit(request: GuardedRequest, realm = this.realm): Promise<RequestSession<Claims> | null> {
    const { passthrough, now } = this.#settings;
    try {
      const admitted = await this.#admit(request);
      if (admitted !== undefined) return new GuardedSession<Claims>(admitted, { realm, now });
      if (passthrough) return null;
      throw new Fault('missing', 'there is no token');
    } catch (error) {
      throw refusalOf(error, realm);
    }
  }

  async #admit(request: GuardedRequest): Promise<Admitted | undefined> {
    if (this.#closed) throw cannotTell('the guard was closed');
    // Found by a function of the application's, perhaps in a query that says it twice.
    if (typeof request.token === 'string') return this.#backend.token(request.token, request);
    if (request.token !== undefined) throw invalid('what was found is no text');
    const presented = bearer(request);
    if (presented === 'malformed') throw new Fault('malformed', 'the Authorization header cannot be read');
    if (presented !== 'none') return this.#backend.token(presented.token, request);
    // Whoever sends another credential does not mean the cookie.
    return request.headers['authorization'] === undefined ? this.#backend.cookie(request) : undefined;
  }

  /** `realm` of its challenges. */
  get realm(): string | undefined {
    return this.#settings.realm;
  }

  /** How it is doing, for a health page. */
  health(): Health {
    return this.#backend.health();
  }

  /** Ends everything that runs in the background. Requests after it are refused with 503. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#backend.close();
  }

  [inspect.custom](): string {
    return `Guard { issuer: ${JSON.stringify(this.#settings.issuer)} }`;
  }
}
