// The user's record, the phone as second factor, my devices, and the phone itself (the outbox).

import { call, now, problem } from './api.js';
import { clock } from './words.js';

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {string} id */
const input = (id) => /** @type {HTMLInputElement} */ (document.getElementById(id));

/** The account card: acts through one of the panels' sessions, and hands it the resealed credential. */
export class Account {
  /** @param {import('./panel.js').Panel[]} panels */
  constructor(panels) {
    this.panels = panels;
    /** @type {string | undefined} */
    this.challenge = undefined;
    byId('via').addEventListener('change', () => this.show());
    byId('name-form').addEventListener('submit', (e) => this.submit(e, () => this.saveName()));
    byId('phone-form').addEventListener('submit', (e) => this.submit(e, () => this.sendCode()));
    byId('code-form').addEventListener('submit', (e) => this.submit(e, () => this.verify()));
    byId('phone-off').addEventListener('click', (e) => this.submit(e, () => this.turnOff()));
    byId('others').addEventListener('click', (e) => this.submit(e, () => this.endOthers()));
    document.addEventListener('sessions-changed', () => this.show());
  }

  /** The panel whose session acts. @returns {import('./panel.js').Panel | undefined} */
  get via() {
    const select = /** @type {HTMLSelectElement} */ (byId('via'));
    return this.panels.find((p) => p.kind === select.value && p.live);
  }

  /** @param {Event} event @param {() => Promise<void>} run */
  async submit(event, run) {
    event.preventDefault();
    if (!this.via) return this.say('Sign in to one of the four first.', 'bad');
    await run();
    await this.show();
  }

  /** @param {string} text @param {'good' | 'bad' | 'plain'} [mood] */
  say(text, mood = 'plain') {
    const line = byId('account-says');
    line.textContent = text;
    line.className = `says ${mood}`;
  }

  /** Takes over a resealed credential, or says what went wrong. @param {import('./api.js').Answer} answer @param {string} done */
  take(answer, done) {
    const panel = this.via;
    if (answer.ok && panel) {
      panel.adopt(answer);
      panel.say('Resealed: the token shows the record as it is now.', 'good');
      this.say(done, 'good');
    } else if (!panel?.notice(answer)) {
      this.say(problem(answer), 'bad');
    }
    return answer.ok;
  }

  async saveName() {
    const answer = await call('PATCH', '/v1/me', { ...this.via?.credential, json: { name: input('name').value } });
    this.take(answer, 'Saved. The same answer carried the new token; other sessions get the change at their next renewal.');
  }

  async sendCode() {
    const json = { phone_number: input('phone').value };
    const answer = await call('POST', '/v1/me/phone', { ...this.via?.credential, json });
    if (!answer.ok) return this.say(problem(answer), 'bad');
    this.challenge = answer.body.challenge;
    byId('code-form').hidden = false;
    input('code').focus();
    this.say('A code is on its way to the phone below.', 'good');
  }

  async verify() {
    const json = { challenge: this.challenge, code: input('code').value };
    const answer = await call('POST', '/v1/me/phone/verify', { ...this.via?.credential, json });
    if (!this.take(answer, 'The phone is your second factor now. Other sessions stay; you may end them below.')) return;
    byId('code-form').hidden = true;
    input('code').value = '';
    /** @type {string[]} */
    const codes = answer.body.recovery_codes ?? [];
    byId('recovery').hidden = false;
    byId('recovery-codes').replaceChildren(
      ...codes.map((code) => {
        const line = document.createElement('li');
        line.textContent = code;
        return line;
      }),
    );
  }

  async turnOff() {
    const answer = await call('DELETE', '/v1/me/phone', { ...this.via?.credential });
    byId('recovery').hidden = true;
    if (answer.status === 204) this.say('The second factor is off.', 'good');
    else this.take(answer, 'The second factor is off.');
  }

