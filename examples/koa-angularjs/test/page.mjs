// What a person does on the page, and reads from it.

import assert from 'node:assert/strict';

export const KINDS = ['sliding', 'fixed', 'refresh', 'cookie'];
export const NUMBER = '+4915112345678';

export const address = (kind, storage = 'local') => `/?keep=${kind}&storage=${storage}`;

export const button = (page, name) => page.getByRole('button', { name, exact: true });

export const dial = (page) => page.locator('.dial').getAttribute('aria-label');

/** Waits until the dial says something of this kind. */
export async function dialSays(page, pattern) {
  await page.waitForFunction(
    (source) => new RegExp(source).test(document.querySelector('.dial')?.getAttribute('aria-label') ?? ''),
    pattern.source,
  );
  return dial(page);
}

/** Waits for a line of the journal. */
export const heard = (page, text) => page.locator('.journal li', { hasText: text }).first().waitFor();

export async function signIn(page) {
  await page.locator('#desk').getByRole('button', { name: 'Sign in' }).click();
  await signedIn(page);
}

export const signedIn = (page) => button(page, 'Sign out').waitFor();

export const signedOut = (page) => page.locator('#desk').getByRole('button', { name: 'Sign in' }).waitFor();

/** The claim as the page shows it now. */
export const claim = (page, name) =>
  page.locator('#payload .claims div', { has: page.locator('dt', { hasText: new RegExp(`^${name}$`) }) }).locator('dd');

/** Waits until the payload shows this value, marked as changed if it has to be. */
export async function claimIs(page, name, value, { changed = false } = {}) {
  const place = claim(page, name)
    .locator(changed ? 'ins' : ':scope > *')
    .filter({ hasText: value });
  await place.first().waitFor();
  assert.equal((await place.first().textContent()).trim(), value);
}

/** Turns on the phone, with the code read off the phone on the page. */
export async function turnOnPhone(page) {
  const card = page.locator('#phone');
  await card.getByRole('button', { name: 'Send code' }).click();
  await card.getByLabel('Code', { exact: true }).waitFor();
  await useCode(page, card.getByLabel('Code', { exact: true }));
  await card.getByRole('button', { name: 'Verify' }).click();
  await card.getByText('It is on.').waitFor();
}

/** Presses the button of the newest message, once that is there, so that the code stands in the field. */
export async function useCode(page, field) {
  await field.waitFor();
  const newest = await page.evaluate(
    async () => (await (await fetch('/demo/messages')).json()).items.at(-1).text.match(/\d{6}/)[0],
  );
  await page
    .locator('.handset')
    .getByRole('button', { name: `Use ${newest}` })
    .click();
  assert.equal(await field.inputValue(), newest);
}
