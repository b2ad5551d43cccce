// The development page: four sessions side by side, and what happens to them.

import { Account, forgetNewest, showOutbox } from './account.js';
import { call, now, problem, setNow } from './api.js';
import { Panel } from './panel.js';

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {string} id */
const input = (id) => /** @type {HTMLInputElement} */ (document.getElementById(id));

/** @typedef {import('./api.js').Answer} Answer */

/** @type {Answer} */
const CANCELLED = { status: 0, ok: false, body: { error: 'cancelled' }, at: 0 };

/** Signs a panel's client in, with the second factor where there is one. @param {Panel} panel @returns {Promise<Answer>} */
async function signIn(panel) {
  const json = { client_id: panel.clientId, username: input('username').value, password: input('password').value };
  const cookie = panel.kind === 'cookie';
  const answer = await call('POST', '/v1/session', { json, cookie });
  if (answer.body?.error !== 'second_factor_required') return answer;
  return secondFactor(answer.body, cookie);
}

/** @param {{ challenge: string, factors: { factor: string, hint?: string }[] }} required @param {boolean} cookie @returns {Promise<Answer>} */
function secondFactor(required, cookie) {
  const dialog = /** @type {HTMLDialogElement} */ (byId('factor'));
  const form = /** @type {HTMLFormElement} */ (byId('factor-form'));
  /** @param {string} text @param {'good' | 'bad'} [mood] */
  const say = (text, mood = 'bad') => {
    byId('factor-says').textContent = text;
    byId('factor-says').className = `says ${mood}`;
  };
  byId('factor-hint').textContent = required.factors.find((f) => f.factor === 'phone')?.hint ?? '';
  say('');
  input('factor-code').value = '';
  forgetNewest();
  void showOutbox();
  dialog.showModal();
  return new Promise((resolve) => {
    let asking = false;
    /** @param {Answer} answer */
    const finish = (answer) => {
      form.onsubmit = null;
      dialog.onclose = null;
      byId('factor-resend').onclick = null;
      dialog.close();
      resolve(answer);
    };
    // An answer that is under way may have started the session: then it counts, not the closing.
    dialog.onclose = () => asking || finish(CANCELLED);
    byId('factor-cancel').onclick = () => dialog.close();
    byId('factor-resend').onclick = async () => {
      const answer = await call('POST', '/v1/session/factor/resend', { json: { challenge: required.challenge }, cookie });
      say(answer.ok ? 'Sent again.' : problem(answer), answer.ok ? 'good' : 'bad');
      void showOutbox();
    };
    form.onsubmit = async (event) => {
      event.preventDefault();
      if (asking) return;
      const code = input('factor-code').value.trim();
      const factor = /^[0-9 ]{6,7}$/.test(code) ? 'phone' : 'recovery_code';
      const json = { challenge: required.challenge, factor, code: factor === 'phone' ? code.replace(' ', '') : code };
      asking = true;
      const answer = await call('POST', '/v1/session/factor', { json, cookie });
      asking = false;
      if (answer.ok || answer.body?.error === 'invalid_challenge') finish(answer);
      else if (!dialog.open) finish(CANCELLED);
      else say(problem(answer));
    };
  });
}

/** @param {number} seconds */
async function advance(seconds) {
  const answer = await call('POST', '/dev/clock', { json: { advance: seconds } });
  if (answer.ok) setNow(answer.body.now);
  showStatus(answer);
}

/** Says at the top when the authority cannot be asked, until it can again. @param {Answer} answer */
function showStatus(answer) {
  const text = answer.ok ? '' : problem(answer);
  if (byId('status').textContent !== text) byId('status').textContent = text;
}

async function start() {
  const answer = await call('GET', '/dev/config.json');
  if (!answer.ok) {
    showStatus(answer);
    return;
  }
  const { issuer, user, clients, now: time } = answer.body;
  setNow(time);
  byId('issuer').textContent = issuer;
  input('username').value = user.username;
  input('password').value = user.password;

  const kinds = /** @type {const} */ (['sliding', 'fixed', 'refresh', 'cookie']);
  const panels = kinds.map((kind) => new Panel(kind, clients[kind].client_id, signIn));
  byId('panels').replaceChildren(...panels.map((p) => p.root));
  const account = new Account(panels);

  // A cookie session outlives a reload; the tokens of the others lived in this page only.
  const cookie = panels[3];
  const session = await call('GET', '/v1/session', { cookie: true });
  if (session.ok && cookie) cookie.adopt({ ...session, body: { session: session.body } });
  await account.show();
  await showOutbox();

  for (const button of document.querySelectorAll('button[data-advance]')) {
    const seconds = Number(button.getAttribute('data-advance'));
    button.addEventListener('click', async () => {
      await advance(seconds);
      tick();
      await Promise.all(panels.map((p) => p.look()));
    });
  }
  const tick = () => {
    byId('clock').textContent = new Date(now() * 1000).toLocaleTimeString();
    for (const panel of panels) panel.tick();
  };
  tick();
  setInterval(tick, 1000);
  setInterval(() => {
    if (document.hidden) return;
    void showOutbox().then(showStatus);
    for (const panel of panels) void panel.look();
  }, 3000);
  byId('status').textContent = '';
  document.documentElement.classList.add('ready');
}

void start();
