import { readText } from './http.js';
import type { State } from './state.js';
import type { Session } from './types.js';

/** `fetch` with the session's credential for own origins. */
export function createFetch(
  { own, send }: State,
  { prepare, settle }: Pick<Session, 'prepare' | 'settle'>,
): typeof fetch {
  return async (input, init) => {
    const request = (input as Request).url ? (input as Request) : undefined;
    // A `URL` may be changed by its owner while the token is made ready.
    const url = request?.url ?? String(input);
    const signal = init?.signal ?? request?.signal;
    input = request ?? url;
    // As `fetch`: headers of `init` take the place of the request's.
    const headers = new Headers(init?.headers ?? request?.headers);
    // What the caller has authenticated himself is his affair.
    const mine = !headers.has('authorization') && own(url);
    for (let retried = false; ; retried = true) {
      const sent = mine ? await until(prepare(url), signal) : null;
      if (!sent) return send(input, init);
      for (const name in sent.headers) headers.set(name, sent.headers[name]!);
      const response = await send(input, { ...init, headers, ...(sent.credentials && { credentials: 'include' }) });
      // A redirect may have led to a stranger (browsers take Authorization off then).
      if (response.url && !own(response.url)) return response;
      const json = async () => JSON.parse(await readText(response.clone()));
      const answer = { status: response.status, header: (name: string) => response.headers.get(name), json };
      const renewed = await until(settle(sent, answer, retried), signal);
      // A body that is gone cannot be sent again.
      if (!renewed || request?.bodyUsed || (init?.body as ReadableStream)?.locked) return response;
    }
  };
}

/** Waits no longer than the caller does. */
function until<T>(promise: Promise<T>, signal: AbortSignal | null | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
