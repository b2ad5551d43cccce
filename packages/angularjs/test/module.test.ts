// The minified module in Chromium, with the real $http, against the real authority.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { build, type BuildOptions } from 'esbuild';
import type { Page } from 'playwright-core';
import { forge, repository, startStage, type Stage } from '../../tools/stage.js';
import type { PageOptions, PageWindow } from './page.js';

declare const window: Window & PageWindow;

const root = repository(import.meta.url);
const folder = join(root, 'packages/angularjs');
/** Of the user that development mode makes. */
const NAME = 'Demo User';
let stage: Stage;
let page: Page;

before(async () => {
  const angular = readFileSync(createRequire(import.meta.url).resolve('angular/angular.js'), 'utf8');
  const app = await bundle({ entryPoints: [join(folder, 'test/page.ts')] });
  const asScript = await bundle({ entryPoints: [join(folder, 'src/global.ts')], globalName: 'ResealAngularJS' });
  const asModule = await bundle({
    stdin: {
      contents: `import reseal from '../src/index.ts'; window.moduleName = reseal; import './page.ts';`,
      resolveDir: join(folder, 'test'),
    },
  });
  stage = await startStage(root, {
    '/script.js': `${angular}\n${asScript}\n${app}`,
    '/module.js': asModule,
    '/alone.js': asScript,
  });
});
after(() => stage?.stop());
beforeEach(() => void (stage && stage.seen.splice(0)));

async function bundle(options: BuildOptions): Promise<string> {
  const { outputFiles } = await build({ bundle: true, format: 'iife', minify: true, write: false, ...options });
  return outputFiles![0]!.text;
}

type Kind = 'sliding' | 'fixed' | 'refresh' | 'cookie';

async function open(mode: Kind, more: Partial<PageOptions> = {}, script = 'script.js'): Promise<Page> {
  page = await stage.open(script, { mode, clientId: stage.dev.clients[mode].client_id, ...more });
  return page;
}

async function signedIn(mode: Kind, more: Partial<PageOptions> = {}, script?: string): Promise<Page> {
  await open(mode, more, script);
  const result = await page.evaluate(async (user) => window.page.reseal.login(user), stage.dev.user);
  assert.equal(result.status, 'signed_in');
  await page.waitForFunction(() => window.page.heard.some(({ event }) => event === 'signedin'));
  return page;
}

/** `$http` as a test likes it: what came, whatever it was. */
const call = (config: object) =>
  page.evaluate(
    async (config) =>
      window.page.$http(config as never).then(
        ({ status, data, xhrStatus }) => ({
          status,
          data: data as Record<string, unknown>,
          xhrStatus,
          error: undefined,
        }),
        ({ status, data, xhrStatus, error }) => ({
          status,
          data: data as Record<string, unknown>,
          xhrStatus,
          error: error?.code as string,
        }),
      ),
    config,
  );

/** Counts calls to the authority from here on. */
function calls(path: string): () => number {
  let n = 0;
  page.on('request', (request) => {
    if (request.method() === 'POST' && request.url() === stage.issuer + path) n += 1;
  });
  return () => n;
}

const shown = (text: string) =>
  page.waitForFunction((text) => document.querySelector('main')!.textContent!.trim() === text, text);
const to = (path: string) => stage.seen.filter((request) => request.path === path);
const intercepted = () => page.evaluate(async () => window.page.intercepted);

