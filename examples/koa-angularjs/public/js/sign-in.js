// <sign-in>: name and password, then the code where one is asked for. On the page, and in the dialog for a stronger login.

import { problem } from './words.js';

export const signIn = {
  templateUrl: 'sign-in.html',
  bindings: { username: '<', onDone: '&' },
  controller: class {
    static $inject = ['$rootScope', '$scope', '$timeout', '$element', 'reseal', 'settings', 'messages', 'work'];

    /** @type {string | undefined} who logs in again; anybody, if there is none */
    username;
    /** @type {() => void} */
    onDone = () => {};
    code = '';
    recovery = false;
    says = '';
    mood = 'plain';

    constructor($rootScope, $scope, $timeout, $element, reseal, settings, messages, work) {
      this.work = work;
      this.reseal = reseal;
      this.demo = settings.demo;
      this.messages = messages;
      this.focus = (/** @type {string} */ name) => $timeout(() => $element[0].querySelector(`[name=${name}]`)?.focus());
      $scope.$on(
        '$destroy',
        $rootScope.$on('shop:code', (_, code) => this.take(code)),
      );
      this.reset();
    }

    $onInit() {
      this.locked = Boolean(this.username);
      this.username ??= this.demo?.username ?? '';
      this.password = this.demo?.password ?? '';
    }

    reset() {
      [this.factors, this.code, this.recovery, this.says, this.mood] = [null, '', false, '', 'plain'];
    }

    /** @param {() => Promise<string | void>} act */
    once(act) {
      return this.work(this, act, (error) => {
        const { code, text } = problem(error);
        if (code === 'invalid_challenge') this.reset();
        return text;
      });
    }

    login() {
      return this.once(async () => {
        this.expectMessage();
        const result = await this.reseal.login({ username: this.username ?? '', password: this.password });
        if (result.status === 'signed_in') return this.done();
        this.factors = result.factors;
        this.hint = result.factors.find((/** @type {any} */ each) => each.factor === 'phone')?.hint;
        this.messages.look();
        this.focus('code');
      });
    }

    finish() {
      return this.once(async () => {
        await this.reseal.secondFactor({
          code: (this.code ?? '').trim(),
          factor: this.recovery ? 'recovery_code' : 'phone',
        });
        this.done();
      });
    }

    resend() {
      return this.once(async () => {
        this.expectMessage();
        await this.reseal.resendCode();
        this.messages.look();
        return 'Another code is on its way.';
      });
    }

    /** From now on only a newer message is the one with the code. */
    expectMessage() {
      this.old = this.messages.items[0]?.key;
    }

    /** The code on the phone, once it is there. */
    onPhone() {
      const [newest] = this.messages.items;
      return newest && newest.key !== this.old ? newest.code : '';
    }

    /** @param {string} code read off the phone on the page */
    take(code) {
      if (this.factors && !this.recovery) this.code = code;
    }

    done() {
      this.reset();
      this.onDone();
    }
  },
};
