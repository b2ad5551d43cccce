// The real authority, the real Koa app, and the real Chromium.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { createApp } from '../server/app.js';

const BINARY = process.env.RESEAL_BIN ?? fileURLToPath(new URL('../../../target/debug/reseal', import.meta.url));
const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);

/** An authority in development mode, on a free port and with a folder of its own. */
export async function startAuthority() {
  const folder = await mkdtemp(join(tmpdir(), 'reseal-shop-'));
  const data = join(folder, 'data');
  const child = spawn(BINARY, ['serve', '--dev', '--listen', '127.0.0.1:0', '--data', data], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const gone = new Promise((resolve) => child.once('exit', resolve));
  const first = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', resolve);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the authority ended with ${code}`)));
  });
  const devFile = join(data, 'dev.json');
  return {
    issuer: first.split(' ').at(-1),
    devFile,
    dev: JSON.parse(await readFile(devFile, 'utf8')),
    async stop() {
      child.kill('SIGTERM');
      await gone;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** An authority and the shop. Errors of the shop that nobody expects are kept. */
export async function startShop() {
  const authority = await startAuthority();
  const { issuer, dev } = authority;
  const shop = await createApp({ issuer, service: dev.clients.service, demo: dev.user, port: 0 }).catch(
    async (error) => {
      await authority.stop();
      throw error;
    },
  );
  const errors = [];
  shop.app.on('error', (error) => errors.push(error));
  return {
    ...{ authority, dev, issuer, errors, url: shop.url },
    async stop() {
      await shop.close();
      await authority.stop();
    },
  };
}

export function startBrowser() {
  const args = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ];
  return chromium.launch({ executablePath: CHROMIUM, args });
}

/** One browser of one person: cookies and storage of its own. `complaints`: what a console should not say. */
export async function startPerson(browser, shop, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: 'en-GB', ...options });
  context.setDefaultTimeout(60_000);
  const complaints = [];
  return {
    context,
    complaints,
    close: () => context.close(),
    /** @param {string} path such as `/?keep=sliding&storage=local` */
    async open(path) {
      const page = await context.newPage();
      page.on('pageerror', (error) => complaints.push(String(error)));
      page.on('console', (message) => {
        // The browser logs each answer with 4xx or 503; those are part of the game.
        if (
          ['error', 'warning'].includes(message.type()) &&
          !/the server responded with a status of (4|503)/.test(message.text())
        )
          complaints.push(message.text());
      });
      await page.goto(`${shop.url}${path}`);
      return page;
    },
  };
}

/** Saves what a person would see, where `RESEAL_SHOTS` names a folder. */
export async function shot(page, name) {
  await page.evaluate(() => window.scrollTo(0, 0));
  if (process.env.RESEAL_SHOTS)
    await page.screenshot({
      path: join(process.env.RESEAL_SHOTS, `${name}.png`),
      fullPage: true,
      animations: 'disabled',
    });
}
