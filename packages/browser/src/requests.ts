import { noop, within } from './env.js';
import { need, ResealError } from './error.js';
import { type Body, RENEWED } from './http.js';
import { challengeError, DEAD } from './judge.js';
import { bearer } from './renewal.js';
import type { State } from './state.js';
import type { Shown } from './tokens.js';
import type { Session } from './types.js';

/** Requests with the session's credential, and what their answers mean. */
export function addRequests(state: State): Pick<Session, 'token' | 'prepare' | 'settle' | 'call'> {
  const { env, clock, cookie, issuer, baseUrl } = state;
  const originOf = (url: string) => new URL(url, baseUrl()).origin;
  const { origins = env.location ? [env.location.origin] : [] } = state.options;
  const owned = [issuer, ...origins].map(originOf);

  state.own = (url) => {
    try {
      const origin = originOf(url);
      // The origin of a sandboxed page is that of a `data:` URL: null.
      return origin !== 'null' && owned.includes(origin);
    } catch {
      return false;
    }
  };

  const token = async () => {
    if (cookie) throw new ResealError('no_token');
    await state.ready;
    const { exp, iat } = need(await state.update()).claims as Required<Shown>;
    if (exp - clock.now() <= Math.min(5, (exp - iat) / 5)) {
      try {
        await state.demand(state.renewal);
      } catch (error) {
        if (!state.held || clock.now() >= exp) throw error;
      }
    }
    state.tick(true);
    return need(state.held).access_token!;
  };

  const prepare: Session['prepare'] = async (url) => {
    if (!state.own(url)) return null;
    await (cookie
      ? state.ready.then(() => state.tick(true))
      : token().catch((error) => {
          if (error.code !== 'signed_out') throw error;
        }));
    // Nobody is signed in: the answer to a request without a token says so.
    return cookie || state.held ? { headers: bearer(state.held), credentials: cookie } : null;
  };

  const settle: Session['settle'] = async (sent, { status, header, json }, retried) => {
    const access_token = header(RENEWED);
    if (access_token) await state.take({ access_token }).catch(noop);
    if (status !== 401) return false;
    let error = challengeError(header('www-authenticate'));
    let reason: unknown;
    if (json && (!error || retried)) {
      const body = (await within(env, state.limit, json).catch(noop)) as Body | null | undefined;
      error ??= body?.error as string;
      reason = body?.reason;
    }
    if (cookie) {
      // The answer to a cookie that has run out has no error, as it was not sent.
      if (retried) return false;
      await state.demand(state.look).catch(noop);
      return error === DEAD && !!state.held;
    }
    const held = error === DEAD && (await state.update().catch(noop));
    const newest = () => sent.headers.authorization === bearer(state.held).authorization;
    if (!held) return false;
    if (!newest()) return !retried;
    if (!retried) {
      await state.demand(state.renewal).catch(noop);
      return !!state.held && !newest();
    }
    // Renewed just now, and refused all the same. A token that is merely behind the record is not dead.
    if (reason !== 'claims_changed') await state.finish(held, (reason ?? error) as string).catch(noop);
    return false;
  };

  const call: Session['call'] = async (method, path, json) => {
    if (path[0] !== '/') throw new TypeError(path);
    method = method.toUpperCase();
    for (let retried = false; ; retried = true) {
      const sent = need(await prepare(issuer));
      try {
        const body = await state.query(method, path, json, sent.headers);
        await state.take(body);
        if (cookie && method !== 'GET' && !body.user) await state.again(state.look).catch(noop);
        return body as never;
      } catch (error) {
        const { status = 0, code, reason } = error as ResealError;
        const answer = { status, header: () => null, json: async () => ({ error: code, reason }) };
        if (!(await settle(sent, answer, retried))) throw error;
      }
    }
  };

  return { token, prepare, settle, call };
}
