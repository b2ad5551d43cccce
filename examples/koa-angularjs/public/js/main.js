// The page's AngularJS module. What keeps the session is in the ten lines of `config`; the rest of this page shows it.

import { ChoiceController, readChoice } from './choice.js';
import { ClockController, timeService } from './clock.js';
import { DeskController, StepUpController, stepUpService } from './desk.js';
import { DevicesController } from './devices.js';
import { sessionDial } from './dial.js';
import { JournalController, journalService, keepJournal } from './journal.js';
import { LiveController, liveService, meService } from './live.js';
import { OrdersController } from './orders.js';
import { PhoneController, messagesService } from './phone.js';
import { RecordController } from './record.js';
import { signIn } from './sign-in.js';
import { TokenController } from './token.js';
import { workService } from './work.js';

const settings = JSON.parse(/** @type {HTMLElement} */ (document.getElementById('settings')).textContent ?? '');
const choice = readChoice(location.search);

angular
  .module('shop', ['reseal'])
  .config([
    'resealProvider',
    (resealProvider) =>
      resealProvider.configure({
        api: settings.issuer,
        clientId: settings.clients[choice.kind].client_id,
        mode: choice.kind,
        ...(choice.kind !== 'cookie' && { storage: choice.storage }),
      }),
  ])
  .constant('settings', settings)
  .constant('choice', choice)
  .factory('time', timeService)
  .factory('journal', journalService)
  .factory('live', liveService)
  .factory('me', meService)
  .factory('messages', messagesService)
  .factory('stepUp', stepUpService)
  .factory('work', workService)
  .component('sessionDial', sessionDial)
  .component('signIn', signIn)
  .controller('ChoiceController', ChoiceController)
  .controller('ClockController', ClockController)
  .controller('DeskController', DeskController)
  .controller('DevicesController', DevicesController)
  .controller('JournalController', JournalController)
  .controller('LiveController', LiveController)
  .controller('OrdersController', OrdersController)
  .controller('PhoneController', PhoneController)
  .controller('RecordController', RecordController)
  .controller('StepUpController', StepUpController)
  .controller('TokenController', TokenController)
  .run(keepJournal);
