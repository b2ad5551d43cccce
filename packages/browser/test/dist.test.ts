// What is published: the names of our own properties are shortened there, so the main ways are gone once more.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';
import type { create } from '../src/session.js';
import { kit } from './kit.js';
import { error } from './model.js';

const folder = new URL('../../', import.meta.url);
const { createSession } = (await import(new URL('dist/index.js', folder).href)) as { createSession: typeof create };

const right = { username: 'demo', password: 'right' };

for (const mode of ['refresh', 'sliding', 'fixed', 'cookie'] as const) {
  test(`${mode}: login, requests, renewal, change of the record, sign-out, in two tabs`, async () => {
    const { world, model, open, login } = kit(1, createSession);
    const options = { mode, ...(mode !== 'cookie' && { storage: 'local' as const }) };
    const a = await login(options);
    const b = open(options);
    await world.until(b.session.ready);
    assert.deepEqual([a.session.user!.name, b.session.user!.name, a.session.info!.kind], ['Demo', 'Demo', mode]);
    assert.ok(a.session.expiresAt! > a.session.now());
    await world.pass(700);
    assert.equal((await world.until(a.session.fetch('/api'))).status, 200);
    await world.until(b.session.renew());
    await world.pass(2);
    let refused = false;
    model.override = (call) =>
      call.path === '/api' && !refused ? ((refused = true), error(401, 'invalid_token')) : undefined;
    const body = new ReadableStream({ start: (controller) => controller.close() });
    const once = await world.until(a.session.fetch('/api', { method: 'POST', body, duplex: 'half' } as RequestInit));
    assert.equal(once.status, 401, 'a stream is not sent twice');
    model.override = undefined;
    await world.until(a.session.call('PATCH', '/v1/me', { name: 'Grace' }));
    await world.pass(2);
    assert.equal(b.session.user!.name, 'Grace');
    await world.until(b.session.signOut());
    await world.pass(2);
    assert.deepEqual([a.session.user, b.session.user], [null, null]);
    for (const { events } of [a, b]) assert.equal(events.filter((event) => event.startsWith('signedout')).length, 1);
    a.session.dispose();
  });
}

test('duplicated tabs, idle end, second factor', async () => {
  const { world, model, open, login } = kit(1, createSession);
  const a = await login({ storage: 'session' });
  const b = open({ storage: 'session' }, { copyOf: a.tab });
  await world.pass(1);
  await world.until(b.session.renew());
  await world.pass(1);
  assert.equal(await a.session.token(), await b.session.token());
  const idle = await login({ mode: 'sliding' });
  await world.pass(1300);
  assert.deepEqual(idle.events, ['signedin', 'expiring', 'signedout:idle_timeout']);
  model.secondFactor = true;
  assert.equal((await idle.session.login(right)).status, 'second_factor_required');
});

test('no shortened name is one of the platform, of the wire or of the public types', () => {
  const { reseal } = JSON.parse(readFileSync(new URL('package.json', folder), 'utf8')) as {
    reseal: { mangle: string[] };
  };
  const taken = new Set<string>();
  for (const name of Object.getOwnPropertyNames(globalThis)) {
    if (name === 'process') continue;
    const value = (globalThis as Record<string, unknown>)[name] as { prototype?: object } | undefined;
    for (const object of [value, value?.prototype]) {
      if (object && /function|object/.test(typeof object))
        Object.getOwnPropertyNames(object).forEach((own) => taken.add(own));
    }
  }
  const source = ['types.ts', 'channel.ts', 'error.ts']
    .map((file) => readFileSync(new URL(`src/${file}`, folder), 'utf8'))
    .join('');
  for (const [, name] of source.matchAll(/^ +(?:readonly |declare readonly )?(\w+)\??[:(<]/gm)) taken.add(name!);
  assert.ok(taken.has('locked') && taken.has('expiresAt') && taken.has('refresh_token') === false && taken.has('sid'));
  // The event `claims` is only ever a text.
  taken.delete('claims');
  assert.deepEqual(
    reseal.mangle.filter((name) => taken.has(name)),
    [],
  );
});

test('the script for a <script> tag makes Reseal', () => {
  const page = { URL, Headers, AbortController, TextDecoder, performance, setTimeout, clearTimeout, fetch } as Record<
    string,
    unknown
  >;
  runInNewContext(readFileSync(new URL('dist/reseal.global.js', folder), 'utf8'), page);
  const { createSession, ResealError } = page.Reseal as Record<string, (...args: unknown[]) => { user: unknown }>;
  assert.equal(createSession!({ api: 'https://auth.example', clientId: 'x', mode: 'fixed' }).user, null);
  assert.equal(typeof ResealError, 'function');
});
