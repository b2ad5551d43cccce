// What comes between: every `await` is a gap in which the user signs out, logs in again, or the page lets go.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { create } from '../src/session.js';
import { codeOf, kit } from './kit.js';
import { API, AUTHORITY, error } from './model.js';
import { settled } from './world.js';

const right = { username: 'demo', password: 'right' };

describe('login', () => {
  for (const mode of ['refresh', 'cookie'] as const) {
    test(`${mode}: clicked twice: both are answered, and one session is left`, async () => {
      const { world, model, open } = kit();
      const { session, events } = open({ mode });
      await world.until(session.ready);
      const both = await world.until(Promise.all([session.login(right), session.login(right)]));
      assert.deepEqual(
        both.map(({ status }) => status),
        ['signed_in', 'signed_in'],
      );
      await world.pass(1);
      assert.equal(session.user!.sub, 'user-1');
      assert.ok(!events.some((event) => event.startsWith('signedout')));
      // The authority ends a session whose cookie is replaced by itself.
      if (mode === 'cookie') return;
      const alive = [...model.rows.values()].filter(({ ended }) => !ended);
      assert.deepEqual(
        alive.map(({ id }) => id),
        [session.info!.id],
      );
    });

    test(`${mode}: disposed by a listener of its own event`, async () => {
      const { world, open } = kit();
      const { session } = open({ mode });
      session.on('signedin', () => session.dispose());
      assert.equal(await world.until(codeOf(session.login(right))), 'signed_out');
    });
  }

  test('cookie: in another tab, while the first look of this one is on its way', async () => {
    const { world, model, open } = kit();
    const a = open({ mode: 'cookie' });
    await world.until(a.session.ready);
    let answer: (() => void) | undefined;
    model.override = ({ path, method }) => {
      if (path !== '/v1/session' || method !== 'GET' || answer) return;
      return new Promise((resolve) => (answer = () => resolve(error(401, 'unauthorized'))));
    };
    const b = open({ mode: 'cookie' });
    await settled();
    await world.until(a.session.login(right));
    await world.pass(0.5);
    answer!();
    await world.pass(3);
    assert.equal(b.session.user?.name, 'Demo');
  });
});

describe('a token that somebody waits for', () => {
  for (const end of ['dispose', 'signOut'] as const) {
    test(`${end} by a listener of its renewal`, async () => {
      const { world, login } = kit();
      const { session } = await login({ keepAlive: 'use' });
      await world.pass(299);
      session.on('renewed', () => void session[end]());
      assert.equal(await world.until(codeOf(session.token())), 'signed_out');
    });
  }
});

describe('sign-out', () => {
  test('cookie: while a look is on its way, which brings nobody back', async () => {
    const { world, model, login, open } = kit();
    await login({ mode: 'cookie' }, { channels: false });
    let looks = 0;
    let answer: (() => void) | undefined;
    model.override = (call) => {
      if (call.path !== '/v1/session' || call.method !== 'GET') return;
      if (looks++ === 0) return error(503, 'temporarily_unavailable');
      model.override = undefined;
      const found = model.fetch(call.url, call.init);
      return new Promise((resolve) => (answer = () => resolve(found)));
    };
    const { session, events } = open({ mode: 'cookie', timeout: 30 }, { channels: false });
    await world.until(session.ready);
    while (!answer) await world.pass(0.5);
    await world.until(session.signOut());
    answer();
    await world.pass(1);
    assert.equal(session.user, null);
    assert.deepEqual(events, []);
  });

  test('everywhere: tabs with a login of their own hear of it', async () => {
    const { world, login } = kit();
    const a = await login({ storage: 'session' });
    const b = await login({ storage: 'session' });
    await world.until(a.session.signOut({ everywhere: true }));
    await world.pass(1);
    assert.deepEqual(b.events, ['signedin', 'signedout:signed_out']);
  });
});

