import { noop, pause } from './env.js';
import { need, ResealError, signedOut, unavailable } from './error.js';
import type { Body, Fields } from './http.js';
import { isDead } from './judge.js';
import { backOff } from './schedule.js';
import type { State } from './state.js';
import { type Held, merge, offer, whole } from './tokens.js';

const TIMER_MAX = 2 ** 31 - 1;
/** Tries at one renewal: again after `superseded`, or with a newer token that another tab has brought. */
const TRIES = 4;
/** Seconds in which other tabs answer. */
const ANSWER = 0.2;

/** One flight at a time, and never a loop. */
export function addRenewal(state: State) {
  const { env, clock, cookie, options } = state;
  const { mode, expiringBefore = 60, keepAlive = mode === 'refresh' ? 'open' : 'use' } = options;
  let flight: Promise<void> | undefined;
  let flying: (() => Promise<void>) | undefined;
  let attempted = -Infinity;
  let attemptedWith: unknown;
  let failure: ResealError | undefined;
  let failures = 0;
  let retryAt = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** The deadline that `expiring` told of. */
  let told = 0;

  /** What an attempt is made with. */
  const credential = () => state.held?.access_token ?? state.epoch;
  /** Seconds until it may be tried again. */
  const rest = () => (attemptedWith === credential() ? attempted + 1 - clock.mono() : 0);

  const run = (work: () => Promise<void>) => {
    flying = work;
    failure = undefined;
    return (flight = work()
      .catch((error) => {
        throw (failure = error);
      })
      .finally(() => {
        const due = state.held && state.planOf(state.held);
        flight = undefined;
        attempted = clock.mono();
        attemptedWith = credential();
        if (!failure && (!due || clock.now() < Math.min(due.ahead, due.last + 1))) retryAt = failures = 0;
        else retryAt = attempted + backOff(failures++, env.Math.random(), failure?.retryAfter);
        state.tick();
      }));
  };

  state.again = async (work) => {
    if (flight && flying !== work) await flight.catch(noop);
    return flight ?? run(work);
  };

  state.demand = async (work) => {
    if (flight || flying !== work || rest() <= 0) return state.again(work);
    if (failure) throw failure;
  };

  state.hurry = (event) => {
    retryAt = 0;
    if (event === 'online') attempted = -Infinity;
  };

  /** Signs out if the answer says so of what is still the newest. Else it may be tried again. */
  const refused = async (error: ResealError, sent: Held | null) => {
    if (!isDead(mode, error)) throw Object.assign(error, { code: 'unavailable' });
    const newest = await state.update();
    // Replaced a moment ago; or another tab has brought something newer.
    if (error.reason === 'superseded' || (newest && newest !== sent)) return;
    const reason = error.reason ?? error.code;
    await state.finish(sent, reason);
    throw signedOut(reason);
  };

  const adopt = async (brought: Body) => void need(await state.take(brought));

  state.renewal = async () => {
    const want = await state.update();
    const work = async () => {
      if (state.twins) {
        // This copy may be older than what another tab holds.
        state.post({ ask: want?.session.id! });
        await pause(env, ANSWER);
      }
      for (let n = 0; n < TRIES; n++) {
        const held = need(await state.update());
        // Another tab has done it.
        if (want?.access_token !== held.access_token || want?.generation !== held.generation) return;
        const asked =
          mode === 'refresh'
            ? postForm(state, '/oauth/token', { grant_type: 'refresh_token', refresh_token: held.refresh_token! })
            : state.query('POST', '/v1/session/renew', undefined, bearer(held));
        const body = await asked.catch((error) => refused(error, held));
        // An answer without a token is none.
        if (body && (mode !== 'refresh' || body.access_token)) return cookie ? state.look() : adopt(body);
        // Another tab's answer is on its way to the storage.
        await pause(env, 0.2 * 2 ** n * (1 + env.Math.random()));
      }
      throw unavailable();
    };
    return state.shelf ? state.alone(work) : work();
  };

  state.look = async () => {
    const { held: sent, epoch } = state;
    const ask = (path: string) =>
      state.query('GET', path, undefined, bearer(sent)).catch((error: ResealError) => error);
    const [session, user] = await Promise.all([ask('/v1/session'), cookie && ask('/v1/me')]);
    if (epoch !== state.epoch) return;
    if (session instanceof ResealError) {
      state.unknown = cookie && session.status !== 401;
      await refused(session, sent);
      throw unavailable();
    }
    if (!cookie) return adopt({ session });
    const found = whole(offer({ session, user }));
    if (found) await state.update((held) => (held?.session.id === found.session.id ? merge(held, found) : found));
    state.unknown = !found;
    if (!found) throw unavailable();
  };

  state.tick = (use) => {
    env.clearTimeout(timer);
    const { held } = state;
    const now = clock.now();
    let next = Infinity;
    let expiring = 0;
    const at = (moment: number, work: () => Promise<void>) => {
      if (flight) return;
      const wait = Math.max(moment - now, retryAt - clock.mono(), rest());
      if (wait <= 0) run(work).catch(noop);
      else next = Math.min(next, wait);
    };
    if (held) {
      const { use: half, ahead, last: end } = state.planOf(held);
      state.used ||= !!use;
      const warn = end - expiringBefore;
      const alive = keepAlive === 'open' ? env.document?.visibilityState !== 'hidden' : state.used;
      if (alive) at(ahead, state.renewal);
      if (use && half <= now) at(half, state.renewal);
      // Whether the end has come the authority says, by its clock.
      at(end + 1, mode === 'refresh' ? state.renewal : state.look);
      if (told !== end && (!alive || end >= held.session.expires_at)) {
        if (warn > now) next = Math.min(next, warn - now);
        else if (end > now) expiring = told = end;
      }
    } else if (state.unknown) at(0, state.look);
    if (next < Infinity) timer = env.setTimeout(() => state.tick(), Math.min(next * 1000 + 1, TIMER_MAX));
    if (expiring) state.emit('expiring', { expiresAt: expiring });
  };
}

/** The credential of a request. */
export const bearer = (held: Held | null): Fields =>
  held?.access_token ? { authorization: 'Bearer ' + held.access_token } : {};

/** A form, as OAuth takes them, of this public client. */
export const postForm = ({ query, options }: State, path: string, form: Fields) =>
  query('POST', path, new URLSearchParams({ ...form, client_id: options.clientId }));
