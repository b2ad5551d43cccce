import { type Env, within } from './env.js';
import { ResealError, unavailable } from './error.js';
import { decode } from './tokens.js';
import type { Clock } from './clock.js';

const BODY_MAX = 1 << 20;

/** A JSON object. */
export type Body = Record<string, unknown>;

/** Headers of a request. */
export type Fields = Readonly<Record<string, string>>;

/**
 * Asks the authority once. Rejects with what the answer tells of, or with `unavailable` where there is none that can be
 * understood. A token that came in a header is put into the body. What is sent is JSON, or the form that OAuth takes.
 */
export type Authority = (method: string, path: string, sent?: unknown, headers?: Fields) => Promise<Body>;

/** The authority behind `send`, which takes its paths. */
export function createAuthority(env: Env, clock: Clock, timeout: number, send: typeof fetch): Authority {
  return (method, path, sent, headers) =>
    within(env, timeout, async (signal) => {
      const began = clock.mono();
      const text = sent instanceof URLSearchParams ? undefined : JSON.stringify(sent);
      const response = await send(path, {
        method,
        headers: { ...headers, ...(text && { 'content-type': 'application/json' }) },
        body: text ?? (sent as URLSearchParams),
        cache: 'no-store',
        // Neither a password nor a token follows a redirect.
        redirect: 'error',
        // A sign-out goes on when the page is left.
        keepalive: true,
        signal,
      });
      const answer = await readText(response);
      const { ok, status } = response;
      // The page slept meanwhile: another tab may have taken this for lost and gone on.
      if (clock.mono() - began > timeout) throw unavailable();
      const header = (name: string) => response.headers.get(name);
      let body: Body = {};
      try {
        body = JSON.parse(answer || '{}') ?? body;
      } catch {
        // A page of a proxy in between is no answer.
        if (ok) throw unavailable();
      }
      const renewed = header(RENEWED);
      if (renewed) body.access_token ??= renewed;
      clock.hear(header('date'), decode(body.access_token)?.iat);
      if (ok) return body;
      const { error, error_description, reason, access_token, ...details } = body;
      throw new ResealError(
        error && error !== 'temporarily_unavailable' ? `${error}` : 'unavailable',
        error_description as string,
        { status, reason, retryAfter: +header('retry-after')! || undefined, details },
      );
    }).catch((error) => {
      throw error instanceof ResealError ? error : unavailable(`${error}`);
    });
}

/** The header in which a renewed token travels. */
export const RENEWED = 'renewed-access-token';

/** A body as text, or an empty one where it is larger than that. */
export async function readText({ body }: Response): Promise<string> {
  const reader = body?.getReader();
  const decoder = new TextDecoder();
  let text = '';
  for (;;) {
    const { value } = (await reader?.read()) ?? {};
    if (!value) return text;
    text += decoder.decode(value, { stream: true });
    if (text.length > BODY_MAX) {
      void reader!.cancel();
      return '';
    }
  }
}
