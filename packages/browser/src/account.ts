import { noop } from './env.js';
import { need, type ResealError } from './error.js';
import type { Body } from './http.js';
import { postForm } from './renewal.js';
import type { State } from './state.js';
import { offer, whole } from './tokens.js';
import type { Session, SessionItem } from './types.js';

const HERE = '/v1/session';
const OTHERS = '/v1/sessions?except=current';

/** Signing in and out. */
export function addAccount(
  state: State,
  call: Session['call'],
): Pick<Session, 'login' | 'secondFactor' | 'resendCode' | 'sessions' | 'signOut'> {
  const { query, cookie, options } = state;
  let last: unknown;

  /** Adopts a login, and ends at the authority the session that it replaces. */
  const enter = async (body: Body) => {
    const fresh = offer(body);
    const kind = fresh.session?.kind;
    if (kind !== options.mode || !(cookie || whole(fresh))) throw new TypeError(`the policy is ${kind}`);
    if (cookie) {
      state.epoch++;
      state.unknown = true;
      // Late if another login has come between.
      while (state.unknown) await state.look();
      state.tell(need(state.held).claims);
    } else {
      await state.update((held) => {
        if (held) void state.farewell(held);
        return whole(fresh);
      });
    }
    return need(state.held).claims;
  };

  // RFC 7009: the session ends with either token. A form needs no preflight, so it passes when the page is left.
  state.farewell = ({ refresh_token, access_token }) =>
    postForm(state, '/oauth/revoke', { token: refresh_token ?? access_token! }).catch(noop);

  const signOut: Session['signOut'] = async ({ everywhere } = {}) => {
    await state.ready;
    const held = await state.update();
    try {
      if (everywhere) await call('DELETE', OTHERS);
      if (cookie) {
        await query('DELETE', HERE).catch((error: ResealError) => {
          if (error.status !== 401) throw error;
        });
        state.epoch++;
        await state.finish(held, 'signed_out');
      }
    } finally {
      if (held && !cookie) {
        await state.finish(held, 'signed_out', everywhere || !state.shelf);
        await state.farewell(held);
      }
    }
  };

  return {
    signOut,
    login: ({ username, password, scope }) =>
      query('POST', HERE, { client_id: options.clientId, username, password, scope }).then(
        async (body) => ({ status: 'signed_in', user: await enter(body) }),
        (error) => {
          last = error.details?.challenge ?? last;
          if (error.code !== 'second_factor_required') throw error;
          return { status: error.code, ...error.details };
        },
      ),
    secondFactor: async ({ code, factor = 'phone', challenge = last }) =>
      enter(await query('POST', HERE + '/factor', { challenge, factor, code })),
    async resendCode(challenge = last as string) {
      await query('POST', HERE + '/factor/resend', { challenge });
    },
    sessions: {
      list: async () => (await call<{ items: SessionItem[] }>('GET', '/v1/sessions?limit=200')).items,
      end: (id) =>
        id === state.held?.session.id ? signOut() : call('DELETE', '/v1/sessions/' + encodeURIComponent(id)),
      endOthers: () => call('DELETE', OTHERS),
    },
  };
}
