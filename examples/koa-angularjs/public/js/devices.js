// My devices: every live session of the user, whichever way it is kept.

import { clock, device, exact, problem } from './words.js';

export function DevicesController($rootScope, reseal, me, time, work) {
  const vm = /** @type {any} */ (this);
  vm.me = me;
  [vm.items, vm.says] = [[], ''];

  vm.load = async () => {
    if (!reseal.user) return;
    try {
      const items = await reseal.sessions.list();
      items.sort(
        (/** @type {any} */ a, /** @type {any} */ b) =>
          Number(b.current) - Number(a.current) || b.started_at - a.started_at,
      );
      vm.items = items.map((/** @type {any} */ each) => ({
        ...{
          id: each.id,
          current: each.current,
          way: each.client.replace(/^Corner Shop, /, ''),
          device: device(each.user_agent),
        },
        ...{ since: clock(each.started_at, time.now()), exact: exact(each.started_at), acr: each.acr },
      }));
    } catch (error) {
      if (reseal.user) [vm.says, vm.mood] = [problem(error).text, 'bad'];
    }
    $rootScope.$applyAsync();
  };
  vm.end = (/** @type {{ id: string }} */ { id }) =>
    run(() => reseal.sessions.end(id), 'That session is ended; its next call is refused.');
  vm.endOthers = () => run(() => reseal.sessions.endOthers(), 'All others are ended.');

  const run = (/** @type {() => Promise<void>} */ act, /** @type {string} */ done) =>
    work(vm, async () => {
      try {
        await act();
      } finally {
        await vm.load();
      }
      return done;
    });

  for (const event of ['signedin', 'claims']) $rootScope.$on(`reseal:${event}`, vm.load);
  $rootScope.$on('reseal:signedout', () => ([vm.items, vm.says] = [[], '']));
  reseal.ready.then(vm.load);
}
DevicesController.$inject = ['$rootScope', 'reseal', 'me', 'time', 'work'];
