// The backend changes the user's record, and the answer to that very call brings the new token.

export function RecordController($http, $rootScope, me, live, choice, work) {
  const vm = /** @type {any} */ (this);
  vm.me = me;
  vm.says = '';
  vm.plan = () => me.user?.attributes?.plan ?? 'free';
  vm.admin = () => Boolean(me.user?.roles?.includes('admin'));
  vm.changePlan = () => change('/api/plan', { plan: vm.plan() === 'pro' ? 'free' : 'pro' });
  vm.changeRole = () => change('/api/roles', { admin: !vm.admin() });

  const change = (/** @type {string} */ path, /** @type {unknown} */ body) =>
    work(vm, async () => {
      const { data } = await $http.post(path, body);
      live.beat();
      if (!data.resealed) return 'Changed. The next call brings it.';
      return choice.kind === 'cookie'
        ? 'Changed. The shop has it at once; no token came to this page.'
        : 'Changed. The new token came with this answer.';
    });
  $rootScope.$on('reseal:signedout', () => (vm.says = ''));
}
RecordController.$inject = ['$http', '$rootScope', 'me', 'live', 'choice', 'work'];
