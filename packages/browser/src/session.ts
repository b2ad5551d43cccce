import { type Message, createOwner, openChannel } from './channel.js';
import { createClock } from './clock.js';
import { type Env, noop, pause, unavailable, within } from './env.js';
import { ResealError } from './error.js';
import { createFetch } from './fetch.js';
import { type Reply, createAuthority, toError } from './http.js';
import { judge, challengeError } from './judge.js';
import { createKeeper, placeOf } from './keeper.js';
import { backOff, plan } from './schedule.js';
import { type Held, format, merge, offer, parse, revision, sameClaims, whole } from './tokens.js';
import type { Answer, Events, LoginResult, Prepared, Session, SessionItem, SessionOptions } from './types.js';

const TIMER_MAX = 2 ** 31 - 1;
/** Tries at one renewal: again after `superseded`, or with a newer token that another tab has brought. */
const TRIES = 4;
/** Most pages of a list of sessions. */
const PAGES = 20;

/** Makes a session in the page that `env` is. */
export function create<User extends object>(options: SessionOptions, env: Env): Session<User> {
  const { clientId, mode, renewBefore = 60, expiringBefore = 60, timeout = 10 } = options;
  const cookie = mode === 'cookie';
  const open = (options.keepAlive ?? (mode === 'refresh' ? 'open' : 'use')) === 'open';
  const baseUrl = env.document?.baseURI ?? env.location?.href;
  const api = new URL(options.api, baseUrl).href.replace(/\/$/, '');
  const key = `reseal:${clientId}@${api}`;
  // Bound now: who replaces `window.fetch` later does not see the refresh token pass.
  const send = options.fetch ?? env.fetch.bind(env);
  const locks = options.locks === undefined ? env.navigator?.locks : options.locks;
  const clock = createClock(env);
  const ask = createAuthority({ api, send, env, clock }, cookie ? 'include' : 'same-origin', timeout);
  const place = placeOf(options, env, key);

  const listeners: Record<string, Set<(detail: never) => void>> = {};
  const cleanUps: (() => void)[] = [];
  const waiting: (() => void)[] = [];
  let disposed = false;
  /** Used since the last renewal. */
  let used = false;
  /** Mode cookie: whether the authority has told yet if there is a session. */
  let unknown = cookie;
  /** Counts logins and sign-outs: an answer to what was asked before is late. */
  let epoch = 0;
  let challenge = '';
  /** The deadline that `expiring` told of. */
  let told = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const keeper = createKeeper({
    ...{ key, env, clock, place, locks, options, changed },
    slow: typeof options.storage === 'object',
  });
  const channel = openChannel(env, key, (message) => void heard(message).catch(noop));
  const post = (message: Message) => channel?.post(message);
  const owner =
    place && mode === 'refresh' && options.storage === 'session'
      ? createOwner({ key, env, locks, ask: (sid, n) => post({ ask: sid, generation: -1, n }), won: wake })
      : undefined;

  const planOf = (held: Held) => plan(mode, held, renewBefore);
  const user = (held: Held) => held.claims as unknown as User;
  const sync = () => keeper.update((held) => held);
  const bearer = (held: Held | null) => ({
    headers: held?.access_token ? { authorization: `Bearer ${held.access_token}` } : {},
  });
  const refreshForm = ({ refresh_token }: Held) => ({
    form: { grant_type: 'refresh_token', refresh_token: refresh_token!, client_id: clientId },
  });
  const signedOut = (reason?: unknown) => new ResealError('signed_out', 'Signed out.', reason ? { reason } : {});

  function emit<E extends keyof Events<User>>(event: E, detail: Events<User>[E]) {
    listeners[event]?.forEach((listener) => {
      try {
        listener(detail as never);
      } catch (error) {
        // The listener's own fault is reported like any uncaught one, and stops nothing here.
        env.setTimeout(() => {
          throw error;
        });
      }
    });
  }

  function wake() {
    waiting.splice(0).forEach((go) => go());
  }

  function changed(held: Held | null, before: Held | null, reason: string) {
    if (held?.access_token !== before?.access_token || held?.session.id !== before?.session.id) used = false;
    wake();
    if (!held) {
      epoch++;
      owner?.release();
      emit('signedout', { reason });
    } else if (held.session.id !== before?.session.id) {
      epoch++;
      unknown = false;
      owner?.claim(held.session.id);
      emit('signedin', { user: user(held) });
    } else {
      if (owner?.owns) post({ record: format(held, clock.skew()) });
      if (revision(held.claims) > revision(before.claims)) post({ rev: revision(held.claims), sub: held.claims.sub });
      if (!sameClaims(held.claims, before.claims)) emit('claims', { user: user(held), previous: user(before) });
      const { end } = planOf(held);
      if (held.access_token !== before.access_token || end !== planOf(before).end) {
        used &&= !cookie;
        emit('renewed', { expiresAt: end });
      }
    }
    tick();
  }

  // Renewal: one flight at a time, and never a loop.

  let flight: Promise<void> | undefined;
  let flying: (() => Promise<void>) | undefined;
  let attempted = -Infinity;
  let attemptedWith: string | number | undefined;
  const credential = () => keeper.held?.access_token ?? epoch;
  let failure: ResealError | undefined;
  let failures = 0;
  let retryAt = 0;

  function run(work: () => Promise<void>): Promise<void> {
    const fly = async () => {
      failure = undefined;
      try {
        await work();
      } catch (error) {
        failure = error as ResealError;
        throw error;
      } finally {
        flight = undefined;
        attempted = clock.mono();
        attemptedWith = credential();
        const due = keeper.held && planOf(keeper.held);
        if (!failure && (!due || clock.now() < Math.min(due.ahead, due.end + 1))) retryAt = failures = 0;
        else retryAt = attempted + backOff(failures++, env.Math.random(), failure?.retryAfter);
        tick();
      }
    };
    flying = work;
    return (flight = fly());
  }

  /** For somebody who waits: joins the flight, else starts one, but not twice in a second for one token. */
  async function demand(work: () => Promise<void>): Promise<void> {
    if (flight || clock.mono() - attempted >= 1 || attemptedWith !== credential() || flying !== work)
      return again(work);
    if (failure) throw failure;
  }

  /** Whatever the clock says; joins a flight of the same kind. */
  async function again(work: () => Promise<void>): Promise<void> {
    if (flight && flying !== work) await flight.catch(noop);
    return flight ?? run(work);
  }

  function inBackground(work: () => Promise<void>) {
    if (!flight && clock.mono() >= retryAt) demand(work).catch(noop);
  }

  /** An answer that is no renewal: signs out if it says so of what is still the newest. */
  async function refused(reply: Reply, sent: Held | null): Promise<boolean> {
    const verdict = judge(mode, reply.status, reply.body);
    if (verdict === 'superseded') return true;
    if (verdict === 'away') throw Object.assign(toError(reply), { code: 'unavailable' });
    const newest = await sync();
    if (newest && newest !== sent) return true;
    const reason = String(reply.body.reason ?? reply.body.error);
    await end(sent, reason);
    throw signedOut(reason);
  }

  const drop = ({ session }: Held, reason: string) =>
    keeper.update((held) => (held?.session.id === session.id ? null : held), reason);

  /** Signs out here and in the other tabs of this session, or in all of this user's. */
  async function end(held: Held | null, reason: string, all = false) {
    if (!held) return;
    await drop(held, reason);
    post({ out: held.claims.sub, reason, ...(!all && { sid: held.session.id }) });
  }

  async function renewal() {
    const want = await sync();
    await (keeper.shared && !owner ? keeper.locked : (work: () => Promise<void>) => work())(async () => {
      for (let n = 0; n < TRIES; n++) {
        const held = await sync();
        if (!held) throw signedOut();
        // Another tab has done it.
        if (want?.access_token !== held.access_token || want?.generation !== held.generation) return;
        if (owner && !owner.owns) {
          await follow(held);
          continue;
        }
        const reply = await (mode === 'refresh'
          ? ask('POST', '/oauth/token', refreshForm(held))
          : ask('POST', '/v1/session/renew', bearer(held)));
        if (reply.status === 200) return adopt(reply.body);
        // Another tab's answer is on its way to the storage.
        if (await refused(reply, held)) await pause(env, 0.2 * 2 ** n * (1 + env.Math.random()));
      }
      throw unavailable('Replaced a moment ago.');
    });
  }

  async function adopt(body: Record<string, unknown>) {
    const brought = offer(body);
    if (!(await keeper.update((held) => held && merge(held, brought)))) throw signedOut();
  }

  /** A duplicated tab asks the owner, and waits for his record or to become the owner. */
  async function follow({ session: { id }, generation }: Held) {
    await owner!.check();
    if (owner!.owns) return;
    const news = within(env, timeout, () => new Promise<void>((resolve) => waiting.push(resolve)));
    post({ ask: id, generation: generation ?? 0 });
    await news;
  }

  /** Asks how things are, without keeping anything alive. */
  async function look() {
    const sent = keeper.held;
    const asked = epoch;
    const [reply, me] = await Promise.all([
      ask('GET', '/v1/session', bearer(sent)),
      cookie ? ask('GET', '/v1/me').catch(noop) : undefined,
    ]);
    if (asked !== epoch) return;
    unknown = false;
    if (reply.status !== 200) {
      if (await refused(reply, sent)) throw unavailable();
    } else if (!cookie) {
      await adopt({ session: reply.body });
    } else {
      const found = whole(offer({ session: reply.body, user: me?.status === 200 && me.body }));
      unknown = !found;
      if (!found) throw unavailable();
      await keeper.update((held) => (held && held.session.id === found.session.id ? merge(held, found) : found));
    }
  }

  /** Looks what is due, does it, and sets the one timer to what comes next. */
  function tick() {
    env.clearTimeout(timer);
    if (disposed) return;
    const held = keeper.held;
    const now = clock.now();
    let wait = Infinity;
    let expiring: number | undefined;
    const at = (moment: number, work: () => Promise<void>) => {
      const rest = Math.max(retryAt, attemptedWith === credential() ? attempted + 1 : 0) - clock.mono();
      if (flight) return;
      if (moment <= now && rest <= 0) run(work).catch(noop);
      else wait = Math.min(wait, Math.max(moment - now, rest));
    };
    if (held) {
      const { ahead, end } = planOf(held);
      const alive = open ? env.document?.visibilityState !== 'hidden' : used;
      if (alive) at(ahead, renewal);
      // Whether the end has come the authority says, by its clock.
      at(end + 1, mode === 'refresh' ? renewal : look);
      if (told !== end && (!alive || end >= held.session.expires_at)) {
        if (end - expiringBefore > now) wait = Math.min(wait, end - expiringBefore - now);
        else if (end > now) expiring = told = end;
      }
    } else if (unknown) at(0, look);
    if (wait < Infinity) {
      timer = env.setTimeout(tick, Math.min(Math.ceil(wait * 1000), TIMER_MAX));
      (timer as { unref?(): void }).unref?.();
    }
    if (expiring) emit('expiring', { expiresAt: expiring });
  }

  function use() {
    if (!used) {
      used = true;
      tick();
    }
    if (clock.now() >= planOf(keeper.held!).use) inBackground(renewal);
  }

  async function token(): Promise<string> {
    if (cookie) throw new ResealError('no_token', 'A session cookie is out of reach of scripts.');
    await ready;
    const held = await sync();
    if (disposed || !held) throw signedOut();
    const { exp = 0, iat = exp } = held.claims;
    if (exp - clock.now() <= Math.min(5, (exp - iat) / 5)) {
      try {
        await demand(renewal);
      } catch (error) {
        if (!keeper.held || clock.now() >= exp) throw error;
      }
    }
    use();
    return keeper.held!.access_token!;
  }

  async function prepare(url: string): Promise<Prepared | null> {
    if (disposed || !own(url)) return null;
    if (cookie) {
      await ready;
      if (keeper.held) use();
      return { headers: {}, credentials: true };
    }
    try {
      return { headers: { authorization: `Bearer ${await token()}` }, credentials: false };
    } catch (error) {
      // Nobody is signed in: the answer to a request without a token says so.
      if ((error as ResealError).code === 'signed_out') return null;
      throw error;
    }
  }

  async function settle(sent: Prepared, { status, header, json }: Answer, retried: boolean): Promise<boolean> {
    const access_token = header('renewed-access-token');
    if (access_token) {
      const brought = offer({ access_token });
      await keeper.update((held) => held && merge(held, brought));
    }
    if (status !== 401) return false;
    let error = challengeError(header('www-authenticate'));
    let reason: unknown;
    if (json && (!error || retried)) {
      const body = (await within(env, timeout, json).catch(noop)) as Reply['body'] | null | undefined;
      error ??= body?.error as string;
      reason = body?.reason;
    }
    if (cookie) {
      // A cookie that has run out is not sent: the answer then has no error.
      if (retried || (error !== 'invalid_token' && error && error !== 'unauthorized')) return false;
      await demand(look).catch(noop);
      return error === 'invalid_token' && !!keeper.held;
    }
    if (error !== 'invalid_token') return false;
    const held = await sync();
    if (!held) return false;
    const isNewest = () => sent.headers.authorization === `Bearer ${keeper.held?.access_token}`;
    if (!isNewest()) return !retried;
    if (!retried) {
      await demand(renewal).catch(noop);
      return !!keeper.held && !isNewest();
    }
    // Renewed just now, and refused all the same. A token that is merely behind the record is not dead.
    if (reason !== 'claims_changed' && reason !== 'superseded') await end(held, String(reason ?? error));
    return false;
  }

  async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
    if (path[0] !== '/') throw new TypeError('path must begin with /');
    method = method.toUpperCase();
    for (let retried = false; ; retried = true) {
      const sent = await prepare(api);
      if (!sent) throw signedOut();
      const reply = await ask(method, path, { headers: sent.headers, json: body });
      if (await settle(sent, { ...reply, json: async () => reply.body }, retried)) continue;
      if (reply.status >= 400) throw toError(reply);
      const brought = offer(reply.body);
      await keeper.update((held) => held && merge(held, brought));
      if (cookie && method !== 'GET' && path.startsWith('/v1/me') && !brought.claims) await demand(look).catch(noop);
      return reply.body as T;
    }
  }

  /** Adopts a login, and ends at the authority the session that it replaces. */
  async function enter(reply: Reply): Promise<User> {
    if (reply.status >= 400) throw toError(reply);
    const fresh = offer(reply.body);
    if (fresh.session?.kind !== mode) throw new TypeError(`The client's policy is not of kind "${mode}".`);
    if (cookie) {
      epoch++;
      unknown = true;
      await look();
      const { claims } = keeper.held!;
      post({ rev: revision(claims), sub: claims.sub });
    } else {
      const old = await sync();
      if (!whole(fresh)) throw unavailable('No token in the answer.');
      await keeper.update(() => whole(fresh));
      if (old) void farewell(old);
    }
    return user(keeper.held!);
  }

  /** Ends a session at the authority, as far as it can be reached. */
  async function farewell(held: Held) {
    const ended =
      clock.now() < held.claims.exp! &&
      (await ask('DELETE', '/v1/session', { ...bearer(held), keepalive: true }).catch(noop))?.status === 204;
    if (!ended && held.refresh_token) {
      const form = { token: held.refresh_token, client_id: clientId };
      await ask('POST', '/oauth/revoke', { form, keepalive: true }).catch(noop);
    }
  }

  async function signOut({ everywhere = false } = {}) {
    await ready;
    const held = await sync();
    const others = '/v1/sessions?except=current';
    if (cookie) {
      for (const path of everywhere ? [others, '/v1/session'] : ['/v1/session']) {
        const reply = await ask('DELETE', path);
        if (reply.status >= 400 && reply.status !== 401) throw toError(reply);
      }
      epoch++;
      return end(held, 'signed_out');
    }
    if (!held) return;
    await end(held, 'signed_out', everywhere || !place);
    let last = held;
    try {
      if (everywhere) {
        if (held.refresh_token && clock.now() >= held.claims.exp!) {
          const { body } = await ask('POST', '/oauth/token', refreshForm(held));
          last = { ...held, ...offer(body) } as Held;
        }
        const reply = await ask('DELETE', others, bearer(last));
        if (reply.status >= 400) throw toError(reply);
      }
    } finally {
      await farewell(last);
    }
  }

  async function heard(message: Message) {
    const { out, sid, reason, rev, sub, record } = message;
    const held = keeper.held;
    if (out && out === held?.claims.sub && (!sid || sid === held.session.id)) {
      await drop(held, String(reason));
      if (!sid && !place && !cookie) await farewell(held);
    } else if (typeof rev === 'number') {
      const behind = () => sub === keeper.held?.claims.sub && rev > revision(keeper.held!.claims);
      if (cookie && (sub !== held?.claims.sub || behind())) await again(look);
      else if (held) {
        await sync();
        // The first may join a flight that began before the change.
        for (let n = 0; n < 2 && behind(); n++) await again(renewal);
      }
    } else if (owner && held) {
      const kept = parse(record);
      if (kept?.session.id === held.session.id) {
        owner.yield();
        await keeper.update((held) => held && merge(held, kept));
      } else if (message.ask === held.session.id && owner.answers(message.n)) {
        post({ record: format(held, clock.skew()) });
        if (owner.owns && (held.generation ?? 0) <= message.generation!) await again(renewal);
      }
    }
  }

  const hrefs = [api, ...(options.origins ?? (env.location ? [env.location.origin] : []))];
  const origins = hrefs.map((href) => new URL(href, baseUrl).origin).filter((origin) => origin !== 'null');
  function own(url: string) {
    try {
      return origins.includes(new URL(url, baseUrl).origin);
    } catch {
      return false;
    }
  }

  function listen(target: typeof env | Document | undefined, event: string, listener: (event: Event) => void) {
    target?.addEventListener?.(event, listener);
    cleanUps.push(() => target?.removeEventListener?.(event, listener));
  }
  const awake = ({ type }: Event) => {
    retryAt = 0;
    if (type === 'online') attempted = -Infinity;
    sync().then(tick, noop);
  };
  listen(env.document, 'visibilitychange', awake);
  for (const event of ['online', 'focus', 'pageshow']) listen(env, event, awake);
  if (owner) {
    // A page that is put aside must not keep the others from renewing.
    listen(env, 'pagehide', (event) => (event as PageTransitionEvent).persisted && owner.release());
    listen(env, 'pageshow', (event) => {
      if ((event as PageTransitionEvent).persisted && keeper.held) owner.claim(keeper.held.session.id);
    });
  }
  cleanUps.push(place?.subscribe?.(() => void sync().catch(noop)) ?? noop);

  const ready: Promise<void> = (cookie ? run(look) : sync()).then(noop, noop);

  return {
    ready,
    get user() {
      return keeper.held && user(keeper.held);
    },
    get info() {
      return keeper.held && keeper.held.session;
    },
    get expiresAt() {
      return keeper.held && planOf(keeper.held).end;
    },
    now: clock.now,
    async login({ username, password, scope }): Promise<LoginResult<User>> {
      const json = { client_id: clientId, username, password, scope };
      const reply = await ask('POST', '/v1/session', { json });
      const { error, factors } = reply.body;
      if (typeof reply.body.challenge === 'string') challenge = reply.body.challenge;
      if (error !== 'second_factor_required') return { status: 'signed_in', user: await enter(reply) };
      return { status: error, challenge, factors: factors as [] };
    },
    async secondFactor({ code, factor = 'phone', challenge: of = challenge }) {
      return enter(await ask('POST', '/v1/session/factor', { json: { challenge: of, factor, code } }));
    },
    async resendCode(of = challenge) {
      const reply = await ask('POST', '/v1/session/factor/resend', { json: { challenge: of } });
      if (reply.status >= 400) throw toError(reply);
    },
    token,
    fetch: createFetch({ own, prepare, settle, send }),
    call,
    async renew() {
      await ready;
      await again(renewal);
    },
    sessions: {
      async list() {
        const all: SessionItem[] = [];
        let after: string | undefined = '';
        for (let page = 0; page < PAGES && after !== undefined; page++) {
          const path: string = `/v1/sessions?limit=200${after && `&after=${after}`}`;
          const list: { items: SessionItem[]; next?: string } = await call('GET', path);
          all.push(...list.items);
          after = list.next;
        }
        return all;
      },
      end: (id) =>
        id === keeper.held?.session.id ? signOut() : call('DELETE', '/v1/sessions/' + encodeURIComponent(id)),
      endOthers: () => call('DELETE', '/v1/sessions?except=current'),
    },
    signOut,
    on(event, listener) {
      const set = (listeners[event] ??= new Set());
      set.add(listener);
      return () => void set.delete(listener);
    },
    dispose() {
      disposed = true;
      env.clearTimeout(timer);
      for (const event in listeners) delete listeners[event];
      cleanUps.forEach((clean) => clean());
      owner?.release();
      channel?.close();
    },
    prepare,
    settle,
  };
}
