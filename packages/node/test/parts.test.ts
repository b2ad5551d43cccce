// Parts of a guard by themselves, where the whole has a second defence that hides what one of them does.

import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { PassThrough } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import type { Held } from '../src/admission.js';
import { createCache } from '../src/cache.js';
import type { FeedAuthority } from '../src/feed/authority.js';
import { followFeed, type Feed } from '../src/feed/feed.js';
import type { Judgement } from '../src/freshness/freshness.js';
import { createHttp } from '../src/http.js';
import { parseJws } from '../src/jws.js';
import type { Fetcher } from '../src/keys/fetch.js';
import { keepKeys, type Keys } from '../src/keys/keeper.js';
import { parseKeySet, verifySignature, type VerifyingKey } from '../src/keys/set.js';
import { createLog } from '../src/log.js';
import { parsePayload } from '../src/payload.js';
import { GuardedSession } from '../src/session.js';
import { createVerifier } from '../src/verifier.js';
import { eventually } from '../../tools/authority.js';
import { AUDIENCE, newKey, startIssuer, SUB, type Issuer } from './issuer.js';

let issuer: Issuer;
let usable: VerifyingKey[];

before(async () => {
  issuer = await startIssuer();
  usable = await parseKeySet(Buffer.from(JSON.stringify({ keys: [issuer.key.jwk] })));
});
after(() => issuer.close());

const log = createLog({ warn: () => {} }, () => 0);

function keysOf(keys: readonly VerifyingKey[]): Keys & { looks: number } {
  return {
    looks: 0,
    current() {
      this.looks++;
      return { keys, withdrawn: new Set(), generation: 1 };
    },
    newer: async () => undefined,
    firstRound: async () => {},
    changed: () => {},
    health: () => ({ given: false, usable: keys.length, failures: 0 }),
    close: () => {},
  };
}

function verifierOf(keys: Keys, more: { judgement?: Judgement; lost?: boolean; says?: boolean } = {}) {
  const feed = {
    judge: () => more.judgement ?? { kind: 'current' },
    isLost: () => more.lost ?? false,
  } as Partial<Feed> as Feed;
  return createVerifier({
    rules: { issuer: issuer.url, audience: [AUDIENCE], algorithms: ['ES256'], accessTokens: true, leeway: 5 },
    keys,
    cache: createCache(10),
    feed,
    onFeedLost: 'introspect',
    introspector: { ask: async () => more.says ?? false },
    now: () => Math.floor(Date.now() / 1000),
  });
}

describe('the verifier', () => {
  test('a hundred who come with the same new token: one check', async () => {
    const keys = keysOf(usable);
    const verifier = verifierOf(keys);
    const token = await issuer.token();
    const checked = await Promise.all(Array.from({ length: 100 }, () => verifier.check(token)));
    assert.equal(keys.looks, 1);
    assert.ok(checked.every(({ token }) => token === checked[0]?.token));
    // One that fails is checked anew: it is not remembered.
    const foreign = await issuer.token({ aud: 'other' });
    for (let i = 2; i < 4; i++) {
      await assert.rejects(verifier.check(foreign));
      assert.equal(keys.looks, i);
    }
  });

  test('stale is stale, whether feed or authority says so', async () => {
    const token = await issuer.token();
    const check = async (kind: 'current' | 'stale', lost: boolean, says: boolean) =>
      (await verifierOf(keysOf(usable), { judgement: { kind }, lost, says }).check(token)).stale;
    assert.deepEqual([await check('current', true, false), await check('stale', true, false)], [false, true]);
    assert.deepEqual([await check('current', true, true), await check('current', false, true)], [true, false]);
  });

  test('the second of a change of the client', async () => {
    const iat = Math.floor(Date.now() / 1000);
    const of = async (before: number, more: object = {}) => {
      const judge = (facts: { iat: number | undefined }): Judgement => ({
        kind: (facts.iat ?? 0) < before ? 'stale' : 'current',
      });
      const parts = verifierOf(keysOf(usable));
      const { token } = await parts.check(await issuer.token({ iat }));
      const feed = { judge, isLost: () => false, ...more } as Partial<Feed> as Feed;
      const verifier = createVerifier({
        rules: { issuer: issuer.url, audience: [AUDIENCE], algorithms: [], accessTokens: true, leeway: 5 },
        keys: keysOf(usable),
        cache: createCache(0),
        feed,
        onFeedLost: 'accept',
        introspector: undefined,
        now: () => iat,
      });
      return verifier.isOfTheSecondOfTheChange(token);
    };
    assert.deepEqual([await of(iat), await of(iat + 1), await of(iat + 2)], [false, true, false]);
    assert.equal(await of(iat + 1, { isLost: () => true }), false);
    assert.equal(await of(0, { judge: (): Judgement => ({ kind: 'stale' }) }), false, 'the user has changed, too');
  });
});

