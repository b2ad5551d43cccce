// The built package in Chromium against the real authority: with Angular 22 without zone.js, and with Angular 21 under it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { build, type Plugin } from 'esbuild';
import type { Page } from 'playwright-core';
import { forge, repository, startStage, type Stage } from '../../tools/stage.js';
import type { PageOptions, PageWindow } from './page.js';

declare const window: Window & PageWindow;

const root = repository(import.meta.url);
const folder = join(root, 'packages/angular');
const VERSIONS = [
  { name: 'Angular 22', script: 'angular22.js', modules: folder, zone: false },
  { name: 'Angular 21 under zone.js', script: 'angular21.js', modules: join(folder, 'test/angular21'), zone: true },
];
/** Of the user that development mode makes. */
const NAME = 'Demo User';
let stage: Stage;
let page: Page;

before(async () => {
  const files: Record<string, string> = {};
  for (const { script, modules, zone } of VERSIONS) files[`/${script}`] = await bundle(modules, zone);
  stage = await startStage(root, files);
});
after(() => stage?.stop());

/** The app with the Angular that is installed in `modules`, and our package as others get it. */
async function bundle(modules: string, zone: boolean): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [join(folder, 'test/page.ts')],
    bundle: true,
    minify: true,
    format: 'iife',
    // zone.js sees `await` only where it is compiled to what it can patch.
    target: zone ? 'es2016' : 'es2022',
    write: false,
    plugins: [from(modules)],
    tsconfigRaw: { compilerOptions: { experimentalDecorators: true, useDefineForClassFields: false } },
  });
  const app = outputFiles![0]!.text;
  return zone ? readFileSync(join(modules, 'node_modules/zone.js/bundles/zone.umd.min.js'), 'utf8') + app : app;
}

function from(modules: string): Plugin {
  const { exports } = JSON.parse(readFileSync(join(folder, 'dist/package.json'), 'utf8')) as {
    exports: Record<string, { default: string }>;
  };
  return {
    name: 'angular',
    setup({ onResolve, resolve }) {
      onResolve({ filter: /^(@angular\/|rxjs)/ }, ({ path, kind, pluginData }) =>
        pluginData === 'again' ? undefined : resolve(path, { kind, resolveDir: modules, pluginData: 'again' }),
      );
      onResolve({ filter: /^@reseal\/angular/ }, ({ path }) => ({
        path: join(folder, 'dist', exports[path.replace('@reseal/angular', '.')]!.default),
      }));
    },
  };
}

for (const { name, script, zone } of VERSIONS) describe(name, () => suite(script, zone));

type Kind = 'sliding' | 'fixed' | 'refresh' | 'cookie';