test('a module that is not configured says how to', async () => {
  await open('refresh', { forgotten: true });
  assert.match(await page.evaluate(async () => window.failure ?? ''), /resealProvider\.configure\(/);
  await page.close();
});

test('the script needs AngularJS before it', async () => {
  await open('refresh', {}, 'alone.js');
  const complaint = page.waitForEvent('pageerror');
  await page.reload();
  assert.match((await complaint).message, /must come before/);
  await page.close();
});

for (const script of ['script.js', 'module.js']) {
  test(`after a login the template shows the user, and $http sends the token (${script})`, async () => {
    await signedIn('refresh', {}, script);
    await shown(NAME);
    const { status, data } = await call({ url: 'api/me', method: 'GET' });
    assert.deepEqual([status, data.name], [200, NAME]);
    const heard = await page.evaluate(async () => window.page.heard);
    assert.deepEqual(
      heard.map(({ event, digest }) => [event, digest]),
      [['signedin', true]],
    );
    assert.equal((heard[0]!.detail.user as { name: string }).name, NAME);
    // No token stays in what an app may log.
    assert.equal((await intercepted()).authorization, 0);
    assert.deepEqual(await page.evaluate(async () => window.page.errors), []);
    await page.close();
  });
}

test('the importer gets the name of the module', async () => {
  await open('refresh', {}, 'module.js');
  assert.equal(await page.evaluate(async () => (window as unknown as { moduleName: string }).moduleName), 'reseal');
  await page.close();
});

test('templates, foreign origins, `reseal: false` and a credential of the caller go out untouched', async () => {
  await signedIn('refresh');
  await page.evaluate(async () => window.page.$templateRequest('template.html'));
  await call({ url: `${stage.foreign}/api`, method: 'GET' });
  await call({ url: 'api/never', method: 'GET', reseal: false });
  await call({ url: 'api/forbidden', method: 'GET', headers: { AUTHORIZATION: 'Basic Zm9vOmJhcg==' } });
  const seen = stage.seen.map(({ path, token }) => [path, token !== null]);
  assert.deepEqual(seen, [
    ['/template.html', false],
    ['/api', false],
    ['/api/never', false],
    ['/api/forbidden', true],
  ]);
  await page.close();
});

test('the URL that counts is the one after the interceptors of the app', async () => {
  await signedIn('refresh', { prefix: stage.foreign });
  assert.equal((await call({ url: '~/api', method: 'GET' })).status, 200);
  assert.deepEqual(
    stage.seen.map(({ path, token }) => [path, token]),
    [['/api', null]],
  );
  await page.close();
});

test('50 requests with a token that has expired: one renewal, each is sent twice, and the app sees 50 answers', async () => {
  await signedIn('refresh', { prefix: '/api' });
  const renewals = calls('/oauth/token');
  await stage.advance(400);
  const answers = await page.evaluate(async () =>
    Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        window.page.$http
          .post('~/me', { n })
          .then(({ status, data }) => [status, JSON.parse((data as { body: string }).body).n]),
      ),
    ),
  );
  assert.deepEqual(
    answers,
    Array.from({ length: 50 }, (_, n) => [200, n]),
  );
  assert.equal(renewals(), 1);
  assert.equal(to('/api/me').length, 100);
  const { requests, statuses, authorization } = await intercepted();
  assert.equal(requests, 50);
  assert.equal(authorization, 0, 'nor does the second time leave a token behind');
  assert.deepEqual(statuses, Array(50).fill(200));
  assert.deepEqual(await page.evaluate(async () => window.page.$http.pendingRequests), []);
  assert.deepEqual(await page.evaluate(async () => window.page.errors), []);
  await page.close();
});

test('a service that answers 401 for ever is asked twice', async () => {
  await signedIn('refresh');
  const renewals = calls('/oauth/token');
  // A token of the same second is no newer one.
  await stage.advance(2);
  const { status, data } = await call({ url: 'api/never', method: 'GET' });
  assert.deepEqual([status, data.error], [401, 'invalid_token']);
  assert.equal(to('/api/never').length, 2);
  assert.equal(renewals(), 1);
  assert.deepEqual((await intercepted()).statuses, [401]);
  // A token that was made this moment and is refused: that is the end of it.
  await shown('');
  await page.close();
});

test('a token that came from elsewhere, by a redirect, is not adopted', async () => {
  await signedIn('refresh');
  const planted = forge(await page.evaluate(async () => window.page.reseal.token()), { name: 'Mallory' });
  const to = `${stage.foreign}/?${new URLSearchParams({ plant: planted })}`;
  const { status } = await call({ url: 'api/away', method: 'GET', params: { to } });
  assert.equal(status, 200);
  assert.equal(await page.evaluate(async () => window.page.reseal.user!.name), NAME);
  assert.deepEqual(
    stage.seen.map(({ path, token }) => [path, token !== null]),
    [
      ['/api/away', true],
      ['/', false],
    ],
  );
  await page.close();
});

test('where somebody has decorated $http before, a renewal mends all the same', async () => {
  await signedIn('refresh', { decorated: true });
  await stage.advance(400);
  assert.equal((await call({ url: 'api/me', method: 'GET' })).status, 200);
  assert.equal(to('/api/me').length, 2);
  await page.close();
});

test('what an interceptor of the app rejects with comes as it is, though it be nothing', async () => {
  await signedIn('refresh');
  const reasons = await page.evaluate(async () => {
    const { $http, $q } = window.page;
    const outcome = (why: unknown) =>
      $http
        .get('api/never', {
          transformRequest: () => {
            throw why;
          },
        })
        .then(
          () => 'sent',
          (error) => error === why,
        );
    return $q.all([outcome(undefined), outcome('no'), outcome(null)]);
  });
  assert.deepEqual(reasons, [true, true, true]);
  await page.close();
});

