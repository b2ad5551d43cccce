// The heartbeat: a small protected call every few seconds. It is how this page hears of a change that was made in another
// browser: the feed tells the shop's server within a second that the token is stale, and this call brings the new one.

const EVERY = 3_000;

export function liveService($http, $interval, $document, $rootScope, reseal) {
  const page = $document[0];
  const live = {
    on: true,
    /** What the shop's server believes about the user, as of its last answer. @type {Record<string, any> | null} */
    user: null,
    /** @type {'waiting' | 'fresh' | 'away'} */
    state: 'waiting',
    beat,
  };
  let busy = false;
  let again = false;

  async function beat() {
    // Who asks while a call is under way means what comes after it.
    again = busy;
    if (busy || !reseal.user) return;
    busy = true;
    try {
      const { data } = await $http.get('/api/hello', { timeout: 15_000 });
      const previous = live.user;
      live.user = data.user;
      live.state = 'fresh';
      $rootScope.$broadcast('shop:seen', { user: data.user, previous });
    } catch (/** @type {any} */ error) {
      if (error?.status === -1 || error?.status === 503 || error?.code === 'unavailable') live.state = 'away';
    }
    busy = false;
    $rootScope.$applyAsync();
    if (again) beat();
  }

  const wanted = () => live.on && page.visibilityState === 'visible';
  $interval(() => wanted() && !busy && beat(), EVERY, 0, false);
  page.addEventListener('visibilitychange', () => wanted() && beat());
  $rootScope.$on('reseal:signedin', () => beat());
  $rootScope.$on('reseal:signedout', () => {
    live.user = null;
    live.state = 'waiting';
  });
  return live;
}
liveService.$inject = ['$http', '$interval', '$document', '$rootScope', 'reseal'];

/**
 * Who is signed in, by the newest that this page has heard. A token tells it. A cookie does not: then the shop's answers
 * are the first to know of a change that was made elsewhere.
 */
export function meService(reseal, live) {
  return {
    get user() {
      const { user } = reseal;
      const seen = live.user;
      return user && seen && user.revision < seen.rev ? seen : user;
    },
  };
}
meService.$inject = ['reseal', 'live'];

export function LiveController(live) {
  const vm = /** @type {any} */ (this);
  vm.live = live;
  vm.changed = () => live.on && live.beat();
}
LiveController.$inject = ['live'];