describe('dispose', () => {
  test('while the authority refuses: an error of ours, and nothing to a channel that is closed', async () => {
    const { world, model, login } = kit();
    const { session, tab } = await login();
    for (const channel of tab.channels) {
      const close = channel.close.bind(channel);
      channel.close = () => {
        close();
        channel.postMessage = () => {
          throw new DOMException('closed', 'InvalidStateError');
        };
      };
    }
    let refuse: (() => void) | undefined;
    model.override = () => new Promise((resolve) => (refuse = () => resolve(error(400, 'invalid_grant'))));
    const renewal = codeOf(session.renew());
    await settled();
    session.dispose();
    refuse!();
    assert.equal(await world.until(renewal), 'signed_out');
  });

  test('leaves no timer and no listener', async () => {
    const { world, open } = kit();
    const { tab, session } = open();
    const { setTimeout, clearTimeout } = tab.env;
    const timers = new Set<unknown>();
    Object.assign(tab.env, {
      setTimeout: (run: () => void, ms: number) => {
        const timer: unknown = setTimeout(() => (timers.delete(timer), run()), ms);
        timers.add(timer);
        return timer;
      },
      clearTimeout: (timer: never) => (timers.delete(timer), clearTimeout(timer)),
    });
    await world.until(session.login(right));
    assert.equal(timers.size, 1);
    session.dispose();
    assert.equal(timers.size, 0);
    assert.deepEqual(
      [...tab.listeners.values()].map(({ size }) => size).filter((size) => size > 0),
      [],
    );
  });

  test('while the storage is read: what is found there starts no timer', async () => {
    const { world, model, login, open } = kit();
    let text: string | null = null;
    await login({ storage: { get: () => text, set: (value) => void (text = value) } });
    const calls = model.calls.length;
    for (const page of world.tabs) page.kill();
    let found: (() => void) | undefined;
    const { session } = open({
      storage: { get: () => new Promise((resolve) => (found = () => resolve(text))), set: () => {} },
    });
    await settled();
    session.dispose();
    found!();
    await world.pass(1000);
    assert.equal(model.calls.length, calls);
  });
});

describe('a Web Lock', () => {
  type Run = () => Promise<void>;
  const refused = () => new DOMException('not now', 'AbortError');
  const kinds: Record<string, (run: Run) => Promise<unknown>> = {
    'that is stolen while the work runs': async (run) => {
      void run();
      throw refused();
    },
    'that the browser refuses': () => Promise.reject(refused()),
    'that cannot be asked for': () => {
      throw refused();
    },
    'that never comes': () => new Promise(() => {}),
    'that comes when nobody waits any more': async (run) => {
      await new Promise((resolve) => setImmediate(resolve));
      await run();
      return run();
    },
  };
  for (const [name, request] of Object.entries(kinds)) {
    test(`${name}: one renewal`, async () => {
      const { world, model, login } = kit();
      const locks = { request: (_: string, __: object, run: Run) => request(run) } as unknown as LockManager;
      const { session } = await login({ storage: 'local', locks });
      await world.until(session.renew());
      await world.pass(10);
      assert.equal(model.count('POST', '/oauth/token'), 1);
    });
  }
});

describe('a storage of one’s own', () => {
  test('that never ends writing: the user is signed in without it', async () => {
    const { world, open } = kit();
    const { session } = open({ storage: { get: () => null, set: () => new Promise(() => {}) } });
    assert.equal((await world.until(session.login(right))).status, 'signed_in');
    assert.equal((await world.until(session.fetch('/api'))).status, 200);
  });

  for (const status of [200, 401]) {
    test(`that fails when a request is answered: the caller has the ${status}`, async () => {
      const { world, model, open } = kit();
      let text: string | null = null;
      let broken = false;
      const get = () => {
        if (broken) throw new Error('broken');
        return text;
      };
      const { session } = open({ mode: 'sliding', storage: { get, set: (value) => void (text = value) } });
      await world.until(session.login(right));
      await world.pass(700);
      model.slides = true;
      model.override = ({ path }) => {
        if (path !== '/api') return;
        broken = true;
        return status === 401 ? error(401, 'invalid_token') : undefined;
      };
      assert.equal((await world.until(session.fetch('/api'))).status, status);
    });
  }

  test('that fails as a refused token is given up: the caller has the 401', async () => {
    const { world, model, open } = kit();
    let text: string | null = null;
    let reads = Infinity;
    const get = () => {
      if (reads-- < 1) throw new Error('broken');
      return text;
    };
    const { session } = open({ storage: { get, set: (value) => void (text = value) } });
    await world.until(session.login(right));
    await world.pass(2);
    let tries = 0;
    model.override = ({ path }) => {
      if (path !== '/api') return;
      if (++tries === 2) reads = 1;
      return error(401, 'invalid_token');
    };
    assert.equal((await world.until(session.fetch('/api'))).status, 401);
    assert.deepEqual([tries, reads], [2, -1]);
  });
});