test('the reason of a 401 is read whatever the type of the response', async () => {
  for (const how of [
    ...['blob', 'arraybuffer', 'json', ''].map((responseType) => ({ responseType })),
    // What an app does that parses by itself.
    { transformResponse: [] },
  ]) {
    await signedIn('refresh');
    // A token of the same second is no newer one.
    await stage.advance(2);
    stage.seen.splice(0);
    assert.equal((await call({ url: 'api/silent', method: 'GET', ...how })).status, 401);
    assert.equal(to('/api/silent').length, 2);
    await page.close();
  }
});

test('a storage that fails costs no answer', async () => {
  await signedIn('refresh');
  await page.evaluate(async () => {
    window.page.reseal.session.settle = () => Promise.reject(new Error('the disk is full'));
  });
  assert.equal((await call({ url: 'api/me', method: 'GET' })).status, 200);
  assert.equal((await call({ url: 'api/forbidden', method: 'GET' })).status, 403);
  await page.close();
});

test('a 403 renews nothing', async () => {
  await signedIn('refresh');
  const renewals = calls('/oauth/token');
  assert.equal((await call({ url: 'api/forbidden', method: 'GET' })).status, 403);
  assert.equal(to('/api/forbidden').length, 1);
  assert.equal(renewals(), 0);
  await page.close();
});

test('changed claims are in the template at once, and broadcast', async () => {
  await signedIn('refresh');
  await page.evaluate(async () => window.page.reseal.call('PATCH', '/v1/me', { name: 'Countess' }));
  await shown('Countess');
  const claims = await page.waitForFunction(() => window.page.heard.find(({ event }) => event === 'claims'));
  const { detail, digest } = (await claims.jsonValue())!;
  assert.equal((detail.user as { name: string }).name, 'Countess');
  assert.equal((detail.previous as { name: string }).name, NAME);
  assert.equal(digest, true);
  await page.evaluate(async (name) => window.page.reseal.call('PATCH', '/v1/me', { name }), NAME);
  await page.close();
});

test('a phone number that is turned on is in the template with the answer', async () => {
  await signedIn('refresh');
  const number = '+493012345678';
  const { challenge } = await page.evaluate(
    async (phone_number) => window.page.reseal.call<{ challenge: string }>('POST', '/v1/me/phone', { phone_number }),
    number,
  );
  const { recovery_codes, name } = await page.evaluate(
    async (step) => {
      const { reseal } = window.page;
      const answer = await reseal.call<{ recovery_codes: string[] }>('POST', '/v1/me/phone/verify', step);
      return { ...answer, name: document.querySelector('main')!.textContent!.trim() };
    },
    { challenge, code: await stage.code() },
  );
  assert.equal(recovery_codes.length, 10);
  assert.equal(name, `${NAME} ${number}`);
  await page.evaluate(async () => window.page.reseal.call('DELETE', '/v1/me/phone'));
  await shown(NAME);
  await page.close();
});

test('a token that came with an answer is the one that goes out next', async () => {
  await signedIn('sliding');
  const { status: before } = await call({ url: 'api/sliding', method: 'GET' });
  // Past half of its life, and far from its end.
  await stage.advance(700);
  const { status: renewing } = await call({ url: 'api/sliding', method: 'GET' });
  const { status: later } = await call({ url: 'api/sliding', method: 'GET' });
  assert.deepEqual([before, renewing, later], [200, 200, 200]);
  const tokens = to('/api/sliding').map(({ token }) => token);
  assert.equal(tokens[0], tokens[1]);
  assert.notEqual(tokens[1], tokens[2]);
  await page.waitForFunction(() => window.page.heard.some(({ event }) => event === 'renewed'));
  await page.close();
});

test('a timeout counts while a renewal is under way, and what was cancelled is not sent', async () => {
  await signedIn('refresh');
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  await page.route(`${stage.issuer}/oauth/token`, async (route) => {
    await held;
    await route.continue().catch(() => {});
  });
  await page.evaluate(async () => void window.page.reseal.renew().catch(() => {}));
  await stage.advance(400);
  // The first one finds the token dead; what follows waits for the renewal.
  const first = call({ url: 'api/me', method: 'GET', timeout: 1500 });
  assert.equal((await first).xhrStatus, 'timeout');
  stage.seen.splice(0);
  const statuses = await page.evaluate(async () => {
    const { $http, $q, $timeout, reseal } = window.page;
    const cancelled = $q.defer<void>();
    const outcome = (timeout: unknown) =>
      $http.get('api/late', { timeout } as never).then(
        () => 'sent',
        ({ status, xhrStatus }) => `${status} ${xhrStatus}`,
      );
    // As if the clock had told it that the token is over.
    reseal.session.prepare = () => new Promise(() => {});
    const all = $q.all([outcome(50), outcome(cancelled.promise), outcome($timeout(50))]);
    cancelled.resolve();
    return all;
  });
  assert.deepEqual(statuses, ['-1 timeout', '-1 abort', '-1 timeout']);
  assert.equal(to('/api/late').length, 0);
  release();
  await page.close();
});

