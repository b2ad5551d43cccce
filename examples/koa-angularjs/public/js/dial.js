// The dial: a session drawn as a watch. The outer arc is the life of the access token, with a tick at its half-life; the
// inner arc is the idle time; the thin ring around both is the absolute end. A renewal turns the arcs back; an ending
// breaks the seal in the middle and says why.

import { clock, exact, span, why } from './words.js';

/** A stretch of time in Unix seconds; `due`: when something happens within it. @typedef {{ from: number, to: number, due?: number }} Stretch */
/** @typedef {{ token?: Stretch, idle?: Stretch, whole?: Stretch, ended?: string }} Face */

const SVG = 'http://www.w3.org/2000/svg';
const CENTER = 120;
const RINGS = /** @type {const} */ ([
  ['whole', 113],
  ['token', 95],
  ['idle', 75],
]);

/** <session-dial>: draws the session of this page, once a second. */
export const sessionDial = {
  template: '<p class="words"></p>',
  controller: class {
    static $inject = ['$element', '$interval', '$rootScope', 'reseal', 'time'];

    constructor($element, $interval, $rootScope, reseal, time) {
      const host = $element[0];
      const dial = drawing();
      host.prepend(dial.svg);
      const words = host.querySelector('.words');
      /** @type {Face} */
      let face = {};
      const draw = () => {
        const now = time.now();
        face = faceOf(reseal, face);
        dial.show(face, now);
        const text = describe(face, now);
        if (words.textContent !== text) words.textContent = text;
        words.title = details(face);
        dial.svg.setAttribute('aria-label', text);
      };
      $rootScope.$on('reseal:signedin', () => {
        face = {};
        draw();
      });
      $rootScope.$on('reseal:signedout', (_, { reason }) => {
        face = { ...face, ended: reason };
        draw();
      });
      for (const event of ['claims', 'renewed']) $rootScope.$on(`reseal:${event}`, draw);
      $interval(draw, 1000, 0, false);
      draw();
    }
  },
};

/**
 * What the dial shows now. `before` is kept while nobody is signed in, so that an ended session stays to be seen.
 * @param {{ user: any, info: any, expiresAt: number | null }} session @param {Face} before
 * @returns {Face}
 */
export function faceOf({ user, info, expiresAt }, before) {
  if (!user || !info) return before;
  const whole = { from: info.started_at, to: info.expires_at };
  const token =
    user.exp && user.iat ? { from: user.iat, to: user.exp, ...(user.renew_at && { due: user.renew_at }) } : undefined;
  if (info.idle_expires_at === undefined) return { whole, ...(token && { token }) };
  const to = Math.min(expiresAt ?? info.idle_expires_at, info.expires_at);
  // A cookie's half-life is known, and so its whole; with a token the idle time began when the token did.
  const from = token
    ? token.from
    : info.renew_at
      ? 2 * info.renew_at - info.idle_expires_at
      : (before.idle?.from ?? info.started_at);
  const idle = { from, to, ...(!token && info.renew_at && { due: info.renew_at }) };
  return { whole, idle, ...(token && { token }) };
}

/** In words. @param {Face} face @param {number} now */
export function describe(face, now) {
  if (face.ended) return `Ended. ${why(face.ended)}`;
  if (!face.whole) return 'Not signed in.';
  const unused = face.idle && face.idle.to < face.whole.to;
  const end = unused && face.idle ? face.idle.to : face.whole.to;
  if (now >= end) return `Ran out at ${clock(end, now)}. The next call will say so.`;
  const parts = [];
  const due = face.token?.due ?? face.idle?.due;
  if (face.token && now >= face.token.to) parts.push('the token has expired');
  else if (due !== undefined) parts.push(now < due ? `can renew in ${span(due - now)}` : 'renews with the next call');
  else if (face.token && face.token.to !== face.whole.to) parts.push(`token good for ${span(face.token.to - now)}`);
  parts.push(`signs out at ${clock(end, now)}${unused ? ' if unused' : ''}`);
  const text = parts.join(', ');
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** The exact times. @param {Face} face */
const details = ({ token, idle, whole }) =>
  [
    token && `Access token until ${exact(token.to)}`,
    idle && `Unused until ${exact(idle.to)}`,
    whole && `Ends at ${exact(whole.to)} in any case`,
  ]
    .filter(Boolean)
    .join('\n');

function drawing() {
  const svg = make('svg', { viewBox: '0 0 240 240', class: 'dial', role: 'img' });
  const hours = make('g', { class: 'hours' });
  for (let i = 0; i < 60; i++) hours.append(ray(i / 60, i % 5 ? 104 : 102, 106));
  const rings = RINGS.map(([name, radius]) => ({ name, ...ring(svg, name, radius) }));
  svg.append(hours, seal());
  return {
    svg,
    /** @param {Face} face @param {number} now */
    show: (face, now) => {
      for (const { name, turn } of rings) turn(face[name], now);
      svg.classList.toggle('live', Boolean(face.whole) && !face.ended);
      svg.classList.toggle('ended', Boolean(face.ended));
    },
  };
}

/** One ring: a faint track, what is left of it from twelve o'clock, and the tick where something is due. */
function ring(svg, name, radius) {
  const length = 2 * Math.PI * radius;
  const at = { cx: CENTER, cy: CENTER, r: radius, transform: `rotate(-90 ${CENTER} ${CENTER})` };
  const left = make('circle', { ...at, class: 'left' });
  const tick = make('g', { class: 'tick' });
  const group = make('g', { class: `ring ${name}` }, make('circle', { ...at, class: 'track' }), left, tick);
  svg.append(group);
  return {
    /** @param {Stretch | undefined} stretch @param {number} now */
    turn: (stretch, now) => {
      group.classList.toggle('absent', !stretch);
      const whole = stretch ? Math.max(1, stretch.to - stretch.from) : 1;
      const rest = stretch ? Math.min(1, Math.max(0, (stretch.to - now) / whole)) : 0;
      left.setAttribute('stroke-dasharray', `${rest * length} ${length}`);
      const due = stretch?.due;
      group.classList.toggle('due', due !== undefined && now >= due);
      // The arc shrinks towards twelve o'clock; the tick is where its end will be then.
      const place = stretch && due !== undefined ? (stretch.to - due) / whole : null;
      if (place !== null) tick.replaceChildren(ray(place, radius - 11, radius + 9));
      else tick.replaceChildren();
    },
  };
}

/** A line from one radius to another, `turn` of the way around. */
function ray(turn, inner, outer) {
  const [sin, cos] = [Math.sin(turn * 2 * Math.PI), -Math.cos(turn * 2 * Math.PI)];
  const at = (/** @type {number} */ value) => (CENTER + value).toFixed(2);
  return make('line', { x1: at(inner * sin), y1: at(inner * cos), x2: at(outer * sin), y2: at(outer * cos) });
}

/** The seal, in two halves along the line where it will break. */
function seal() {
  const crack = 'l-6-19 11-15-10-17 6-13';
  return make(
    'g',
    { class: 'seal' },
    make('path', { class: 'half one', d: `M120 78a42 42 0 0 0 0 84${crack}z` }),
    make('path', { class: 'half two', d: `M120 78a42 42 0 0 1 0 84${crack}z` }),
    make('path', { class: 'letter', d: 'M110 139v-38h13a10 10 0 0 1 0 20h-13m13 0 11 18' }),
  );
}

function make(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  node.append(...children);
  return node;
}
