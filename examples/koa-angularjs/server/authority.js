// Calls to the authority in this app's own name: as its confidential client, with a token of scope `reseal:admin`.

const TIMEOUT = 5_000;
const MAX_ANSWER = 256 * 1024;

/** An answer that is none of the expected ones. `code` is the authority's, never anything of the request. */
export class AuthorityError extends Error {
  /** @param {number} status @param {string} code @param {string} [description] */
  constructor(status, code, description) {
    super(description ?? `The authority answered ${status} ${code}.`);
    this.name = 'AuthorityError';
    this.status = status;
    this.code = code;
  }
}

/**
 * @param {{ issuer: string, service: { client_id: string, client_secret: string }, clock: import('./clock.js').Clock }} options
 */
export function connect({ issuer, service, clock }) {
  /** @type {Promise<{ value: string, until: number }> | null} */
  let token = null;

  /** @param {string} path @param {RequestInit} init */
  async function send(path, init) {
    let answer;
    try {
      answer = await fetch(new URL(path, issuer), { ...init, redirect: 'error', signal: AbortSignal.timeout(TIMEOUT) });
    } catch (cause) {
      throw Object.assign(new AuthorityError(0, 'unavailable', `The authority at ${issuer} does not answer.`), {
        cause,
      });
    }
    clock.learn(answer.headers.get('date'));
    const body = await readJson(answer);
    if (answer.ok) return body;
    throw new AuthorityError(answer.status, body?.error ?? 'unknown', body?.error_description);
  }

  /** A token of one's own (RFC 6749 §4.4): signed anew shortly before its end, by one call however many wait for it. */
  async function ownToken() {
    const held = await token;
    if (held && clock.now() < held.until) return held.value;
    const basic = Buffer.from(`${encodeURIComponent(service.client_id)}:${encodeURIComponent(service.client_secret)}`);
    const asked = (token = send('/oauth/token', {
      method: 'POST',
      headers: {
        authorization: `Basic ${basic.toString('base64')}`,
        'content-type': 'application/x-www-form-urlencoded',
      },
      body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'reseal:admin' }),
    }).then(({ access_token: value, expires_in: life }) => ({ value, until: clock.now() + (life - 30) * 1000 })));
    asked.catch(() => {
      if (token === asked) token = null;
    });
    return (await asked).value;
  }

  /**
   * The administration API. Throws `AuthorityError`.
   * @param {string} method @param {string} path @param {unknown} [body]
   * @returns {Promise<any>} the answer's JSON; null where it has none
   */
  async function admin(method, path, body) {
    const attempt = async () => {
      const headers = { authorization: `Bearer ${await ownToken()}`, 'content-type': 'application/json' };
      return send(path, { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) });
    };
    try {
      return await attempt();
    } catch (error) {
      // It was issued before this client last changed, or before the authority's clock was moved.
      if (!(error instanceof AuthorityError) || error.status !== 401) throw error;
      token = null;
      return attempt();
    }
  }

  return { issuer, admin, send };
}

/** @param {Response} answer @returns {Promise<any>} */
async function readJson(answer) {
  if (!answer.headers.get('content-type')?.includes('json') || !answer.body) {
    await answer.body?.cancel();
    return null;
  }
  let size = 0;
  const parts = [];
  for await (const part of answer.body) {
    size += part.length;
    if (size > MAX_ANSWER) throw new AuthorityError(answer.status, 'too_large', 'The answer is larger than expected.');
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch {
    throw new AuthorityError(answer.status, 'no_json', 'The answer is no JSON. Is this address the authority?');
  }
}