describe('who gets the token', () => {
  test('a page whose <base> has moved to a stranger: not he', async () => {
    const { world, model, login } = kit();
    const { session, tab } = await login();
    Object.defineProperty(tab.env.document, 'baseURI', { value: 'https://evil.example/' });
    await world.until(session.fetch('x'));
    assert.equal(model.calls.at(-1)!.headers.get('authorization'), null);
    await world.until(session.fetch(API + '/api'));
    assert.ok(model.calls.at(-1)!.headers.get('authorization'));
  });

  test('a URL object that is changed meanwhile: whom it named at first', async () => {
    const { world, model, login } = kit();
    const { session } = await login();
    const url = new URL(API + '/api');
    const request = session.fetch(url);
    url.host = 'evil.example';
    await world.until(request);
    assert.equal(model.calls.at(-1)!.url, API + '/api');
  });

  for (const url of [
    'https://app.example@evil.example/',
    'https://app.example:443@evil.example/',
    'https://app.example:8443/',
    'http://app.example/',
    '//evil.example/',
    '\\\\evil.example/',
    '/\\evil.example/',
    'https:\\\\evil.example/',
    'https://app.example.evil.example/',
    'https://app.example%2eevil.example/',
    'data:text/plain,https://app.example/',
    'javascript:0',
    'blob:https://evil.example/0',
    'about:blank',
    'file:///app.example/',
    'https://',
  ]) {
    test(`not ${url}`, async () => {
      const { login } = kit();
      const { session } = await login();
      assert.equal(await session.prepare(url), null);
    });
  }
});

test('a server that renders pages opens no channel, which nobody would close', () => {
  let opened = 0;
  class BroadcastChannel {
    constructor() {
      opened++;
    }
  }
  const server = { fetch, setTimeout, clearTimeout, performance, Date, Math, BroadcastChannel } as never;
  create({ api: AUTHORITY, clientId: 'refresh', mode: 'refresh' }, server);
  assert.equal(opened, 0);
});

test('cookie: a renewal brings a record that was changed elsewhere', async () => {
  const { world, model, login } = kit();
  const { session, events } = await login({ mode: 'cookie' });
  model.change({ name: 'Grace' });
  await world.pass(2);
  await world.until(session.renew());
  assert.equal(session.user!.name, 'Grace');
  assert.ok(events.includes('claims'));
});

test('a deadline beyond what a timer can count (24.8 days): no timer overflows', async () => {
  const { world, model, open } = kit();
  Object.assign(model.policies.fixed!, { accessTtl: 90 * 86400, idleTtl: 90 * 86400, maxTtl: 90 * 86400 });
  const { tab, session, events } = open({ mode: 'fixed' });
  const { setTimeout } = tab.env;
  const waits: number[] = [];
  Object.assign(tab.env, {
    setTimeout: (run: () => void, ms: number) => (waits.push(ms), setTimeout(run, ms)),
  });
  await world.until(session.login(right));
  await world.pass(90 * 86400 - 30);
  assert.deepEqual(events, ['signedin', 'expiring']);
  assert.ok(Math.max(...waits) < 2 ** 31, String(waits));
});
