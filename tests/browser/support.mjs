// The real binary in development mode, and the real Chromium.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const BINARY = process.env.RESEAL_BIN ?? '../../target/debug/reseal';
const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);

/** Starts an authority, on a free port with a folder of its own unless told otherwise; with this configuration, if any. */
export async function startAuthority({ folder, listen = '127.0.0.1:0', config } = {}) {
  folder ??= await mkdtemp(join(tmpdir(), 'reseal-page-'));
  const data = join(folder, 'data');
  const more = [];
  if (config) {
    more.push('--config', join(folder, 'reseal.toml'));
    await writeFile(more[1], config);
  }
  const places = [listen].flat().flatMap((place) => ['--listen', place]);
  const child = spawn(BINARY, ['serve', '--dev', ...places, '--data', data, ...more], { stdio: ['ignore', 'pipe', 'ignore'] });
  const lines = createInterface({ input: child.stdout });
  const first = await new Promise((resolve, reject) => {
    lines.once('line', resolve);
    child.once('exit', (code) => reject(new Error(`the authority ended with ${code}`)));
  });
  const issuer = first.split(' ').at(-1);
  const dev = JSON.parse(await readFile(join(data, 'dev.json'), 'utf8'));
  const end = async (signal) => {
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
  };
  return {
    issuer,
    dev,
    folder,
    /** Ends it at once; its folder stays. */
    kill: () => end('SIGKILL'),
    async stop() {
      await end('SIGTERM');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export function startBrowser() {
  return chromium.launch({
    executablePath: CHROMIUM,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

/** A page of the authority that notes whatever the console or the content security policy complains about. */
export async function openPage(browser, issuer, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    // An answer with 4xx is part of the game; the browser logs each.
    if (message.type() === 'error' && !message.text().includes('the server responded with a status of 4')) complaints.push(message.text());
  });
  await page.goto(issuer);
  await page.waitForSelector('html.ready');
  return { page, complaints, close: () => context.close() };
}

/** Saves what a person would see, where `RESEAL_SHOTS` names a folder. */
export async function shot(page, name) {
  if (process.env.RESEAL_SHOTS) await page.screenshot({ path: join(process.env.RESEAL_SHOTS, `${name}.png`), fullPage: true });
}
