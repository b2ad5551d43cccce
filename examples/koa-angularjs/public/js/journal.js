// What happened, in plain words.

import { brief, changes, clock, exact, exactClock, why } from './words.js';

const MOST = 40;

export function journalService(time) {
  let count = 0;
  const journal = {
    /** Newest first. @type {{ id: number, time: string, title: string, text: string, mood: string }[]} */
    lines: [],
    /** @param {string} text @param {'plain' | 'good' | 'bad'} [mood] */
    say: (text, mood = 'plain') => {
      const now = time.now();
      journal.lines.unshift({ id: ++count, time: exactClock(now), title: exact(now), text, mood });
      if (journal.lines.length > MOST) journal.lines.pop();
    },
  };
  return journal;
}
journalService.$inject = ['time'];

/** Writes down what the session tells. */
export function keepJournal($rootScope, reseal, journal, time, choice) {
  const until = (/** @type {number} */ at) => clock(at, time.now());
  $rootScope.$on('reseal:signedin', (_, { user }) => journal.say(`Signed in as ${user.name ?? user.sub}.`, 'good'));
  const changed = (/** @type {Record<string, unknown>} */ user, /** @type {Record<string, unknown>} */ previous) => {
    const names = changes(previous, user).filter((name) => !['rev', 'revision', 'auth_time'].includes(name));
    const told = names.map((name) => `${name} ${brief(previous[name])} → ${brief(user[name])}`);
    journal.say(
      `New ${choice.kind === 'cookie' ? 'record' : 'payload'}: ${told.join('; ') || 'the revision'}.`,
      'good',
    );
  };
  $rootScope.$on('reseal:claims', (_, { user, previous }) => changed(user, previous));
  // With a cookie the session does not hear of what is changed elsewhere; the shop does.
  $rootScope.$on('shop:seen', (_, { user, previous }) => {
    if (previous && user.rev > previous.rev && reseal.user?.revision < user.rev) changed(user, previous);
  });
  $rootScope.$on('reseal:renewed', (_, { expiresAt }) =>
    journal.say(`Renewed. Signed in until ${until(expiresAt)}.`, 'good'),
  );
  $rootScope.$on('reseal:expiring', (_, { expiresAt }) =>
    journal.say(`The session ends at ${until(expiresAt)} unless it is used.`, 'bad'),
  );
  $rootScope.$on('reseal:signedout', (_, { reason }) =>
    journal.say(`Signed out. ${why(reason)}`, reason === 'signed_out' ? 'plain' : 'bad'),
  );
}
keepJournal.$inject = ['$rootScope', 'reseal', 'journal', 'time', 'choice'];

export function JournalController(journal) {
  this.journal = journal;
}
JournalController.$inject = ['journal'];