test('a request that cannot get a token fails as a response without a status', async () => {
  await signedIn('refresh');
  await page.route(`${stage.issuer}/**`, (route) => route.abort());
  await stage.advance(400);
  const answer = await page.evaluate(async () => {
    const { reseal, $http } = window.page;
    reseal.session.prepare = () => Promise.reject(Object.assign(new Error('away'), { code: 'unavailable' }));
    return $http.get('api/me').catch(({ status, data, statusText, xhrStatus, error, headers }) => ({
      status,
      data,
      statusText,
      xhrStatus,
      code: error.code,
      header: headers('x'),
    }));
  });
  assert.deepEqual(answer, {
    status: -1,
    data: null,
    statusText: 'away',
    xhrStatus: 'error',
    code: 'unavailable',
    header: null,
  });
  assert.deepEqual((await intercepted()).statuses, [-1]);
  await page.close();
});

test('requireSignedIn: the user, or why there is none', async () => {
  await open('refresh');
  const required = () =>
    page.evaluate(async () =>
      window.page.reseal.requireSignedIn().then(
        (user) => ({ name: user.name, code: undefined, reason: undefined }),
        ({ code, reason }) => ({ name: undefined, code: code as string, reason: reason as string | undefined }),
      ),
    );
  assert.deepEqual(await required(), { name: undefined, code: 'signed_out', reason: undefined });
  await page.evaluate(async (user) => window.page.reseal.login(user), stage.dev.user);
  assert.equal((await required()).name, NAME);
  // An authority that is away signs nobody out.
  await page.evaluate(async () => {
    const { session } = window.page.reseal;
    const { token } = session;
    session.token = () => {
      session.token = token;
      return Promise.reject(Object.assign(new Error('away'), { code: 'unavailable' }));
    };
  });
  assert.equal((await required()).name, NAME);
  const asked = await page.evaluate(async () => !String(window.page.reseal.session.token).includes('away'));
  assert.ok(asked, 'a good token was asked for');
  // Ended elsewhere. This page learns of it as soon as it renews.
  const id = await page.evaluate(async () => window.page.reseal.info!.id);
  await endElsewhere(id);
  await page.evaluate(async () => window.page.reseal.renew().catch(() => {}));
  assert.deepEqual(await required(), { name: undefined, code: 'signed_out', reason: 'revoked' });
  await shown('');
  const heard = await page.evaluate(async () => window.page.heard.at(-1));
  assert.deepEqual([heard!.event, heard!.detail.reason, heard!.digest], ['signedout', 'revoked', true]);
  await page.close();
});

async function endElsewhere(id: string): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ client_id: stage.dev.clients.fixed.client_id, ...stage.dev.user });
  const login = await fetch(`${stage.issuer}/v1/session`, { method: 'POST', headers, body });
  const { access_token } = (await login.json()) as { access_token: string };
  const ended = await fetch(`${stage.issuer}/v1/sessions/${id}`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${access_token}` },
  });
  assert.equal(ended.status, 204);
}

test('with a cookie $http sends it to the authority, and script has no token', async () => {
  await signedIn('cookie');
  await shown(NAME);
  const { status, data } = await call({ url: `${stage.issuer}/v1/me`, method: 'GET' });
  assert.deepEqual([status, data.name], [200, NAME]);
  assert.equal(
    await page.evaluate(async () =>
      window.page.reseal.token().then(
        () => '',
        ({ code }) => code,
      ),
    ),
    'no_token',
  );
  assert.equal(await page.evaluate(async () => window.page.reseal.requireSignedIn().then(({ name }) => name)), NAME);
  await page.close();
});

test('signing out empties the template', async () => {
  await signedIn('refresh');
  await shown(NAME);
  await page.evaluate(async () => window.page.reseal.signOut());
  await shown('');
  assert.deepEqual(await page.evaluate(async () => window.page.heard.map(({ event }) => event)), [
    'signedin',
    'signedout',
  ]);
  const { status } = await call({ url: 'api/me', method: 'GET' });
  assert.equal(status, 401);
  assert.deepEqual(
    to('/api/me').map(({ token }) => token),
    [null],
  );
  await page.close();
});

test('the session ends its work with $rootScope', async () => {
  await signedIn('refresh');
  const disposed = await page.evaluate(async () => {
    let disposed = 0;
    window.page.reseal.session.dispose = () => void (disposed += 1);
    const injector = (
      window as never as { angular: { element(e: Element): { injector(): { get(n: string): { $destroy(): void } } } } }
    ).angular
      .element(document.body)
      .injector();
    injector.get('$rootScope').$destroy();
    return disposed;
  });
  assert.equal(disposed, 1);
  await page.close();
});