function suite(script: string, zone: boolean): void {
  async function open(mode: Kind, more: Partial<PageOptions> = {}): Promise<void> {
    stage.seen.splice(0);
    page = await stage.open(script, { mode, clientId: stage.dev.clients[mode]!.client_id, ...more });
    await page.waitForFunction(() => window.page ?? window.failure);
  }

  async function signedIn(mode: Kind, more: Partial<PageOptions> = {}): Promise<void> {
    await open(mode, more);
    const result = await page.evaluate((user) => window.page.login(user), stage.dev.user);
    assert.equal(result.status, 'signed_in');
  }

  const call = (...args: Parameters<PageWindow['page']['call']>) =>
    page.evaluate((args) => window.page.call(...args), args);
  const shown = (text: string) =>
    page.waitForFunction((text) => document.querySelector('main')!.textContent!.trim() === text, text);
  const to = (path: string) => stage.seen.filter((request) => request.path === path);

  test('without provideReseal it says what is missing', async () => {
    await open('refresh', { forgotten: true });
    assert.match(await page.evaluate(() => window.failure ?? ''), /Add provideReseal\(/);
    await page.close();
  });

  test('the template follows the session, and HttpClient sends the token', async () => {
    await open('refresh');
    assert.equal(await page.evaluate(() => 'Zone' in window), zone);
    await shown('nobody');
    await page.evaluate((user) => window.page.login(user), stage.dev.user);
    await shown(NAME);
    assert.equal(await page.evaluate(() => window.page.reseal.signedIn()), true);
    // A renewal that lies ahead is nothing that Angular waits for.
    await page.waitForFunction(() => window.page.stable);
    const { status, body } = await call('GET', 'api/me');
    assert.deepEqual([status, body.name], [200, NAME]);
    const [left, ends, now, info] = await page.evaluate(() => {
      const { secondsLeft, reseal } = window.page;
      return [secondsLeft(), reseal.expiresAt(), reseal.session.now(), reseal.info()!];
    });
    assert.equal(info.kind, 'refresh');
    assert.equal(ends, Math.min(info.expires_at, info.idle_expires_at!));
    assert.ok(Math.abs(left! - (ends! - now)) <= 2);
    await page.evaluate(() => window.page.reseal.session.signOut());
    await shown('nobody');
    assert.equal(await page.evaluate(() => window.page.reseal.endedBecause()), 'signed_out');
    // The call came from outside of Angular's zone, and its listeners are in it.
    assert.deepEqual(await page.evaluate(() => window.page.heard.map(({ event, inZone }) => [event, inZone])), [
      ['signedin', zone],
      ['signedout', zone],
    ]);
    assert.equal((await call('GET', 'api/me')).status, 401);
    assert.deepEqual(
      to('/api/me').map(({ token }) => token !== null),
      [true, false],
    );
    await page.evaluate((user) => window.page.login(user), stage.dev.user);
    assert.equal(await page.evaluate(() => window.page.reseal.endedBecause()), null);
    await page.close();
  });

  test('foreign origins, withoutReseal() and a credential of the caller go out untouched', async () => {
    await signedIn('refresh');
    await call('GET', `${stage.foreign}/api`);
    await call('GET', 'api/never', { untouched: true });
    await call('GET', 'api/forbidden', { headers: { Authorization: 'Basic Zm9vOmJhcg==' } });
    assert.deepEqual(
      stage.seen.map(({ path, token }) => [path, token !== null]),
      [
        ['/api', false],
        ['/api/never', false],
        ['/api/forbidden', true],
      ],
    );
    await page.close();
  });

  test('50 requests with a token that has expired: one renewal, each is sent twice, others see 50 answers', async () => {
    await signedIn('refresh');
    const renewals = calls('/oauth/token');
    await stage.advance(400);
    const answers = await page.evaluate(() =>
      Promise.all(Array.from({ length: 50 }, (_, n) => window.page.call('POST', 'api/me', { body: { n } }))),
    );
    assert.deepEqual(
      answers.map(({ status, body }) => [status, JSON.parse(body.body as string).n]),
      Array.from({ length: 50 }, (_, n) => [200, n]),
    );
    assert.equal(renewals(), 1);
    assert.equal(to('/api/me').length, 100);
    assert.deepEqual(await page.evaluate(() => window.page.statuses), Array(50).fill(200));
    await page.close();
  });

  test('a service that answers 401 for ever is asked twice, whatever the type of the response', async () => {
    for (const responseType of ['json', 'text', 'blob', 'arraybuffer']) {
      await signedIn('refresh');
      // A token of the same second is no newer one.
      await stage.advance(2);
      assert.equal((await call('GET', 'api/silent', { responseType })).status, 401);
      assert.equal(to('/api/silent').length, 2);
      // A token that was made this moment and is refused: that is the end of it.
      await shown('nobody');
      await page.close();
    }
  });

  test('a token that came from elsewhere, by a redirect, is not adopted', async () => {
    await signedIn('refresh');
    const planted = forge(await page.evaluate(() => window.page.reseal.session.token()), { name: 'Mallory' });
    const to = `${stage.foreign}/?${new URLSearchParams({ plant: planted })}`;
    assert.equal((await call('GET', `api/away?${new URLSearchParams({ to })}`)).status, 200);
    assert.equal(await page.evaluate(() => window.page.reseal.user()!.name), NAME);
    assert.deepEqual(
      stage.seen.map(({ path, token }) => [path, token !== null]),
      [
        ['/api/away', true],
        ['/', false],
      ],
    );
    await page.close();
  });

  test('a storage that fails costs no answer', async () => {
    await signedIn('refresh');
    await page.evaluate(() => {
      window.page.reseal.session.settle = () => Promise.reject(new Error('the disk is full'));
    });
    assert.equal((await call('GET', 'api/me')).status, 200);
    assert.equal((await call('GET', 'api/forbidden')).status, 403);
    await page.close();
  });

  test('a 403 renews nothing', async () => {
    await signedIn('refresh');
    const renewals = calls('/oauth/token');
    assert.equal((await call('GET', 'api/forbidden')).status, 403);
    assert.deepEqual([to('/api/forbidden').length, renewals()], [1, 0]);
    await page.close();
  });

  test('changed claims are in the signals at once', async () => {
    await signedIn('refresh');
    const seen = await page.evaluate(async () => {
      const { session, user } = window.page.reseal;
      await session.call('PATCH', '/v1/me', { name: 'Countess' });
      return user()!.name;
    });
    assert.equal(seen, 'Countess');
    await shown('Countess');
    assert.deepEqual(
      await page.evaluate(() =>
        window.page.heard.map(({ event, name }) => `${event} ${name}`).filter((text) => text.startsWith('claims')),
      ),
      ['claims Countess'],
    );
    await page.evaluate((name) => window.page.reseal.session.call('PATCH', '/v1/me', { name }), NAME);
    await page.close();
  });

  test('a token that came with an answer is the one that goes out next, and moves the end', async () => {
    await signedIn('sliding');
    const end = await page.evaluate(() => window.page.reseal.expiresAt()!);
    await call('GET', 'api/sliding');
    // Past half of its life, and far from its end.
    await stage.advance(700);
    await call('GET', 'api/sliding');
    await call('GET', 'api/sliding');
    const tokens = to('/api/sliding').map(({ token }) => token);
    assert.equal(tokens[0], tokens[1]);
    assert.notEqual(tokens[1], tokens[2]);
    await page.waitForFunction((end) => window.page.reseal.expiresAt()! > end, end);
    await page.close();
  });

  test('what is cancelled before its token is there is not sent', async () => {
    await signedIn('refresh');
    await page.evaluate(() => window.page.cancel('api/cancelled'));
    await call('GET', 'api/me');
    assert.deepEqual(
      stage.seen.map(({ path }) => path),
      ['/api/me'],
    );
    await page.close();
  });

  test('a request that cannot get a token fails as one without an answer', async () => {
    await signedIn('refresh');
    const outcome = await page.evaluate(() => {
      window.page.reseal.session.prepare = () =>
        Promise.reject(Object.assign(new Error('away'), { code: 'unavailable' }));
      return window.page.call('GET', 'api/me');
    });
    assert.deepEqual([outcome.status, outcome.code], [0, 'unavailable']);
    await page.close();
  });

  test('the guard leads to the sign-in page and back, and lets users pass', async () => {
    await open('refresh');
    const go = (path: string) => page.evaluate((path) => window.page.go(path), path);
    assert.equal(await go('/hidden'), '/');
    assert.equal(await go('/private?a=1'), '/sign-in?from=guard&returnTo=%2Fprivate%3Fa%3D1');
    await page.evaluate((user) => window.page.login(user), stage.dev.user);
    assert.equal(await go('/private?a=1'), '/private?a=1');
    assert.equal(await go('/hidden'), '/hidden');
    // An authority that is away signs nobody out.
    await page.evaluate(() => {
      window.page.reseal.session.token = () =>
        Promise.reject(Object.assign(new Error('away'), { code: 'unavailable' }));
    });
    assert.equal(await go('/private'), '/private');
    await page.close();
  });

  test('with a cookie HttpClient sends it to the authority, and script has no token', async () => {
    await signedIn('cookie');
    await shown(NAME);
    const { status, body } = await call('GET', `${stage.issuer}/v1/me`);
    assert.deepEqual([status, body.name], [200, NAME]);
    assert.equal(
      await page.evaluate(() =>
        window.page.reseal.session.token().then(
          () => '',
          ({ code }) => code as string,
        ),
      ),
      'no_token',
    );
    assert.equal(await page.evaluate(() => window.page.go('/private')), '/private');
    await page.close();
  });

  test('the session ends its work with the app', async () => {
    await signedIn('refresh');
    await page.evaluate(() => window.page.destroy());
    const late = await page.evaluate(() =>
      window.page.reseal.session.token().then(
        () => 'token',
        () => 'refused',
      ),
    );
    assert.equal(late, 'refused');
    await page.close();
  });
}

/** Counts calls to the authority from here on. */
function calls(path: string): () => number {
  let n = 0;
  page.on('request', (request) => {
    if (request.method() === 'POST' && request.url() === stage.issuer + path) n += 1;
  });
  return () => n;
}
