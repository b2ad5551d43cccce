// The token as it is: header, payload and signature in three tints, the claims, and what the last change has changed.

import { changes, clock, exact } from './words.js';

const TIMES = ['iat', 'exp', 'auth_time', 'renew_at', 'created_at', 'updated_at'];

export function TokenController($rootScope, reseal, choice, time) {
  const vm = /** @type {any} */ (this);
  vm.cookie = choice.kind === 'cookie';
  vm.parts = null;
  vm.claims = [];
  let changed = new Set();
  let shown = '';

  const list = (/** @type {Record<string, any>} */ claims) =>
    Object.entries(claims).map(([name, value]) => ({
      name,
      value: typeof value === 'string' ? value : JSON.stringify(value),
      changed: changed.has(name),
      ...(TIMES.includes(name) && typeof value === 'number' && { says: clock(value, time.now()), exact: exact(value) }),
    }));

  async function show() {
    // The session's own copy, and no renewal: it was renewed just now, or just read.
    const token = await reseal.token().catch(() => null);
    if (!token || token === shown || !reseal.user) return;
    shown = token;
    const [header, payload, signature] = token.split('.');
    vm.parts = { header, payload, signature };
    vm.claims = list(reseal.user);
    $rootScope.$applyAsync();
  }

  function clear() {
    [vm.parts, vm.claims, shown] = [null, [], ''];
    changed = new Set();
  }

  $rootScope.$on('reseal:signedout', clear);
  if (vm.cookie) {
    // Nothing to show from here: this is what the shop's server got from the authority for the cookie.
    $rootScope.$on('shop:seen', (_, { user, previous }) => {
      const fresh = changes(previous, user);
      if (fresh.length > 0) changed = new Set(fresh);
      vm.claims = list(user);
    });
    return;
  }
  $rootScope.$on('reseal:signedin', () => {
    clear();
    show();
  });
  $rootScope.$on('reseal:claims', (_, { user, previous }) => {
    changed = new Set(changes(previous, user));
    show();
  });
  $rootScope.$on('reseal:renewed', show);
  reseal.ready.then(() => reseal.user && show());
}
TokenController.$inject = ['$rootScope', 'reseal', 'choice', 'time'];