describe('the keeper of keys', () => {
  test('what was withdrawn stays so, though the issuer still shows it and the feed has forgotten', async () => {
    const second = await newKey('k2');
    let published = [issuer.key];
    let withdrawn = false;
    let fetches = 0;
    const fetcher: Fetcher = {
      keys: async () => {
        fetches++;
        const raw = Buffer.from(JSON.stringify({ keys: published.map(({ jwk }) => jwk) }));
        return { keys: await parseKeySet(raw), raw, maxAge: undefined };
      },
      metadata: () => Promise.reject(new Error('none')),
      known: undefined,
    };
    const keys = keepKeys({ fetcher, isWithdrawn: (kid) => withdrawn && kid === 'k1', log, chance: () => 0 });
    await keys.firstRound();
    const jws = parseJws(await issuer.token());
    assert.equal((await verifySignature(keys.current(), jws)).kid, 'k1');
    const before = keys.current().generation;

    withdrawn = true;
    keys.changed();
    assert.ok(keys.current().generation > before);
    await assert.rejects(verifySignature(keys.current(), jws), /withdrawn/);
    assert.equal(keys.health().usable, 0);
    await eventually('fetched again', () => fetches === 2);

    // The feed has dropped the entry, and a new set still has the key.
    withdrawn = false;
    published = [issuer.key, second];
    keys.changed();
    await eventually('the new set', () => keys.current().keys.length === 2);
    await assert.rejects(verifySignature(keys.current(), jws), /withdrawn/);
    assert.equal(keys.health().usable, 1);
    keys.close();
  });
});

describe('the feed', () => {
  const start = (now = { seconds: 1000 }) => {
    const streams: PassThrough[] = [];
    const authority: FeedAuthority = {
      open: async () => {
        const stream = Object.assign(new PassThrough(), {
          statusCode: 200,
          headers: { 'content-type': 'text/event-stream' },
        });
        streams.push(stream);
        return stream as unknown as IncomingMessage;
      },
      forgetToken: () => {},
    };
    const seen = { keysChanged: 0 };
    const onKeysChanged = () => void seen.keysChanged++;
    const moment = () => ({ monotonic: now.seconds * 1000, wall: now.seconds * 1000 });
    const feed = followFeed({ authority, now: () => now.seconds, onKeysChanged, log, chance: () => 0, moment });
    const caughtUp = async () => {
      const before = streams.length;
      streams.at(-1)?.write('event: caught-up\ndata: {"seq":0}\n\n');
      await eventually('caught up', () => feed.health().caughtUp && streams.length === before);
    };
    return { feed, streams, seen, now, caughtUp };
  };

  test('lost after 15 s; when it is back the keys are fetched again', async () => {
    const { feed, streams, seen, now, caughtUp } = start();
    await eventually('a connection', () => streams.length === 1);
    assert.equal(feed.isLost(), true);
    await caughtUp();
    assert.deepEqual([feed.isLost(), seen.keysChanged], [false, 0], 'the start is no loss');

    streams[0]?.end();
    await eventually('another connection', () => streams.length === 2);
    await caughtUp();
    assert.equal(seen.keysChanged, 0, 'nor is a short interruption');

    now.seconds += 16;
    assert.equal(feed.isLost(), true);
    streams[1]?.end();
    await eventually('a third connection', () => streams.length === 3);
    await caughtUp();
    assert.deepEqual([feed.isLost(), seen.keysChanged], [false, 1]);
    feed.close();
  });

  test('a clock that goes back: lost at once, and all is asked for again', async () => {
    const { feed, streams, now, caughtUp } = start();
    await eventually('a connection', () => streams.length === 1);
    await caughtUp();
    now.seconds += 100;
    streams[0]?.write('event: heartbeat\ndata: {"seq":0,"now":1100}\n\n');
    // Once a second it drops what is past its time, by this clock.
    await eventually('it has looked at the clock', () => {
      now.seconds -= streams.length === 1 ? 40 : 0;
      return streams.length === 2;
    });
    assert.equal(feed.isLost(), true);
    assert.equal(feed.health().starts, 1);
    await caughtUp();
    assert.equal(feed.isLost(), false);
    feed.close();
  });
});

describe('the log', () => {
  test('the same thing once a minute, and how often it was meant to be said', () => {
    const lines: string[] = [];
    let now = 0;
    const limited = createLog({ warn: (line) => void lines.push(line) }, () => now);
    for (let i = 0; i < 100; i++) limited.warn('a', 'away');
    limited.warn('b', 'other');
    limited.info('nobody listens');
    now = 60_000;
    limited.warn('a', 'away');
    assert.deepEqual(lines, ['reseal: away', 'reseal: other', 'reseal: away (and 99 times since the last line)']);
  });

  test('a logger that fails ends nothing', () => {
    const failing = createLog({ warn: () => assert.fail() }, () => 0);
    failing.warn('a', 'away');
  });
});

test('a process that was held up itself takes nothing for missing that is there', async () => {
  const http = createHttp(50);
  try {
    const call = { method: 'GET', headers: {}, timeoutMs: 60_000, background: false } as const;
    const asked = http.ask({ ...call, url: new URL(`${issuer.url}/jwks.json`) }, 65_536);
    // Until it is being connected; then nothing is looked at for longer than that may take.
    for (let i = 0; i < 8; i++) await new Promise<void>((resolve) => process.nextTick(resolve));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
    assert.equal((await asked).status, 200);
  } finally {
    http.close();
  }
});

test('of two answers to reseal the one that knows more stays, in whatever order they come', async () => {
  const held = (rev: number): Held => {
    const token = { ...parsePayload(Buffer.from(JSON.stringify({ sub: SUB, rev }))), kid: undefined, key: '' };
    return { token, text: `of ${rev}`, renewed: true, setCookie: [] };
  };
  const answers: ((held: Held) => void)[] = [];
  const reseal = () => new Promise<Held>((resolve) => answers.push(resolve));
  const session = new GuardedSession({ held: held(1), reseal }, { realm: undefined, now: () => 0 });
  const both = [session.reseal(), session.reseal()];
  answers[1]?.(held(3));
  assert.equal((await both[1])?.rev, 3);
  answers[0]?.(held(2));
  assert.equal((await both[0])?.rev, 3);
  assert.equal(session.responseHeaders()['Renewed-Access-Token'], 'of 3');
});
