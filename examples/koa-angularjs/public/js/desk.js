// Who is signed in, and signing out; the dialog that asks for a stronger login (RFC 9470).

import { problem } from './words.js';

export function DeskController(reseal, journal, choice, work) {
  const vm = this;
  vm.session = reseal;
  vm.kind = choice.kind;
  vm.ready = false;
  vm.says = '';
  reseal.ready.then(() => (vm.ready = true));

  vm.renew = () => run(() => reseal.renew());
  vm.signOut = (/** @type {boolean} */ everywhere) => run(() => reseal.signOut({ everywhere }));

  const run = (/** @type {() => Promise<void>} */ act) =>
    work(vm, act, (error) => {
      journal.say(problem(error).text, 'bad');
      return '';
    });
}
DeskController.$inject = ['reseal', 'journal', 'choice', 'work'];

/** Asks for a login with the second factor, then goes on with what needed it. */
export function stepUpService($timeout, reseal, journal) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById('step-up'));
  /** @type {(() => void) | null} */
  let then = null;
  let old = '';
  const stepUp = {
    open: false,
    username: '',
    /** @param {string} username @param {() => void} next what to do afterwards */
    ask: (username, next) => {
      [stepUp.open, stepUp.username, then, old] = [true, username, next, reseal.info?.id ?? ''];
      $timeout(() => dialog.showModal());
    },
    done: async () => {
      stepUp.close();
      journal.say('Logged in again, with the second factor.', 'good');
      then?.();
      // The login before was a session of its own; nobody needs it any more.
      if (old && old !== reseal.info?.id) await reseal.sessions.end(old).catch(() => undefined);
    },
    close: () => {
      if (dialog.open) dialog.close();
      stepUp.open = false;
    },
  };
  dialog.addEventListener('close', () => $timeout(() => (stepUp.open = false)));
  return stepUp;
}
stepUpService.$inject = ['$timeout', 'reseal', 'journal'];

export function StepUpController(stepUp) {
  this.stepUp = stepUp;
}
StepUpController.$inject = ['stepUp'];
