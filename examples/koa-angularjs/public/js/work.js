// What a button does: one thing at a time, and its outcome said beside it.

import { problem } from './words.js';

/**
 * `async` functions go on outside of AngularJS' digest, so whoever is done asks for one.
 * @param {{ $applyAsync: () => void }} $rootScope
 */
export function workService($rootScope) {
  /**
   * @param {{ busy?: boolean, says?: string, mood?: string }} vm
   * @param {() => Promise<string | void>} act resolves to what to say
   * @param {(error: any) => string} [explain]
   */
  return async (vm, act, explain = (error) => problem(error).text) => {
    if (vm.busy) return;
    [vm.busy, vm.says] = [true, ''];
    try {
      [vm.says, vm.mood] = [(await act()) ?? '', 'good'];
    } catch (error) {
      [vm.says, vm.mood] = [explain(error), 'bad'];
    }
    vm.busy = false;
    $rootScope.$applyAsync();
  };
}
workService.$inject = ['$rootScope'];
