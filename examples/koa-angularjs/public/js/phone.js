// Two-factor authentication by phone: turning it on and off, and the phone itself.

import { exactClock, problem } from './words.js';

/** The text messages that the authority's development mode did not send. */
export function messagesService($http, $interval, $document, $rootScope, time, settings) {
  const messages = {
    /** Newest first. @type {{ key: string, text: string, to: string, time: string, code: string }[]} */ items: [],
    look,
  };
  let busy = false;

  async function look() {
    if (busy || !settings.demo) return;
    busy = true;
    try {
      // Not with the session: that would be a use of it, and an idle user would never be signed out.
      const { data } = await $http.get('/demo/messages', { timeout: 10_000, reseal: false });
      time.learn(data.now);
      messages.items = data.items.reverse().map((/** @type {any} */ { to, text, at }) => ({
        ...{ key: `${at} ${text}`, to, text, time: exactClock(at) },
        code: /\d{6}/.exec(text)?.[0] ?? '',
      }));
    } catch {
      // The page says elsewhere that the shop is away.
    }
    busy = false;
    $rootScope.$applyAsync();
  }

  $interval(() => $document[0].visibilityState === 'visible' && look(), 2_000, 0, false);
  look();
  return messages;
}
messagesService.$inject = ['$http', '$interval', '$document', '$rootScope', 'time', 'settings'];

export function PhoneController($rootScope, $timeout, reseal, me, live, messages, settings, choice, work) {
  const vm = /** @type {any} */ (this);
  [vm.me, vm.messages] = [me, messages];
  vm.number = '+4915112345678';
  const start = () =>
    Object.assign(vm, { challenge: null, code: '', says: '', mood: 'plain', askPassword: false, recoveryCodes: null });
  start();
  vm.password = settings.demo?.password ?? '';
  const proof = () => (vm.askPassword ? { current_password: vm.password } : {});

  vm.send = () =>
    run(async () => {
      const { challenge } = await reseal.call('POST', '/v1/me/phone', { phone_number: vm.number ?? '', ...proof() });
      [vm.challenge, vm.askPassword, vm.recoveryCodes] = [challenge, false, null];
      messages.look();
      focus('code');
      return 'A code is on its way to the phone.';
    });

  vm.back = () => Object.assign(vm, { challenge: null, code: '', says: '' });

  vm.verify = () =>
    run(async () => {
      const { recovery_codes } = await reseal.call('POST', '/v1/me/phone/verify', {
        challenge: vm.challenge,
        code: (vm.code ?? '').trim(),
      });
      [vm.challenge, vm.code, vm.recoveryCodes] = [null, '', recovery_codes];
      return changed('It is on.', 'the number came in this very answer.');
    });

  vm.off = () =>
    run(async () => {
      await reseal.call('DELETE', '/v1/me/phone', vm.askPassword ? proof() : undefined);
      [vm.askPassword, vm.recoveryCodes] = [false, null];
      return changed('It is off.', 'the number has left it with this very answer.');
    });

  // A cookie brings no token, so this page asks the shop what it knows now.
  const changed = (/** @type {string} */ what, /** @type {string} */ how) => {
    if (choice.kind !== 'cookie') return `${what} Look at the payload: ${how}`;
    live.beat();
    return `${what} The shop knows with its next call.`;
  };

  vm.use = (/** @type {string} */ code) => {
    if (vm.challenge) vm.code = code;
    $rootScope.$broadcast('shop:code', code);
  };

  const run = (/** @type {() => Promise<string>} */ act) =>
    work(vm, act, (error) => {
      const { code, text } = problem(error);
      if (code === 'invalid_challenge') vm.challenge = null;
      if (code !== 'insufficient_user_authentication') return text;
      vm.askPassword = true;
      focus('proof');
      return 'Your login is older than five minutes. Say your password, and try again.';
    });

  const focus = (/** @type {string} */ name) =>
    $timeout(() => /** @type {HTMLElement | null} */ (document.querySelector(`#phone [name=${name}]`))?.focus());
  $rootScope.$on('reseal:signedout', start);
}
PhoneController.$inject = ['$rootScope', '$timeout', 'reseal', 'me', 'live', 'messages', 'settings', 'choice', 'work'];
