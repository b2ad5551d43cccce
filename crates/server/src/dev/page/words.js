// Times and reasons as people say them.

/** @param {number} n @param {string} unit */
const count = (n, unit) => `${n} ${unit}`;

/**
 * A length of time, roughly, as one says it: "9 min", "2 h 5 min", "13 days".
 * @param {number} seconds
 */
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return count(s, 's');
  const min = Math.floor(s / 60);
  if (min < 60) return min < 10 && s % 60 ? `${count(min, 'min')} ${count(s % 60, 's')}` : count(min, 'min');
  const h = Math.floor(min / 60);
  if (h < 48) return min % 60 ? `${count(h, 'h')} ${count(min % 60, 'min')}` : count(h, 'h');
  return count(Math.floor(h / 24), 'days');
}

/**
 * A time of day, with the day where it is another one than `now`'s.
 * @param {number} at Unix seconds @param {number} now Unix seconds
 */
export function clock(at, now) {
  const date = new Date(at * 1000);
  const time = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  if (date.toDateString() === new Date(now * 1000).toDateString()) return time;
  return `${date.toLocaleDateString([], { day: 'numeric', month: 'short' })}, ${time}`;
}

/** The exact time, for a hover. @param {number} at Unix seconds */
export const exact = (at) => new Date(at * 1000).toISOString().replace('.000Z', ' UTC').replace('T', ' ');

/** Why a session is over. @type {Record<string, string>} */
const REASONS = {
  idle_timeout: 'It was not used for too long.',
  max_lifetime: 'It reached its greatest age.',
  signed_out: 'You signed out.',
  revoked: 'It was signed out from elsewhere.',
  password_changed: 'The password was changed elsewhere.',
  reuse_detected: 'An old refresh token came back: two parties held it.',
  user_disabled: 'The user was disabled.',
  expired: 'Its token expired.',
};

/** @param {string} reason */
export const why = (reason) => REASONS[reason] ?? reason;
