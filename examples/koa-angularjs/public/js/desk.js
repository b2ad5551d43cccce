// Who is signed in, and signing out; the dialog that asks for a stronger login (RFC 9470).

import { problem } from './words.js';

export function DeskController(reseal, me, journal, choice, work) {
  const vm = /** @type {any} */ (this);
  [vm.session, vm.me] = [reseal, me];
  vm.kind = choice.kind;
  vm.ready = false;
  vm.says = '';
  reseal.ready.then(() => (vm.ready = true));

  vm.renew = () =>
    run(async () => {
      const before = reseal.expiresAt;
      await reseal.renew();
      if (choice.kind !== 'refresh' && reseal.expiresAt === before)
        journal.say('Too early to renew: nothing was written.');
    });
  vm.signOut = (/** @type {boolean} */ everywhere) =>
    run(
      () => reseal.signOut({ everywhere }),
      (error) => (reseal.user ? problem(error).text : 'You are signed out here; elsewhere it could not be done.'),
    );

  const run = (
    /** @type {() => Promise<void>} */ act,
    /** @type {(error: any) => string} */ explain = (error) => problem(error).text,
  ) =>
    work(vm, act, (error) => {
      journal.say(explain(error), 'bad');
      return '';
    });
}
DeskController.$inject = ['reseal', 'me', 'journal', 'choice', 'work'];

/** Asks for a login with the second factor, then goes on with what needed it. */
export function stepUpService($timeout, journal) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById('step-up'));
  /** @type {(() => void) | null} */
  let then = null;
  const stepUp = {
    open: false,
    username: '',
    /** @param {string} username @param {() => void} next what to do afterwards */
    ask: (username, next) => {
      [stepUp.open, stepUp.username, then] = [true, username, next];
      $timeout(() => dialog.showModal());
    },
    /** The login before is over by itself: a login in its place ends it. */
    done: () => {
      stepUp.close();
      journal.say('Logged in again, with the second factor.', 'good');
      then?.();
    },
    close: () => {
      if (dialog.open) dialog.close();
      stepUp.open = false;
    },
  };
  dialog.addEventListener('close', () => $timeout(() => (stepUp.open = false)));
  return stepUp;
}
stepUpService.$inject = ['$timeout', 'journal'];

export function StepUpController(stepUp) {
  this.stepUp = stepUp;
}
StepUpController.$inject = ['stepUp'];
