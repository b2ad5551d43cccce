// What a script adds to the hosted pages. Everything works without it.

import { Dial } from './dial.js';
import { clock, exact } from './words.js';

// No form is sent twice by a second click; back in the page from the next one, it can be sent again.
for (const form of document.querySelectorAll('form')) {
  form.addEventListener('submit', (event) => {
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = 'yes';
    form.querySelector('button')?.setAttribute('aria-disabled', 'true');
  });
}
addEventListener('pageshow', () => {
  for (const form of document.querySelectorAll('form')) {
    delete form.dataset.sent;
    form.querySelector('button')?.removeAttribute('aria-disabled');
  }
});

// Times as they are here, the exact one on hover.
for (const time of document.querySelectorAll('time')) {
  const at = Date.parse(time.dateTime) / 1000;
  if (!Number.isFinite(at)) continue;
  time.textContent = clock(at, Date.now() / 1000);
  time.title = exact(at);
}

// The dial goes on by the authority's clock.
const face = document.querySelector('.face');
if (face instanceof HTMLElement) {
  const number = (/** @type {string} */ name) => Number(face.dataset[name]);
  const ahead = number('now') - Date.now() / 1000;
  const state = {
    idle: { from: number('renewedAt'), to: number('idleExpiresAt'), tick: number('renewAt') },
    absolute: { from: number('startedAt'), to: number('expiresAt') },
  };
  face.replaceChildren();
  const dial = new Dial(face);
  const show = () => dial.show(state, Math.floor(Date.now() / 1000 + ahead));
  show();
  setInterval(show, 1000);
}

document.documentElement.classList.add('ready');
