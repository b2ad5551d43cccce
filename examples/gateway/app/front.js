// Turns on the second factor: the first-party API is on this very origin, and the cookie goes along by itself.

const phone = /** @type {HTMLFormElement} */ (document.querySelector('#phone'));
const code = /** @type {HTMLFormElement} */ (document.querySelector('#code'));
const says = /** @type {HTMLElement} */ (document.querySelector('#says'));
let challenge = '';

/**
 * @param {string} path
 * @param {Record<string, unknown>} body
 */
async function post(path, body) {
  const answer = await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
  const json = await answer.json();
  if (!answer.ok) throw new Error(json.error_description);
  return json;
}

/**
 * Runs `work` when the form is sent, and says what went wrong.
 * @param {HTMLFormElement} form
 * @param {(fields: FormData) => Promise<void>} work
 */
function whenSent(form, work) {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    says.textContent = '';
    work(new FormData(form)).catch((error) => {
      says.textContent = error.message;
    });
  });
}

whenSent(phone, async (fields) => {
  ({ challenge } = await post('/v1/me/phone', { phone_number: fields.get('phone_number') }));
  code.hidden = false;
  says.textContent = 'The code is on its way.';
});

whenSent(code, async (fields) => {
  await post('/v1/me/phone/verify', { challenge, code: fields.get('code') });
  location.reload();
});
