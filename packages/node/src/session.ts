import { inspect } from 'node:util';
import type { Admitted, Held } from './admission.js';
import { insufficientAuthentication, insufficientScope, refusalOf } from './refusal.js';
import type { RegisteredClaims, RequestSession, StandardClaims } from './types.js';

/** What a session needs of its guard. */
export interface SessionContext {
  readonly realm: string | undefined;
  /** Unix seconds, rounded down. */
  readonly now: () => number;
}

/**
 * The session of one request. Its members are getters: what prints or serializes objects finds neither the token nor the
 * claims in it.
 */
export class GuardedSession<Claims extends object = StandardClaims> implements RequestSession<Claims> {
  #held: Held;
  #claims: (Claims & RegisteredClaims) | undefined;
  readonly #reseal: Admitted['reseal'];
  readonly #context: SessionContext;

  constructor({ held, reseal }: Admitted, context: SessionContext) {
    this.#held = held;
    this.#reseal = reseal;
    this.#context = context;
  }

  get claims(): Claims & RegisteredClaims {
    // Parsed for each request anew: what a handler does with it is seen by no other.
    this.#claims ??= JSON.parse(this.#held.token.payload) as Claims & RegisteredClaims;
    return this.#claims;
  }

  get token(): string {
    return this.#held.text;
  }

  get id(): string | undefined {
    return this.#held.token.registered.sid;
  }

  get subject(): string {
    return this.#held.token.registered.sub ?? '';
  }

  get clientId(): string | undefined {
    return this.#held.token.registered.clientId;
  }

  get scope(): readonly string[] {
    return this.#held.token.registered.scope;
  }

  get acr(): string | undefined {
    return this.#held.token.registered.acr;
  }

  get amr(): readonly string[] {
    return this.#held.token.registered.amr;
  }

  get authTime(): number | undefined {
    return this.#held.token.registered.authTime;
  }

  get expiresAt(): number {
    return this.#held.token.registered.exp ?? Infinity;
  }

  get renewAt(): number | undefined {
    return this.#held.token.registered.renewAt;
  }

  async reseal(): Promise<(Claims & RegisteredClaims) | null> {
    let newer: Held | undefined;
    try {
      newer = await this.#reseal(this.#held);
    } catch (error) {
      throw refusalOf(error, this.#context.realm);
    }
    if (newer === undefined) return null;
    // Of two that were asked for at the same time the one that knows more stays.
    if (newer !== this.#held && !isOlder(newer, this.#held)) {
      this.#held = newer;
      this.#claims = undefined;
    }
    return this.claims;
  }

  requireScope(...scopes: string[]): void {
    const wanted = words(scopes);
    const { scope } = this.#held.token.registered;
    if (!wanted.every((word) => word !== '' && scope.includes(word)))
      throw insufficientScope(wanted, this.#context.realm);
  }

  requireAcr(...values: string[]): void {
    const wanted = words(values);
    const { acr } = this.#held.token.registered;
    if (acr === undefined || acr === '' || !wanted.includes(acr)) {
      throw insufficientAuthentication(wanted, undefined, this.#context.realm);
    }
  }

  requireMaxAge(seconds: number): void {
    const { authTime } = this.#held.token.registered;
    // A token that does not say when counts as old. Not a number is met by none: a setting that was forgotten closes.
    if (authTime === undefined || !(this.#context.now() - authTime <= seconds)) {
      throw insufficientAuthentication([], seconds, this.#context.realm);
    }
  }

  responseHeaders(): Record<string, string | string[]> {
    const { renewed, text, setCookie } = this.#held;
    const headers: Record<string, string | string[]> = {};
    if (renewed) {
      headers['Renewed-Access-Token'] = text;
      headers['Access-Control-Expose-Headers'] = 'Renewed-Access-Token';
    }
    if (setCookie.length > 0) headers['Set-Cookie'] = [...setCookie];
    // An answer with a credential is for its caller alone.
    if (renewed || setCookie.length > 0) headers['Cache-Control'] = 'no-store';
    return headers;
  }

  toJSON(): Record<string, unknown> {
    const { id, subject, clientId, scope, acr, expiresAt } = this;
    return { id, subject, clientId, scope, acr, expiresAt };
  }

  [inspect.custom](): unknown {
    return { ...this.toJSON(), token: '(hidden)' };
  }
}

/** Access tokens of one session are ordered by `rev`, `iat` and `exp`. */
function isOlder({ token: { registered: a } }: Held, { token: { registered: b } }: Held): boolean {
  const differences = [(a.rev ?? 0) - (b.rev ?? 0), (a.iat ?? 0) - (b.iat ?? 0), (a.exp ?? 0) - (b.exp ?? 0)];
  return (differences.find((difference) => difference !== 0) ?? 0) < 0;
}

/** The words of a setting; of an empty one a word that no token has, or it would ask for nothing. */
function words(texts: readonly string[]): string[] {
  const found = texts.flatMap((text) => String(text).split(' ')).filter((word) => word !== '');
  return found.length === 0 ? [''] : found;
}
