// One panel: a client under one policy, with a session of its own.

import { call, now, problem } from './api.js';
import { Dial, describe, details } from './dial.js';
import { claimsOf, showToken } from './token.js';
import { clock, why } from './words.js';

/**
 * A session as the authority describes it.
 * @typedef {{ id: string, kind: string, policy: string, generation?: number, started_at: number, authenticated_at: number,
 *   renew_at?: number, idle_expires_at?: number, expires_at: number, acr: string, amr: string[] }} Session
 */

/** What each kind of policy is for, and what its panel can do. */
const KINDS = {
  sliding: {
    title: 'Sliding',
    text: 'A short token that slides while it is used: renewed after half its life, never past the absolute end.',
    actions: ['renew'],
  },
  fixed: {
    title: 'Fixed',
    text: 'One long token, then a new sign-in. Still ended at once when it must be.',
    actions: [],
  },
  refresh: {
    title: 'Refresh',
    text: 'Access and refresh tokens, as in OAuth 2. Each refresh token is used once; a lost answer or a second tab is forgiven, a thief is not.',
    actions: ['renew', 'race', 'replay'],
  },
  cookie: {
    title: 'Cookie',
    text: 'An opaque, HttpOnly cookie. This page cannot read it, nor can a script that sneaks in.',
    actions: ['renew'],
  },
};

/** @type {Record<string, string>} */
const ACTIONS = { renew: 'Renew', race: 'Renew from two tabs', replay: 'Replay an old refresh token' };

/** The panel of one kind of session. */
export class Panel {
  /**
   * @param {keyof typeof KINDS} kind
   * @param {string} clientId
   * @param {(panel: Panel) => Promise<import('./api.js').Answer>} signIn asks for what it needs and answers like the login
   */
  constructor(kind, clientId, signIn) {
    this.kind = kind;
    this.clientId = clientId;
    this.askToSignIn = signIn;
    /** @type {Session | undefined} */
    this.session = undefined;
    /** @type {string | undefined} */
    this.accessToken = undefined;
    /** All refresh tokens so far, newest last. @type {string[]} */
    this.refreshTokens = [];
    /** @type {Record<string, any> | undefined} */
    this.claims = undefined;
    /** @type {string | undefined} */
    this.ended = undefined;
    this.idleTime = 0;
    /** The cookie is every tab's: a tab that changed it tells the others. */
    this.tabs = kind === 'cookie' ? new BroadcastChannel('session-cookie') : undefined;
    this.tabs?.addEventListener('message', () => this.lookAtCookie());
    this.root = this.build();
  }

  build() {
    const template = /** @type {HTMLTemplateElement} */ (document.getElementById('panel'));
    const root = /** @type {HTMLElement} */ (template.content.firstElementChild?.cloneNode(true));
    /** @param {string} name */
    const part = (name) => /** @type {HTMLElement} */ (root.querySelector(`.${name}`));
    const { title, text, actions } = KINDS[this.kind];
    root.id = `panel-${this.kind}`;
    root.setAttribute('aria-labelledby', `title-${this.kind}`);
    part('title').id = `title-${this.kind}`;
    part('title').textContent = title;
    part('about').textContent = text;
    this.dial = new Dial(part('face'));
    this.words = part('words');
    this.log = part('log');
    this.token = part('token');
    this.buttons = part('buttons');
    this.addButton('sign-in', 'Sign in', () => this.signIn());
    for (const action of actions) this.addButton(action, ACTIONS[action] ?? action, () => this.act(action));
    this.addButton('sign-out', 'Sign out', () => this.signOut());
    return root;
  }

