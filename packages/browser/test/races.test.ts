// Nobody is ever signed out by accident: tabs race in made-up orders of answers, each from a seed, against the model of
// the authority's rotation. Requests and answers are late, lost and doubled; tabs die, sleep and are opened.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SessionOptions } from '../src/types.js';
import { type Kit, type Page, kit } from './kit.js';
import type { Tab, TabOptions } from './world.js';

const ROUNDS = Number(process.env.RESEAL_ROUNDS ?? 40);
const STEPS = 60;

interface Weather {
  options: Partial<SessionOptions>;
  tab: Partial<TabOptions>;
  /** A new tab begins with a copy of another's sessionStorage. */
  copies?: boolean;
  /** Without locks a copy that sleeps in the midst of a renewal wakes up with a token that nobody else knows of. */
  sleepless?: boolean;
}

const weathers: Record<string, Weather> = {
  'local storage, with locks': { options: { storage: 'local' }, tab: {} },
  'local storage, without locks': { options: { storage: 'local' }, tab: { locks: false } },
  'local storage, with neither locks nor channels': {
    options: { storage: 'local' },
    tab: { locks: false, channels: false },
  },
  'duplicated tabs, with locks': { options: { storage: 'session' }, tab: {}, copies: true },
  'duplicated tabs, without locks': {
    options: { storage: 'session' },
    tab: { locks: false },
    copies: true,
    sleepless: true,
  },
  'one tab in memory': { options: { storage: 'memory' }, tab: {} },
  'sliding, local storage': { options: { storage: 'local', mode: 'sliding', keepAlive: 'open' }, tab: {} },
};

describe('races', { concurrency: false }, () => {
  for (const [name, weather] of Object.entries(weathers)) {
    test(name, async () => {
      for (let seed = 1; seed <= ROUNDS; seed++) {
        try {
          await round(seed, weather);
        } catch (error) {
          throw new Error(`seed ${seed}`, { cause: error });
        }
      }
    });
  }
});

async function round(seed: number, { options, tab, copies, sleepless }: Weather) {
  const it = kit(seed);
  const { world, model } = it;
  const random = world.random;
  let stormy = false;
  world.storageDelay = () => random() * 30;
  const fetch = (from: Tab, url: string, init: RequestInit) =>
    stormy ? storm(it, from, url, init) : model.fetch(url, init);

  const first = await it.login(options, { fetch, ...tab });
  let pages: Page[] = [first];
  const gone: Page[] = [];
  const alone = options.storage === 'memory';
  stormy = true;
  for (let step = 0; step < STEPS; step++) {
    const page = pages[Math.floor(random() * pages.length)]!;
    let dice = random();
    const ignore = (promise: Promise<unknown>) => void promise.catch(() => {});
    // What sleeps does nothing until it is woken.
    const awake = pages.filter(({ tab }) => !tab.asleep);
    if (page.tab.asleep && dice < 0.88) dice = 0.9;
    if (dice < 0.3) ignore(page.session.token());
    else if (dice < 0.5) for (const each of awake) ignore(each.session.renew());
    else if (dice < 0.65) ignore(page.session.fetch('/api'));
    else if (dice < 0.7) ignore(page.session.call('PATCH', '/v1/me', { name: `n${step}` }));
    else if (dice < 0.8 && !alone && pages.length < 3) {
      const from = copies ? { copyOf: page.tab } : {};
      pages.push(it.open(options, { fetch, ...tab, ...from }));
    } else if (dice < 0.88 && pages.length > 1 && (!copies || awake.length === pages.length)) {
      // With sessionStorage the newest token is with the tabs that were awake; if all of them die, it is lost.
      page.tab.kill();
      gone.push(page);
      pages = pages.filter((other) => other !== page);
    } else if (dice < 0.94 && !sleepless) {
      page.tab.asleep = !page.tab.asleep;
    } else {
      for (const each of pages) each.tab.asleep = false;
      page.tab.fire('visibilitychange');
    }
    await world.pass(random() < 0.5 ? random() * 3 : random() * 120);
  }
  stormy = false;
  for (const { tab } of pages) {
    tab.asleep = false;
    tab.fire('online');
  }
  await world.pass(120);

  for (const { events } of [...pages, ...gone]) {
    assert.deepEqual(
      events.filter((event) => event.startsWith('signedout')),
      [],
    );
  }
  for (const [id, row] of model.rows) assert.equal(row.ended, undefined, id);
  for (const { session } of pages) {
    assert.equal((await world.until(session.fetch('/api'))).status, 200);
  }
}

/** A network that is late, loses and doubles. No packet is older than the grace of the authority. */
async function storm({ world, model }: Kit, tab: Tab, url: string, init: RequestInit): Promise<Response> {
  const random = world.random;
  const wait = (ms: number, at?: Tab) => new Promise<void>((resolve) => world.after(ms, resolve, at));
  const late = () => (random() < 0.8 ? random() * 200 : random() * 4000);
  const fate = random();
  if (fate < 0.05) {
    await wait(late());
    throw new TypeError('Failed to fetch');
  }
  // The answer of the one that came first is lost; the tab sees that of its double.
  if (fate < 0.12) {
    const answer = (async () => (await wait(late()), model.fetch(url, init)))();
    await answer;
  }
  await wait(late());
  const answer = await model.fetch(url, init);
  await wait(late(), tab);
  if (fate > 0.92) throw new TypeError('Failed to fetch');
  // A dead tab hears nothing any more.
  if (tab.dead) return new Promise(() => {});
  return answer;
}
