// Token introspection (RFC 7662), for times when the feed is lost. One call per token however many requests carry it, and
// its answer is good for a second.

import { tokenHash } from './cache.js';
import { cannotTell, invalid } from './errors.js';
import { basic, formEncode, mayBeSentTo, under, type Http } from './http.js';
import { parseJson } from './json.js';
import type { Fetcher } from './keys/fetch.js';
import type { Log } from './log.js';
import type { Token } from './payload.js';
import { createTurns, monotonic } from './time.js';

/** How long an answer is good, in milliseconds. */
const LIFE_MS = 1000;
/** After a failure nobody is asked for so long: requests shall not queue up for an authority that is away. */
const REST_MS = 250;
const MAX_CALLS = 64;
const MAX_WAITING = 4096;
const MAX_ANSWERS = 10_000;
const MAX_ANSWER_LENGTH = 64 * 1024;

/** Asks the authority about tokens. */
export interface Introspector {
  /** Whether the token is stale. Rejects with a `Fault`: it is not active, or nobody can say. */
  ask(text: string, token: Token): Promise<boolean>;
}

/** What the authority says of a token (RFC 7662 §2.2), as far as it matters beside the token itself. */
export type Answer =
  | { readonly is: 'active'; readonly currentRev: number | undefined; readonly scope: string | undefined }
  | { readonly is: 'inactive' }
  | { readonly is: 'away' };

export interface IntrospectorParts {
  readonly http: Http;
  readonly issuer: string;
  readonly client: { id: string; secret: string };
  readonly fetcher: Fetcher;
  readonly timeoutMs: number;
  readonly log: Log;
}

export function createIntrospector(parts: IntrospectorParts): Introspector {
  const { http, issuer, client, fetcher, timeoutMs, log } = parts;
  const base = new URL(issuer);
  const turns = createTurns(MAX_CALLS, MAX_WAITING);
  const running = new Map<string, Promise<Answer>>();
  const kept = new Map<string, { answer: Answer; until: number }>();
  let restUntil = 0;

  const call = async (text: string, token: Token): Promise<Answer> => {
    const url = fetcher.known?.introspectionEndpoint ?? under(issuer, '/oauth/introspect');
    if (!mayBeSentTo(url, base)) throw new Error('its endpoint is without TLS');
    const headers = {
      Authorization: basic(client),
      'Content-Type': 'application/x-www-form-urlencoded',
      Accept: 'application/json',
    };
    const body = `token_type_hint=access_token&token=${formEncode(text)}`;
    const answer = await http.ask(
      { method: 'POST', url, headers, body, timeoutMs, background: false },
      MAX_ANSWER_LENGTH,
    );
    if (answer.status !== 200) throw new Error(`the authority answered with ${answer.status}`);
    const read = readAnswer(answer.body, issuer, token);
    if (read === undefined) throw new Error('the answer is not what RFC 7662 has');
    return read;
  };

  const run = async (hash: string, text: string, token: Token): Promise<Answer> => {
    const turn = await turns.take(timeoutMs);
    if (turn === undefined) return AWAY;
    const askedAt = monotonic();
    try {
      const answer = await call(text, token);
      keep(hash, { answer, until: askedAt + LIFE_MS });
      return answer;
    } catch (error) {
      restUntil = monotonic() + REST_MS;
      log.warn('introspection', `a token could not be introspected: ${(error as Error).message}`);
      return AWAY;
    } finally {
      turn();
    }
  };

  /** Old ones go first: they are in the order of their calls. */
  const keep = (hash: string, entry: { answer: Answer; until: number }): void => {
    kept.delete(hash);
    kept.set(hash, entry);
    for (const [old, { until }] of kept) {
      if (kept.size <= MAX_ANSWERS && until > monotonic()) break;
      kept.delete(old);
    }
  };

  const answerFor = (text: string, token: Token): Promise<Answer> => {
    const hash = tokenHash(text);
    const known = kept.get(hash);
    if (known !== undefined && monotonic() < known.until) return Promise.resolve(known.answer);
    const others = running.get(hash);
    if (others !== undefined) return others;
    if (monotonic() < restUntil) return Promise.resolve(AWAY);
    const asked = run(hash, text, token).finally(() => running.delete(hash));
    running.set(hash, asked);
    return asked;
  };

  return { ask: async (text, token) => isStale(await answerFor(text, token), token) };
}

const AWAY: Answer = { is: 'away' };

/** Whether the token is stale by that answer. */
export function isStale(answer: Answer, { registered }: Token): boolean {
  if (answer.is === 'away') throw cannotTell('the authority did not answer');
  if (answer.is === 'inactive') throw invalid('the token is not active');
  const { currentRev, scope } = answer;
  const changed = currentRev !== undefined && (registered.rev === undefined || registered.rev < currentRev);
  // The client may have less now than when the token was issued.
  const granted = scope?.split(' ');
  return changed || (granted !== undefined && registered.scope.some((own) => !granted.includes(own)));
}

/** An answer that is about somebody else's token is none at all. */
export function readAnswer(body: Uint8Array, issuer: string, { registered }: Token): Answer | undefined {
  const value = parseJson(body);
  if (typeof value !== 'object' || value === null) return undefined;
  const said = value as Record<string, unknown>;
  if (said['active'] === false) return { is: 'inactive' };
  const isOf = (name: string, expected: string | undefined): boolean =>
    said[name] === undefined || said[name] === expected;
  if (said['active'] !== true || !isOf('iss', issuer) || !isOf('sub', registered.sub)) return undefined;
  const { current_rev: rev, scope } = said;
  return {
    is: 'active',
    currentRev: typeof rev === 'number' ? rev : undefined,
    scope: typeof scope === 'string' ? scope : undefined,
  };
}
