// What exists only against an authority in development mode: its clock moved from the page, and the text messages that
// it did not send, for the phone on the page.

import { readBody } from './http.js';

const DAY = 86_400;

/**
 * @param {ReturnType<typeof import('./authority.js').connect>} authority
 * @param {import('./clock.js').Clock} clock
 * @returns {Record<string, import('koa').Middleware>} 'METHOD /path' -> what answers
 */
export function devRoutes(authority, clock) {
  return {
    'GET /demo/messages': async (ctx) => {
      const all = /** @type {{ to: string, text: string, at: number }[]} */ (await authority.send('/dev/outbox', {}));
      ctx.body = { items: all.slice(-3), now: Math.floor(clock.now() / 1000) };
    },
    'POST /demo/clock': async (ctx) => {
      const { advance } = /** @type {Record<string, unknown>} */ (Object(await readBody(ctx)));
      if (typeof advance !== 'number' || !Number.isInteger(advance) || advance < 1 || advance > 30 * DAY) {
        return ctx.throw(400, 'advance: whole seconds, 30 days at most.');
      }
      ctx.body = { now: await moveClock(authority, clock, advance) };
    },
  };
}

/**
 * Moves the authority's clock, and ours with it.
 * @param {ReturnType<typeof import('./authority.js').connect>} authority
 * @param {import('./clock.js').Clock} clock
 * @param {number} advance seconds; 0 only asks how far it is ahead
 * @returns {Promise<number>} the authority's time, in seconds
 */
export async function moveClock(authority, clock, advance) {
  const headers = { 'content-type': 'application/json' };
  const { now, offset } = await authority.send('/dev/clock', {
    method: 'POST',
    headers,
    body: JSON.stringify({ advance }),
  });
  clock.set(offset);
  return now;
}
