import { addAccount } from './account.js';
import { type Env, noop, pause } from './env.js';
import { createFetch } from './fetch.js';
import { addRenewal } from './renewal.js';
import { addRequests } from './requests.js';
import { createState } from './state.js';
import { parse, revision } from './tokens.js';
import type { Claims, Session, SessionOptions } from './types.js';

/** Makes a session in the page that `env` is. */
export function create<User extends object>(options: SessionOptions, env: Env = globalThis): Session<User> {
  const state = createState(options, env);
  const { cookie, shelf, twins } = state;
  addRenewal(state);
  const requests = addRequests(state);
  const account = addAccount(state, requests.call);
  const ready = (state.ready = (cookie ? state.again(state.look) : state.update()).then(noop, noop));
  const over = new AbortController();

  // Every page of the origin can say this: it is taken with care.
  state.heard = async ({ out, sid, reason, rev, sub, record, ask }) => {
    const { held } = state;
    const behind = () => {
      const claims = state.held?.claims;
      return claims?.sub === sub ? rev! > revision(claims!) : cookie;
    };
    if (out && out === held?.claims.sub && (!sid || sid === held.session.id)) {
      await state.drop(held, reason!);
      if (!sid && !shelf && !cookie) await state.farewell(held);
    } else if (rev === +rev!) {
      await state.update();
      // The first may join a flight that began before the change.
      for (let n = 0; n < 2 && behind(); n++) await state.again(cookie ? state.look : state.renewal).catch(noop);
    } else if (twins) {
      const brought = parse(record);
      if (brought) await state.take({ ...brought });
      else if (held && ask === held.session.id) state.share(held);
    }
  };

  const awake = async ({ type }: Pick<Event, 'type'>) => {
    // Why a session ended comes by the channel, often behind the storage's event.
    if (type === 'storage') await pause(env, 0.1);
    else state.hurry(type);
    // No answer to a cookie tells of a record that was changed elsewhere.
    if (type === 'focus' && cookie && state.held) state.demand(state.look).catch(noop);
    state.update().then(() => state.tick(), noop);
  };
  for (const event of ['visibilitychange', 'online', 'focus', 'pageshow', 'storage']) {
    env.addEventListener?.(event, awake, over);
  }
  const unsubscribe = shelf?.subscribe?.(() => awake({ type: 'storage' }));

  return {
    ready,
    get user() {
      return state.held && state.held.claims;
    },
    get info() {
      return state.held && state.held.session;
    },
    get expiresAt() {
      return state.held && state.planOf(state.held).last;
    },
    now: state.clock.now,
    ...account,
    ...requests,
    fetch: createFetch(state, requests),
    renew: () => ready.then(() => state.again(state.renewal)),
    on(event, listener) {
      const set = (state.listeners[event] ??= new Set());
      set.add(listener);
      return () => set.delete(listener);
    },
    dispose() {
      // Nobody is signed in here any more, whatever comes.
      state.update = async () => (state.held = null);
      state.held = null;
      state.unknown = false;
      state.tick();
      state.tick = state.post = noop;
      state.listeners = {};
      over.abort();
      unsubscribe?.();
      state.channel?.close();
    },
  } satisfies Session<Claims> as Session<object> as Session<User>;
}
