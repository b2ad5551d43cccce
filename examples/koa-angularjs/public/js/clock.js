// The authority's time, and the buttons that move it (development mode only).

import { exact, exactClock, problem } from './words.js';

/** The session knows the authority's clock from its answers; a move that it has not heard of yet is known here. */
export function timeService(reseal) {
  let ahead = -Infinity;
  const here = () => Date.now() / 1000;
  return {
    /** Unix seconds. */
    now: () => Math.max(reseal.now(), here() + ahead),
    /** Only forward, as it goes. @param {number} now the authority's time, as the shop's server told it */
    learn: (now) => {
      ahead = Math.max(ahead, now - here());
    },
  };
}
timeService.$inject = ['reseal'];

export function ClockController($http, $interval, settings, time, live, journal, work) {
  const vm = /** @type {any} */ (this);
  vm.demo = Boolean(settings.demo);
  vm.moves = [
    { seconds: 60, name: '+1 min' },
    { seconds: 600, name: '+10 min' },
    { seconds: 8 * 3600, name: '+8 h' },
  ];
  const tick = () => {
    vm.text = exactClock(time.now());
    vm.title = exact(time.now());
  };
  tick();
  $interval(tick, 1000);

  vm.move = ({ seconds, name }) =>
    work(
      vm,
      async () => {
        const { data } = await $http.post('/demo/clock', { advance: seconds }, { reseal: false });
        time.learn(data.now);
        journal.say(`The clock was moved: ${name}.`);
        tick();
        if (live.on) live.beat();
      },
      (error) => {
        journal.say(problem(error).text, 'bad');
        return '';
      },
    );
}
ClockController.$inject = ['$http', '$interval', 'settings', 'time', 'live', 'journal', 'work'];