  /** @param {string} name @param {string} label @param {() => Promise<void>} run */
  addButton(name, label, run) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = name;
    button.textContent = label;
    button.addEventListener('click', async () => {
      if (button.getAttribute('aria-disabled') === 'true') return;
      button.setAttribute('aria-disabled', 'true');
      await run();
      button.removeAttribute('aria-disabled');
      this.tick();
    });
    this.buttons?.append(button);
  }

  get live() {
    return this.session !== undefined && !this.ended;
  }

  /** How a call for this panel's session authenticates. */
  get credential() {
    return this.kind === 'cookie' ? { cookie: true } : { token: this.accessToken };
  }

  /** @param {string} text @param {'good' | 'bad' | 'plain'} [mood] */
  say(text, mood = 'plain') {
    const line = document.createElement('li');
    line.className = mood;
    const time = document.createElement('time');
    time.textContent = new Date(now() * 1000).toLocaleTimeString();
    line.append(time, ` ${text}`);
    this.log?.prepend(line);
    while (this.log && this.log.children.length > 8) this.log.lastElementChild?.remove();
  }

  async signIn() {
    const answer = await this.askToSignIn(this);
    if (!answer.ok) {
      if (answer.status !== 0 || answer.body?.error !== 'cancelled') this.say(problem(answer), 'bad');
      return;
    }
    this.forget();
    this.adopt(answer);
    this.say('Signed in.', 'good');
    this.tabs?.postMessage('signed in');
    document.dispatchEvent(new CustomEvent('sessions-changed'));
  }

  forget() {
    this.session = undefined;
    this.accessToken = undefined;
    this.refreshTokens = [];
    this.claims = undefined;
    this.ended = undefined;
    this.idleTime = 0;
    this.token?.replaceChildren();
  }

  /** Takes over what an answer carries. @param {import('./api.js').Answer} answer */
  adopt(answer) {
    const { session, access_token: token, refresh_token: refresh } = answer.body ?? {};
    if (session) {
      this.session = session;
      if (session.idle_expires_at) this.idleTime = Math.max(this.idleTime, session.idle_expires_at - Math.floor(answer.at));
    }
    if (token && this.token) {
      showToken(this.token, token, this.claims);
      this.accessToken = token;
      const before = this.claims;
      this.claims = claimsOf(token);
      // The record was changed, perhaps elsewhere: whoever shows it must look again.
      if (before && before.rev !== this.claims.rev) document.dispatchEvent(new CustomEvent('sessions-changed'));
    }
    if (refresh && !this.refreshTokens.includes(refresh)) this.refreshTokens.push(refresh);
    this.tick();
  }

  /** Notices that the session is over, when an answer says so. @param {import('./api.js').Answer} answer */
  notice(answer) {
    const reason = answer.body?.reason;
    if ((answer.status === 401 || answer.body?.error === 'invalid_grant') && reason && reason !== 'superseded') {
      if (!this.ended) this.end(reason, why(reason));
      return true;
    }
    return false;
  }

  /** The session is over. @param {string} reason @param {string} text @param {'good' | 'bad'} [mood] */
  end(reason, text, mood = 'bad') {
    this.ended = reason;
    this.say(text, mood);
    this.tick();
    document.dispatchEvent(new CustomEvent('sessions-changed'));
  }

  /** @param {string} action */
  async act(action) {
    if (!this.live) return this.say('Sign in first.', 'bad');
    if (action === 'race') return this.race();
    if (action === 'replay') return this.replay();
    const answer = this.kind === 'refresh' ? await this.refresh() : await call('POST', '/v1/session/renew', this.credential);
    if (answer.ok && answer.body?.renewed === false) {
      const at = answer.body.renew_at;
      this.say(at ? `Too early: from ${clock(at, now())} on. Nothing was written.` : 'This kind does not renew.');
    } else if (answer.ok) {
      this.adopt(answer);
      this.say('Renewed.', 'good');
      this.tabs?.postMessage('renewed');
    } else if (!this.notice(answer)) {
      this.say(problem(answer), 'bad');
    }
  }

  /** @param {string} [token] */
  refresh(token = this.refreshTokens.at(-1) ?? '') {
    const form = { grant_type: 'refresh_token', client_id: this.clientId, refresh_token: token };
    return call('POST', '/oauth/token', { form });
  }

  /** The same refresh token twice at once, as two tabs do. */
  async race() {
    const token = this.refreshTokens.at(-1) ?? '';
    const answers = await Promise.all([this.refresh(token), this.refresh(token)]);
    for (const answer of answers) {
      if (answer.ok) this.adopt(answer);
      else if (!this.notice(answer)) this.say(problem(answer), 'bad');
    }
    const tokens = new Set(answers.map((a) => a.body?.refresh_token));
    if (answers.every((a) => a.ok)) {
      this.say(tokens.size === 1 ? 'Both tabs got the same successor: nobody is signed out.' : 'The tabs got different successors.', 'good');
    }
  }

  /** The oldest refresh token again, as a thief would. */
  async replay() {
    if (this.refreshTokens.length < 2) return this.say('There is no old one yet: renew first.');
    const answer = await this.refresh(this.refreshTokens[0]);
    if (this.notice(answer)) return;
    if (answer.ok) {
      this.adopt(answer);
      this.say('Within grace of its use: the same successor again.', 'good');
    } else {
      this.say(problem(answer), 'bad');
    }
  }

  async signOut() {
    if (!this.live) return this.say('You are not signed in here.');
    const expired = this.claims && now() >= this.claims.exp;
    const answer =
      expired && this.kind === 'refresh'
        ? await call('POST', '/oauth/revoke', { form: { client_id: this.clientId, token: this.refreshTokens.at(-1) ?? '' } })
        : await call('DELETE', '/v1/session', this.credential);
    if (answer.ok) {
      this.tabs?.postMessage('signed out');
      this.end('signed_out', 'Signed out.', 'good');
    } else if (!this.notice(answer)) {
      this.say(problem(answer), 'bad');
    }
  }

  /** Asks the authority how the session is, so that an end elsewhere shows here. */
  async look() {
    if (this.live && this.kind === 'cookie') return this.lookAtCookie();
    if (!this.live || (this.claims && now() >= this.claims.exp)) return;
    const answer = await call('GET', '/v1/session', this.credential);
    if (!answer.ok) this.notice(answer);
  }

  /** Another tab may have signed in, renewed or signed out with the cookie. */
  async lookAtCookie() {
    const { session, ended } = this;
    const answer = await call('GET', '/v1/session', this.credential);
    // This tab was faster: what it did counts.
    if (this.session !== session || this.ended !== ended) return;
    if (answer.ok && this.live && answer.body.id === session?.id) {
      this.adopt({ ...answer, body: { session: answer.body } });
    } else if (answer.ok) {
      this.forget();
      this.adopt({ ...answer, body: { session: answer.body } });
      this.say('Another tab signed in.', 'good');
      document.dispatchEvent(new CustomEvent('sessions-changed'));
    } else if (this.live && !this.notice(answer) && answer.status === 401) {
      this.end('signed_out', 'Another tab signed out.');
    }
  }

  /** Draws the moment. */
  tick() {
    const t = now();
    const session = this.session;
    /** @type {import('./dial.js').DialState} */
    const state = {};
    if (session) {
      state.absolute = { from: session.started_at, to: session.expires_at };
      if (this.claims) state.access = { from: this.claims.iat, to: this.claims.exp, tick: this.claims.renew_at };
      if (session.idle_expires_at) {
        const tick = this.kind === 'cookie' ? session.renew_at : undefined;
        state.idle = { from: session.idle_expires_at - this.idleTime, to: session.idle_expires_at, tick };
      }
      const idleOver = session.idle_expires_at !== undefined && t >= session.idle_expires_at;
      if (!this.ended && (idleOver || t >= session.expires_at)) {
        const reason = t >= session.expires_at ? (this.kind === 'fixed' ? 'expired' : 'max_lifetime') : 'idle_timeout';
        return this.end(reason, why(reason));
      }
      state.ended = this.ended;
    }
    this.dial?.show(state, t);
    if (this.words) {
      const text = describe(state, t);
      if (this.words.textContent !== text) this.words.textContent = text;
      this.words.title = details(state);
    }
    this.root?.classList.toggle('live', this.live);
    this.root?.classList.toggle('over', Boolean(this.ended));
  }
}