  async endOthers() {
    const answer = await call('DELETE', '/v1/sessions?except=current', { ...this.via?.credential });
    if (!answer.ok) return this.say(problem(answer), 'bad');
    this.say('All other sessions are ended.', 'good');
    await Promise.all(this.panels.map((p) => p.look()));
  }

  /** @param {string} id */
  async endOne(id) {
    const answer = await call('DELETE', `/v1/sessions/${id}`, { ...this.via?.credential });
    this.say(answer.ok ? 'That session is ended.' : problem(answer), answer.ok ? 'good' : 'bad');
    await Promise.all(this.panels.map((p) => p.look()));
    await this.show();
  }

  /** Draws the record and the devices. */
  async show() {
    const select = /** @type {HTMLSelectElement} */ (byId('via'));
    for (const option of select.options) {
      option.disabled = !this.panels.find((p) => p.kind === option.value)?.live;
    }
    if (select.selectedOptions[0]?.disabled) {
      const live = [...select.options].find((o) => !o.disabled);
      if (live) select.value = live.value;
    }
    const panel = this.via;
    for (const control of document.querySelectorAll('#account .columns :is(input, button)')) {
      control.setAttribute('aria-disabled', String(!panel));
    }
    if (!panel) return byId('devices').replaceChildren();
    const [me, sessions] = await Promise.all([
      call('GET', '/v1/me', { ...panel.credential }),
      call('GET', '/v1/sessions', { ...panel.credential }),
    ]);
    if (!me.ok || !sessions.ok) {
      panel.notice(me.ok ? sessions : me);
      return;
    }
    const record = me.body.user ?? me.body;
    if (document.activeElement !== input('name')) input('name').value = record.name ?? '';
    byId('phone-now').textContent = record.phone_number
      ? `${record.phone_number}${record.phone_number_verified ? ', second factor' : ', not verified'}`
      : 'none';
    byId('phone-off').hidden = !record.phone_number;
    /** @type {any[]} */
    const devices = sessions.body.items;
    devices.sort((a, b) => Number(b.current) - Number(a.current) || b.started_at - a.started_at);
    byId('devices').replaceChildren(...devices.map((s) => this.device(s)));
  }

  /** @param {any} session */
  device(session) {
    const line = document.createElement('li');
    const text = document.createElement('span');
    text.textContent = `${session.client}, signed in ${clock(session.started_at, now())}${session.current ? ' (this one)' : ''}`;
    text.title = session.user_agent ?? '';
    line.append(text);
    if (!session.current) {
      const button = document.createElement('button');
      button.type = 'button';
      button.className = 'quiet';
      button.textContent = 'Sign out';
      button.setAttribute('aria-label', `Sign out ${session.client}`);
      button.addEventListener('click', () => this.endOne(session.id));
      line.append(button);
    }
    return line;
  }
}

/** @typedef {{ to: string, text: string, at: number }} Message */

/**
 * The phone: text messages that were sent, newest first; and the newest one beside the question for its
 * code, since nothing behind an open dialog can be reached.
 */
export async function showOutbox() {
  const answer = await call('GET', '/dev/outbox');
  if (!answer.ok) return answer;
  /** @type {Message[]} */
  const messages = answer.body.slice(-5).reverse();
  showMessages(byId('outbox'), messages);
  showMessages(byId('factor-outbox'), messages.slice(0, 1));
  return answer;
}

/** Takes away the message beside the question for a code: it was an answer to an earlier question. */
export const forgetNewest = () => showMessages(byId('factor-outbox'), []);

/** @param {HTMLElement} host @param {Message[]} messages */
function showMessages(host, messages) {
  const key = JSON.stringify(messages);
  if (host.dataset.key === key) return;
  host.dataset.key = key;
  host.replaceChildren(
    ...messages.map((m) => {
      const line = document.createElement('li');
      const head = document.createElement('small');
      head.textContent = `${m.to}, ${clock(m.at, now())}`;
      const text = document.createElement('p');
      text.textContent = m.text;
      line.append(head, text);
      return line;
    }),
  );
}
