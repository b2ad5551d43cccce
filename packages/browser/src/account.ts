import { noop } from './env.js';
import { ResealError, unavailable } from './error.js';
import type { Body } from './http.js';
import { bearer, rotate } from './renewal.js';
import type { State } from './state.js';
import { type Held, offer, revision, whole } from './tokens.js';
import type { Session, SessionItem } from './types.js';

const HERE = '/v1/session';
const OTHERS = '/v1/sessions?except=current';

/** Signing in and out. */
export function addAccount(
  state: State,
  call: Session['call'],
): Pick<Session, 'login' | 'secondFactor' | 'resendCode' | 'sessions' | 'signOut'> {
  const { ask, clock, cookie, options } = state;
  const client_id = options.clientId;
  let last: unknown;

  /** Adopts a login, and ends at the authority the session that it replaces. */
  const enter = async (body: Body) => {
    const fresh = offer(body);
    const kind = fresh.session?.kind;
    if (kind !== options.mode) throw new TypeError(`the client's policy is ${kind}`);
    if (cookie) {
      state.epoch++;
      state.unknown = true;
      await state.look();
      const { claims } = state.held!;
      state.post({ rev: revision(claims), sub: claims.sub });
    } else {
      const old = await state.sync();
      if (!whole(fresh)) throw unavailable();
      await state.update(() => whole(fresh));
      if (old) void state.farewell(old);
    }
    return state.held!.claims;
  };

  state.farewell = async (held) => {
    const alive = clock.now() < held.claims.exp! && (await ask('DELETE', HERE, bearer(held)).catch(noop));
    const { refresh_token: token } = held;
    if (!alive && token) await ask('POST', '/oauth/revoke', { form: { token, client_id } }).catch(noop);
  };

  const signOut: Session['signOut'] = async ({ everywhere } = {}) => {
    await state.ready;
    let held = await state.sync();
    if (cookie) {
      for (const path of everywhere ? [OTHERS, HERE] : [HERE]) {
        await ask('DELETE', path).catch((error: ResealError) => {
          if (error.status !== 401) throw error;
        });
      }
      state.epoch++;
      return state.finish(held, 'signed_out');
    }
    if (!held) return;
    await state.finish(held, 'signed_out', everywhere || !state.shelf);
    try {
      if (everywhere) {
        if (held.refresh_token && clock.now() >= held.claims.exp!) {
          held = { ...held, ...offer(await rotate(state, held)) } as Held;
        }
        await ask('DELETE', OTHERS, bearer(held));
      }
    } finally {
      await state.farewell(held);
    }
  };

  return {
    signOut,
    login: ({ username, password, scope }) =>
      ask('POST', HERE, { json: { client_id, username, password, scope } }).then(
        async (body) => ({ status: 'signed_in', user: await enter(body) }),
        (error) => {
          const { challenge, factors } = error.details ?? {};
          last = challenge ?? last;
          if (error.code !== 'second_factor_required') throw error;
          return { status: error.code, challenge, factors };
        },
      ),
    secondFactor: async ({ code, factor = 'phone', challenge = last }) =>
      enter(await ask('POST', HERE + '/factor', { json: { challenge, factor, code } })),
    async resendCode(challenge = last as string) {
      await ask('POST', HERE + '/factor/resend', { json: { challenge } });
    },
    sessions: {
      list: async () => (await call<{ items: SessionItem[] }>('GET', '/v1/sessions?limit=200')).items,
      end: (id) =>
        id === state.held?.session.id ? signOut() : call('DELETE', '/v1/sessions/' + encodeURIComponent(id)),
      endOthers: () => call('DELETE', OTHERS),
    },
  };
}
