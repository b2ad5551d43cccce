// The realm of requests that nobody was asked for.

const realms = new WeakMap<object, string>();

/** Remembers the realm of a request that is let through without a look: a requirement on its way names it then. */
export function inRealm(request: object, realm: string | undefined): void {
  if (realm !== undefined) realms.set(request, realm);
}

/** The realm of a request, if a middleware has told it. */
export function realmOf(request: object): string | undefined {
  return realms.get(request);
}
