// The clients of this app at the authority: one for each way to keep a session. A real app has one of them.

import { AuthorityError } from './authority.js';

/** What the access tokens say about the user, besides who he is. */
const CLAIMS = ['name', 'email', 'phone_number', 'phone_number_verified', 'roles', 'attributes.plan'];

/** Kind of session -> client and policy. The policies are the authority's built-in ones. */
export const CLIENTS = {
  sliding: { client_id: 'corner-shop-sliding', policy: 'web' },
  fixed: { client_id: 'corner-shop-fixed', policy: 'remember' },
  refresh: { client_id: 'corner-shop-refresh', policy: 'app' },
  cookie: { client_id: 'corner-shop-cookie', policy: 'browser' },
};

/**
 * Registers what is missing and corrects what has changed, such as the port. Doing it again changes nothing.
 * @param {ReturnType<typeof import('./authority.js').connect>} authority
 * @param {{ audience: string, origins: string[] }} app its own URL, and the origins of its pages
 */
export async function register(authority, { audience, origins }) {
  for (const [kind, { client_id, policy }] of Object.entries(CLIENTS)) {
    // The tokens are for this app (and, always, for the authority itself); a browser may only use them from its pages.
    const wanted = {
      name: `Corner Shop, ${kind}`,
      policy,
      audience: [audience],
      origins,
      claims: CLAIMS,
      scope: 'orders',
    };
    const found = await authority.admin('GET', `/v1/admin/clients/${client_id}`).catch(unlessMissing);
    if (!found) await authority.admin('POST', '/v1/admin/clients', { client_id, ...wanted });
    else if (differs(found, wanted)) await authority.admin('PATCH', `/v1/admin/clients/${client_id}`, wanted);
  }
}

/** @param {unknown} error */
function unlessMissing(error) {
  if (error instanceof AuthorityError && error.status === 404) return null;
  throw error;
}

/** @param {Record<string, unknown>} found @param {Record<string, unknown>} wanted */
const differs = (found, wanted) =>
  Object.entries(wanted).some(([name, value]) => comparable(found[name]) !== comparable(value));

/** @param {unknown} value */
const comparable = (value) => JSON.stringify(Array.isArray(value) ? [...value].sort() : value);
