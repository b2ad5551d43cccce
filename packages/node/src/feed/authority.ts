import type { IncomingMessage } from 'node:http';
import { basic, mayBeSentTo, under, type Call, type Http } from '../http.js';
import { members, parseJson } from '../json.js';
import type { Fetcher } from '../keys/fetch.js';
import { monotonic } from '../time.js';

/** Longest wait for an answer, and for the head of the stream, in milliseconds. */
const ANSWER_MS = 10_000;
const MAX_ANSWER = 64 * 1024;
/** Longest life of a token that is believed, in seconds. */
const MAX_LIFE = 24 * 3600;
const SCOPE = 'reseal:feed';

/** Only a person can mend it. */
export class Refused extends Error {}

/** The authority, as a reader of its feed sees it. */
export interface FeedAuthority {
  /** Asks for the feed after that position. Rejects with {@link Refused}, or with what may be better in a moment. */
  open(lastEventId: string | undefined): Promise<IncomingMessage>;
  /** The token is not good any more, whatever it said. */
  forgetToken(): void;
}

export function feedAuthority(
  http: Http,
  issuer: string,
  client: { id: string; secret: string },
  fetcher: Fetcher,
): FeedAuthority {
  const base = new URL(issuer);
  /** Until half of its life is over: a new connection should last. */
  let held: { bearer: string; until: number } | undefined;

  const askForToken = async (): Promise<{ bearer: string; until: number }> => {
    const askedAt = monotonic();
    const url = (await fetcher.metadata()).tokenEndpoint;
    if (url === undefined || !mayBeSentTo(url, base))
      throw new Refused("the authority's token endpoint is no https URL");
    const headers = { Authorization: basic(client), 'Content-Type': 'application/x-www-form-urlencoded' };
    const body = `grant_type=client_credentials&scope=${encodeURIComponent(SCOPE)}`;
    const call: Call = { method: 'POST', url, headers, body, timeoutMs: ANSWER_MS, background: true };
    const answer = await http.ask(call, MAX_ANSWER);
    const said = members(parseJson(answer.body));
    if (answer.status !== 200) throw refusalOf(answer.status, said['error']);
    const { access_token: token, expires_in: life, scope } = said;
    if (typeof scope === 'string' && !scope.split(' ').includes(SCOPE)) throw lacksScope();
    if (typeof token !== 'string' || !/^[\x21-\x7e]{1,16384}$/.test(token))
      throw new Error('the token endpoint answered no token');
    const seconds = typeof life === 'number' && life > 0 ? Math.min(life, MAX_LIFE) : 0;
    return { bearer: `Bearer ${token}`, until: askedAt + seconds * 500 };
  };

  return {
    async open(lastEventId) {
      if (held === undefined || monotonic() >= held.until) held = await askForToken();
      const headers: Record<string, string> = { Authorization: held.bearer, Accept: 'text/event-stream' };
      if (lastEventId !== undefined) headers['Last-Event-ID'] = lastEventId;
      return http.open({
        method: 'GET',
        url: under(issuer, '/v1/feed'),
        headers,
        timeoutMs: ANSWER_MS,
        background: true,
      });
    },
    forgetToken() {
      held = undefined;
    },
  };
}

export function lacksScope(): Refused {
  return new Refused('the client may not read the feed: it lacks the scope reseal:feed');
}

function refusalOf(status: number, error: unknown): Error {
  if (status >= 400 && status < 500 && status !== 429) {
    if (error === 'invalid_client') return new Refused('the authority does not know the client or its secret');
    if (error === 'invalid_scope') return lacksScope();
    if (error === 'unauthorized_client' || error === 'unsupported_grant_type') {
      return new Refused('the client may not have tokens of its own (client_credentials)');
    }
  }
  return new Error(`the token endpoint answered with ${status}`);
}
