// Calls to the authority, and its clock: all times on the page are the authority's, not the device's.

let ahead = 0;

/** The authority's time in Unix seconds, with fractions. */
export const now = () => Date.now() / 1000 + ahead;

/** Takes over the authority's clock. @param {number} seconds */
export function setNow(seconds) {
  ahead = seconds - Date.now() / 1000;
}

/**
 * An answer: its status, its body (JSON or empty), and when it came.
 * @typedef {{ status: number, ok: boolean, body: any, at: number }} Answer
 */

/**
 * @param {string} method
 * @param {string} path
 * @param {{ token?: string, json?: unknown, form?: Record<string, string>, cookie?: boolean }} [options]
 *   `cookie`: send the session cookie. Without it no cookie is sent, so that each panel is a browser of its own.
 * @returns {Promise<Answer>}
 */
export async function call(method, path, options = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  /** @type {BodyInit | undefined} */
  let body;
  if (options.token) headers.authorization = `Bearer ${options.token}`;
  if (options.json !== undefined) {
    headers['content-type'] = 'application/json';
    body = JSON.stringify(options.json);
  }
  if (options.form) body = new URLSearchParams(options.form);
  try {
    const credentials = options.cookie ? 'same-origin' : 'omit';
    const response = await fetch(path, { method, headers, body, credentials, cache: 'no-store', signal: AbortSignal.timeout(20_000) });
    const text = await response.text();
    return { status: response.status, ok: response.ok, body: text ? JSON.parse(text) : undefined, at: now() };
  } catch {
    const body = { error: 'unreachable', error_description: 'The authority does not answer. Nothing is lost; try again.' };
    return { status: 0, ok: false, body, at: now() };
  }
}

/** What went wrong, in words. @param {Answer} answer */
export function problem(answer) {
  const { error, error_description: text = 'Something went wrong.', reason } = answer.body ?? {};
  if (error === 'insufficient_user_authentication') return 'You signed in too long ago for this. Sign in again, then try once more.';
  return reason && !text.includes(reason) ? `${text} (${reason})` : text;
}
