// The dial: a session drawn as a watch.
//
// The outer arc is the life of the access token, with a tick at its half-life. The inner arc is the
// idle time. The thin ring around both is the absolute end. A renewal turns the arcs back; an ending
// breaks the seal in the middle.

import { clock, exact, span, why } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';

/**
 * A stretch of time: it began, it ends, and perhaps something is due in between (Unix seconds).
 * @typedef {{ from: number, to: number, tick?: number }} Stretch
 */

/**
 * What a dial shows. A stretch that does not apply is absent.
 * @typedef {{ access?: Stretch, idle?: Stretch, absolute?: Stretch, ended?: string }} DialState
 */

/** @param {string} name @param {Record<string, string | number>} attributes */
function element(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  return node;
}

/** One arc: a faint track, and what is left of it, from twelve o'clock. */
class Arc {
  /** @param {Element} parent @param {string} name @param {number} radius */
  constructor(parent, name, radius) {
    this.radius = radius;
    this.length = 2 * Math.PI * radius;
    const place = { cx: 100, cy: 100, r: radius, fill: 'none', transform: 'rotate(-90 100 100)' };
    this.group = element('g', { class: `arc ${name}` });
    this.left = element('circle', { ...place, class: 'left', 'stroke-dasharray': `0 ${this.length}` });
    this.tick = element('line', { class: 'tick' });
    this.group.append(element('circle', { ...place, class: 'track' }), this.left, this.tick);
    parent.append(this.group);
  }

  /** @param {Stretch | undefined} stretch @param {number} now */
  show(stretch, now) {
    this.group.classList.toggle('absent', !stretch);
    if (!stretch) return;
    const whole = Math.max(1, stretch.to - stretch.from);
    const rest = Math.min(1, Math.max(0, (stretch.to - now) / whole));
    this.left.setAttribute('stroke-dasharray', `${rest * this.length} ${this.length}`);
    this.tick.classList.toggle('absent', stretch.tick === undefined);
    if (stretch.tick !== undefined) {
      // The arc shrinks towards twelve o'clock; the tick stands where its end will be when it is due.
      const angle = ((stretch.to - stretch.tick) / whole) * 2 * Math.PI;
      const [sin, cos] = [Math.sin(angle), -Math.cos(angle)];
      const [inner, outer] = [this.radius - 9, this.radius + 9];
      for (const [key, value] of Object.entries({ x1: inner * sin, y1: inner * cos, x2: outer * sin, y2: outer * cos })) {
        this.tick.setAttribute(key, String(100 + value));
      }
      this.group.classList.toggle('due', now >= stretch.tick);
    }
  }
}

/** The dial of one session. */
export class Dial {
  /** @param {Element} host an empty element that gets the drawing */
  constructor(host) {
    this.svg = element('svg', { viewBox: '0 0 200 200', class: 'dial', role: 'img' });
    this.absolute = new Arc(this.svg, 'absolute', 94);
    this.access = new Arc(this.svg, 'access', 79);
    this.idle = new Arc(this.svg, 'idle', 62);
    this.seal = element('g', { class: 'seal' });
    for (const half of ['one', 'two']) {
      const d = half === 'one' ? 'M100 66a34 34 0 0 0 0 68l-5-16 9-12-8-14 7-11z' : 'M100 66a34 34 0 0 1 0 68l-5-16 9-12-8-14 7-11z';
      this.seal.append(element('path', { class: `half ${half}`, d }));
    }
    this.seal.append(element('path', { class: 'letter', d: 'M92 114V88h10a7.500 7.500 0 0 1 0 15H92m10 0 8 11' }));
    this.svg.append(this.seal);
    host.append(this.svg);
    /** @type {DialState} */
    this.state = {};
  }

  /** @param {DialState} state @param {number} now Unix seconds by the authority's clock */
  show(state, now) {
    this.state = state;
    this.absolute.show(state.absolute, now);
    this.access.show(state.access, now);
    this.idle.show(state.idle, now);
    this.svg.classList.toggle('live', Boolean(state.absolute) && !state.ended);
    this.svg.classList.toggle('ended', Boolean(state.ended));
    this.svg.setAttribute('aria-label', describe(state, now));
  }
}

/**
 * The dial in words.
 * @param {DialState} state @param {number} now
 */
export function describe(state, now) {
  if (state.ended) return `Ended. ${why(state.ended)}`;
  if (!state.absolute) return 'Not signed in.';
  const parts = [];
  const due = state.access?.tick ?? state.idle?.tick;
  if (state.access && now >= state.access.to) parts.push('the access token has expired');
  else if (due !== undefined) parts.push(now < due ? `renews in ${span(due - now)}` : 'can be renewed now');
  else if (state.access && state.access.to !== state.absolute.to) parts.push(`token good for ${span(state.access.to - now)}`);
  if (state.idle && state.idle.to < state.absolute.to) parts.push(`signs out at ${clock(state.idle.to, now)} if unused`);
  else parts.push(`signs out at ${clock(state.absolute.to, now)}`);
  const text = parts.join(', ');
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/**
 * The exact times, for a hover.
 * @param {DialState} state
 */
export function details(state) {
  const lines = [];
  if (state.access) lines.push(`access token until ${exact(state.access.to)}`);
  if (state.idle) lines.push(`idle until ${exact(state.idle.to)}`);
  if (state.absolute) lines.push(`ends at ${exact(state.absolute.to)} in any case`);
  return lines.join('\n');
}
