import type { Clock } from './clock.js';
import { type Env, unavailable, within } from './env.js';
import { ResealError } from './error.js';
import { decode } from './tokens.js';

const BODY_MAX = 1 << 20;

/** An answer that could be read: a JSON object, or nothing. */
export interface Reply {
  status: number;
  body: Record<string, unknown>;
  header(name: string): string | null;
}

/** A request to the authority. */
export interface Ask {
  headers?: Readonly<Record<string, string>>;
  json?: unknown;
  form?: Record<string, string>;
  /** Goes on when the page is left. */
  keepalive?: boolean;
}

/** Asks the authority once. Rejects with `unavailable` where there is no answer that can be understood. */
export type Authority = (method: string, path: string, ask?: Ask) => Promise<Reply>;

export function createAuthority(
  { api, send, env, clock }: { api: string; send: typeof fetch; env: Env; clock: Clock },
  credentials: RequestCredentials,
  timeout: number,
): Authority {
  return (method, path, { headers, json, form, keepalive = false } = {}) =>
    within(env, timeout, async (signal) => {
      const began = clock.mono();
      const response = await send(api + path, {
        method,
        headers: json === undefined ? { ...headers } : { ...headers, 'content-type': 'application/json' },
        ...(form ? { body: new URLSearchParams(form) } : json !== undefined && { body: JSON.stringify(json) }),
        credentials,
        cache: 'no-store',
        // Neither a password nor a token follows a redirect.
        redirect: 'error',
        keepalive,
        signal,
      });
      const text = await readText(response, BODY_MAX);
      // The page slept meanwhile: another tab may have taken this for lost and gone on.
      if (clock.mono() - began > timeout) throw unavailable();
      let body = {};
      try {
        body = JSON.parse(text || '{}') ?? {};
      } catch {
        // A page of a proxy in between is no answer.
        if (response.ok) throw unavailable();
      }
      clock.hear(response.headers.get('date'), decode((body as Reply['body']).access_token)?.iat);
      return { status: response.status, body, header: (name: string) => response.headers.get(name) };
    }).catch((error) => {
      throw error instanceof ResealError ? error : unavailable(`${error}`);
    });
}

/** A body as text, or an empty one where it is larger than that. */
export async function readText({ body }: Response, max: number): Promise<string> {
  const reader = body?.getReader();
  const decoder = new TextDecoder();
  let text = '';
  for (;;) {
    const chunk = await reader?.read();
    if (!chunk || chunk.done) return text;
    text += decoder.decode(chunk.value, { stream: true });
    if (text.length > max) {
      void reader?.cancel();
      return '';
    }
  }
}

/** The error that an answer tells of. */
export function toError({ status, body, header }: Reply): ResealError {
  const { error, error_description, reason, ...details } = body;
  return new ResealError(
    typeof error === 'string' && error !== 'temporarily_unavailable' ? error : 'unavailable',
    error_description as string,
    {
      status,
      reason,
      retryAfter: Number(header('retry-after')) || undefined,
      details,
    },
  );
}
