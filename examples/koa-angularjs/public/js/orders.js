// The shop's calls. They are plain `$http` calls: the interceptor adds the token, and takes the new one.

import { money, problem } from './words.js';

export function OrdersController($http, $rootScope, reseal, me, settings, stepUp, work) {
  const vm = /** @type {any} */ (this);
  [vm.items, vm.item, vm.price, vm.says, vm.mood] = [[], 'Cinnamon buns', 4.5, '', 'plain'];
  [vm.money, vm.me] = [money, me];

  const load = async () => {
    const { data } = await $http.get('/api/orders').catch(() => ({ data: { items: vm.items } }));
    vm.items = data.items;
    $rootScope.$applyAsync();
  };

  vm.add = () =>
    run(async () => {
      const { data } = await $http.post('/api/orders', { item: vm.item, cents: Math.round(vm.price * 100) });
      vm.items.push(data);
      return `Ordered: ${data.item}.`;
    });

  vm.takings = () =>
    run(async () => {
      const { data } = await $http.get('/api/takings');
      return `Takings: ${money(data.cents)} from ${data.orders} orders.`;
    });

  vm.refund = (/** @type {{ id: number }} */ order) =>
    run(async () => {
      try {
        const { data } = await $http.post('/api/refunds', { id: order.id });
        vm.items = vm.items.map((/** @type {{ id: number }} */ each) => (each.id === data.id ? data : each));
        return `Refunded: ${data.item}.`;
      } catch (error) {
        if (problem(error).code !== 'insufficient_user_authentication') throw error;
        if (!me.user?.phone_number_verified)
          throw {
            data: { error_description: 'A refund needs a second factor. Turn on your phone first, on this page.' },
          };
        stepUp.ask(settings.demo?.username ?? '', () => vm.refund(order));
        throw { status: 401, data: { error_description: 'This login has no second factor. Log in again with it.' } };
      }
    });

  const run = (/** @type {() => Promise<string>} */ act) =>
    work(vm, act, (error) => {
      const { text } = problem(error);
      return error?.status > 0 ? `${error.status}: ${text}` : text;
    });

  $rootScope.$on('reseal:signedin', load);
  $rootScope.$on('reseal:signedout', () => ([vm.items, vm.says] = [[], '']));
  reseal.ready.then(() => reseal.user && load());
}
OrdersController.$inject = ['$http', '$rootScope', 'reseal', 'me', 'settings', 'stepUp', 'work'];
