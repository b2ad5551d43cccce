// Times, reasons and problems as people say them.

/** A length of time, roughly: "9 min 5 s", "2 h 5 min", "13 days". @param {number} seconds */
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const [min, h, days] = [Math.floor(s / 60), Math.floor(s / 3600), Math.floor(s / 86400)];
  if (min < 1) return `${s} s`;
  if (min < 10) return s % 60 ? `${min} min ${s % 60} s` : `${min} min`;
  if (h < 1) return `${min} min`;
  if (days < 2) return min % 60 ? `${h} h ${min % 60} min` : `${h} h`;
  return `${days} days`;
}

/** A time of day, with the day where it is not today. @param {number} at Unix seconds @param {number} now */
export function clock(at, now) {
  const [date, today] = [new Date(at * 1000), new Date(now * 1000)];
  const time = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  if (date.toDateString() === today.toDateString()) return time;
  return `${date.toLocaleDateString([], { day: 'numeric', month: 'short' })}, ${time}`;
}

/** To the second. @param {number} at */
export const exactClock = (at) =>
  new Date(at * 1000).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });

/** For a hover: "2026-11-25 08:03:12 UTC". @param {number} at */
export const exact = (at) =>
  new Date(at * 1000)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, ' UTC');

/** @param {number} cents */
export const money = (cents) => (cents / 100).toLocaleString([], { style: 'currency', currency: 'EUR' });

/** "Chrome on Linux": roughly what a user agent says it is. @param {string | undefined} agent */
export function device(agent = '') {
  const browser = [/Edg\//, /Firefox\//, /Chrome\//, /Safari\//].findIndex((name) => name.test(agent));
  const system = [/Android/, /iPhone|iPad/, /Windows/, /Mac OS/, /Linux/].findIndex((name) => name.test(agent));
  const name = ['Edge', 'Firefox', 'Chrome', 'Safari'][browser] ?? 'A program';
  const on = ['Android', 'iOS', 'Windows', 'macOS', 'Linux'][system];
  return on ? `${name} on ${on}` : name;
}

/** @type {Record<string, string>} */
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

/** Why a session is over. @param {string} reason */
export const why = (reason) => REASONS[reason] ?? 'It is over.';

/** @type {Record<string, string>} */
const PROBLEMS = {
  invalid_credentials: 'The name or the password is wrong.',
  invalid_code: 'The code is wrong.',
  invalid_challenge: 'That took too long. Start again.',
  too_many_requests: 'Too many tries. Wait a little.',
  insufficient_user_authentication: 'This needs a fresh or stronger login.',
  signed_out: 'You are not signed in.',
  unavailable: 'The authority does not answer. You stay signed in; try again.',
  temporarily_unavailable: 'The authority does not answer. You stay signed in; try again.',
};

/**
 * What went wrong, from a rejected call: a `ResealError`, or an answer of `$http`.
 * @param {any} error
 * @returns {{ code: string, text: string }}
 */
export function problem(error) {
  const code = error?.data?.error ?? error?.code ?? (error?.status === -1 ? 'no_answer' : 'error');
  const said = error?.data?.error_description ?? error?.message;
  const text = PROBLEMS[code] ?? said ?? 'The shop does not answer. Is it running?';
  const left = error?.details?.tries_left;
  return {
    code,
    text:
      code === 'invalid_code' && left !== undefined ? `${text} ${left} ${left === 1 ? 'try' : 'tries'} left.` : text,
  };
}

/**
 * Names of claims that differ, without those that differ in every token.
 * @param {Record<string, unknown> | null | undefined} before @param {Record<string, unknown> | null | undefined} after
 */
export function changes(before, after) {
  if (!before || !after) return [];
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].filter((name) => !EACH.has(name) && JSON.stringify(before[name]) !== JSON.stringify(after[name]));
}

const EACH = new Set(['iat', 'exp', 'jti', 'renew_at', 'nbf', 'updated_at']);

/** A value for one line. @param {unknown} value */
export const brief = (value) =>
  value === null || value === undefined ? 'none' : typeof value === 'string' ? value : JSON.stringify(value);
