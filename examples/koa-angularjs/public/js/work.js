// What a button does: one thing at a time, and its outcome said beside it.

import { problem } from './words.js';

/**
 * `async` functions go on outside of AngularJS' digest, so whoever is done asks for one.
 * @param {{ $applyAsync: () => void }} $rootScope
 */
export function workService($rootScope, $timeout) {
  /**
   * @param {{ busy?: boolean, says?: string, mood?: string }} vm
   * @param {() => Promise<string | void>} act resolves to what to say
   * @param {(error: any) => string} [explain]
   */
  return async (vm, act, explain = (error) => problem(error).text) => {
    if (vm.busy) return;
    const place = /** @type {HTMLElement | null | undefined} */ (document.activeElement?.closest('.sheet'));
    [vm.busy, vm.says] = [true, ''];
    try {
      [vm.says, vm.mood] = [(await act()) ?? '', 'good'];
    } catch (error) {
      [vm.says, vm.mood] = [explain(error), 'bad'];
    }
    vm.busy = false;
    $rootScope.$applyAsync();
    // The button may be gone with what it did; then who uses the keyboard goes on from the part of the page that it was in.
    $timeout(() => document.activeElement === document.body && place?.focus({ preventScroll: true }), 0, false);
  };
}
workService.$inject = ['$rootScope', '$timeout'];
