// The user's record, as the backend reads and changes it. It lives at the authority; nothing of it is kept here.

/** @param {ReturnType<typeof import('./authority.js').connect>} authority */
export function records({ admin }) {
  /** @param {string} sub */
  const address = (sub) => `/v1/admin/users/${encodeURIComponent(sub)}`;
  return {
    /** @param {string} sub the user, as the claim `sub` names him */
    read: (sub) => admin('GET', address(sub)),
    /**
     * Changes what is named and leaves the rest. Each change that a token may show makes the tokens that are out stale.
     * @param {string} sub
     * @param {{ name?: string, roles?: string[], attributes?: Record<string, unknown> }} change
     */
    change: (sub, change) => admin('PATCH', address(sub), change),
  };
}
