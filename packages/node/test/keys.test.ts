import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { mayAsk, mayBeSentTo } from '../src/http.js';
import { Guard } from '../src/index.js';
import { metadataUrls } from '../src/keys/fetch.js';
import { afterFailure, afterSuccess, maxAge } from '../src/keys/schedule.js';
import { parseKeySet } from '../src/keys/set.js';
import { createUnknown } from '../src/keys/unknown.js';
import { AUDIENCE, bearing, keepLog, newKey, rejection, startIssuer, type Issuer } from './issuer.js';

describe('when keys are fetched', () => {
  test('a set is fetched again before it is too old', () => {
    for (const [said, life] of [
      [undefined, 300],
      [300, 300],
      [0, 30],
      [86_400, 3600],
      [1e15, 3600],
    ] as const) {
      for (const chance of [0, 0.5, 1]) {
        const wait = afterSuccess(said === undefined ? undefined : said * 1000, chance) / 1000;
        assert.ok(wait >= life * 0.75 && wait <= life * 0.91, `${said} ${wait}`);
      }
    }
  });

  test('failures are further and further apart', () => {
    assert.deepEqual([afterFailure(1, 0), afterFailure(1, 1), afterFailure(3, 1)], [250, 500, 2000]);
    for (const failures of [7, 100, 1e9])
      assert.deepEqual([afterFailure(failures, 0), afterFailure(failures, 1)], [15_000, 30_000]);
  });

  test('max-age as RFC 9111 has it', () => {
    const seconds = (control: string, age?: string) => {
      const ms = maxAge(control, age);
      return ms === undefined ? undefined : ms / 1000;
    };
    assert.equal(seconds('public, max-age=300'), 300);
    assert.equal(seconds('MAX-AGE="60"'), 60);
    assert.deepEqual([seconds('max-age=300', '100'), seconds('max-age=300', '400')], [200, 0]);
    assert.deepEqual([seconds('max-age=300, no-cache'), seconds('no-store')], [0, 0]);
    for (const none of ['s-maxage=5, public', 'max-age=-1', 'max-age=99999999999999999999', '', 'max-age'])
      assert.equal(seconds(none), undefined, none);
  });

  test('a flood of made-up names costs one fetch per cooldown', () => {
    const unknown = createUnknown();
    let fetches = 0;
    for (let ms = 0; ms < 100_000; ms += 5) {
      if (unknown.ask(`${ms}`, ms)) fetches++;
      unknown.isMissing(`${ms}`, ms);
      assert.ok(unknown.size <= 1024);
    }
    assert.equal(fetches, 10);
  });

  test('a name that is missing is not asked for again for a minute', () => {
    const unknown = createUnknown();
    const ask = (kid: string | undefined, second: number) => unknown.ask(kid, second * 1000);
    assert.equal(ask('a', 0), true);
    unknown.isMissing('a', 1000);
    assert.deepEqual([ask('a', 60), ask('b', 60), ask('a', 61), ask('a', 70)], [false, true, false, true]);
  });

  test('the path of the issuer is inserted', () => {
    const urls = (issuer: string) => metadataUrls(issuer).map(String);
    assert.deepEqual(urls('https://auth.test'), [
      'https://auth.test/.well-known/oauth-authorization-server',
      'https://auth.test/.well-known/openid-configuration',
    ]);
    for (const issuer of ['https://auth.test:8443/one/two', 'https://auth.test:8443/one/two/']) {
      assert.deepEqual(urls(issuer), [
        'https://auth.test:8443/.well-known/oauth-authorization-server/one/two',
        'https://auth.test:8443/one/two/.well-known/openid-configuration',
        'https://auth.test:8443/one/two/.well-known/oauth-authorization-server',
      ]);
    }
    assert.deepEqual(urls('no url'), []);
  });

  test('http is for this machine only, and no issuer with TLS sends us there', () => {
    for (const url of [
      'http://localhost:4000',
      'http://127.0.0.1',
      'http://127.9.9.9:1/x',
      'http://[::1]:80',
      'https://auth.test',
      'http://0x7f.1',
      'http://LOCALHOST',
    ]) {
      assert.equal(mayAsk(new URL(url)), true, url);
    }
    for (const url of [
      'http://auth.test',
      'http://localhost.evil.test',
      'http://127.0.0.1.evil.test',
      'http://[::2]',
      'http://10.0.0.1',
      'ftp://localhost',
      'file:///etc/passwd',
      'data:x',
    ]) {
      assert.equal(mayAsk(new URL(url)), false, url);
    }
    assert.equal(mayBeSentTo(new URL('http://127.0.0.1/jwks'), new URL('https://auth.test')), false);
    assert.equal(mayBeSentTo(new URL('https://auth.test/jwks'), new URL('http://127.0.0.1')), true);
  });
});

describe('key sets', () => {
  const parse = (value: unknown) => parseKeySet(Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)));
  const names = async (...keys: unknown[]) =>
    (await parse({ keys })).map(({ kid, algorithm }) => `${kid} ${algorithm}`);

  test('three kinds of keys, each for one algorithm', async () => {
    const keys = await Promise.all([newKey('e'), newKey('d', 'EdDSA'), newKey('r', 'RS256')]);
    const bare = keys.map(({ jwk: { alg: _, use: __, ...jwk } }) => jwk);
    assert.deepEqual(await names(...bare), ['e ES256', 'd EdDSA', 'r RS256']);
  });

  test('what cannot be used is passed by', async () => {
    const { jwk } = await newKey('a');
    const bad = [
      { ...jwk, use: 'enc' },
      { ...jwk, key_ops: ['sign'] },
      { ...jwk, alg: 'ES384' },
      { ...jwk, alg: 'HS256' },
      { ...jwk, crv: 'P-521' },
      { ...jwk, x: 'AA' },
      { ...jwk, kid: 7 },
      { kty: 'oct', k: 'c2VjcmV0', kid: 'a' },
      null,
      7,
      'x',
      {},
      [],
      { kty: 'RSA', kid: 'weak', e: 'AQAB', n: Buffer.alloc(64, 0xff).toString('base64url') },
    ];
    assert.deepEqual(await names(...bad, jwk), ['a ES256']);
  });

  test('of two different keys with one name neither is used', async () => {
    const [one, two, three] = await Promise.all([newKey('a'), newKey('a'), newKey('b')]);
    assert.deepEqual(await names(one.jwk, two.jwk, three.jwk, three.jwk), ['b ES256']);
  });

  test('refused as a whole', async () => {
    const { jwk } = await newKey('a');
    for (const bad of ['', '[]', '{}', '{"keys":{}}', '{"keys":[],"keys":[]}', { keys: Array(101).fill(jwk) }]) {
      await assert.rejects(parse(bad));
    }
  });
});

describe('the keys of a guard', () => {
  const withIssuer = async (work: (issuer: Issuer, guard: Guard, log: ReturnType<typeof keepLog>) => Promise<void>) => {
    const issuer = await startIssuer();
    const log = keepLog();
    const guard = new Guard({ issuer: issuer.url, audience: AUDIENCE, log });
    try {
      await work(issuer, guard, log);
    } finally {
      await guard.close();
      await issuer.close();
    }
  };

  test('a new key is fetched once for all who come with it', () =>
    withIssuer(async (issuer, guard) => {
      await guard.admit(bearing(await issuer.token()));
      const second = await newKey('k2', 'EdDSA');
      issuer.publish(issuer.key, second);
      const tokens = await Promise.all(Array.from({ length: 50 }, (_, i) => issuer.token({ jti: `${i}` }, {}, second)));
      await Promise.all(tokens.map((token) => guard.admit(bearing(token))));
      assert.equal(issuer.count('/jwks.json'), 2);
    }));

  test('a flood of made-up names: 401, and one fetch', () =>
    withIssuer(async (issuer, guard) => {
      await guard.admit(bearing(await issuer.token()));
      const forger = await newKey('x');
      const began = Date.now();
      for (let i = 0; i < 30; i++) {
        const refusal = await rejection(guard.admit(bearing(await issuer.token({}, { kid: `made-up-${i}` }, forger))));
        assert.equal(refusal.status, 401);
      }
      const cooldowns = Math.floor((Date.now() - began) / 10_000);
      assert.ok(issuer.count('/jwks.json') <= 2 + cooldowns);
    }));

  test('a key that left the set is dead, in the cache as well', () =>
    withIssuer(async (issuer, guard) => {
      const token = await issuer.token();
      await guard.admit(bearing(token));
      const second = await newKey('k2');
      issuer.publish(second);
      await guard.admit(bearing(await issuer.token({}, {}, second)));
      assert.equal((await rejection(guard.admit(bearing(token)))).status, 401);
    }));

  test('the old keys go on while the issuer is away, and a new one is 503, never 401', () =>
    withIssuer(async (issuer, guard, log) => {
      const token = await issuer.token();
      await guard.admit(bearing(token));
      issuer.on('/jwks.json', (_, response) => response.writeHead(500).end());
      const second = await newKey('k2');
      const refusal = await rejection(guard.admit(bearing(await issuer.token({}, {}, second))));
      assert.deepEqual(
        [refusal.status, (refusal.headers as Record<string, string>)['WWW-Authenticate']],
        [503, undefined],
      );
      await guard.admit(bearing(token));
      assert.equal(guard.health().keys.failures, 1);
      assert.match(log.lines.join('\n'), /keys could not be fetched/);
    }));

  const broken: Record<string, (issuer: Issuer) => void> = {
    'metadata of another issuer': (issuer) =>
      issuer.on(
        '/.well-known/oauth-authorization-server',
        issuer.json({ ...issuer.metadata, issuer: 'https://other.example' }),
      ),
    'a redirect': (issuer) =>
      issuer.on('/jwks.json', (_, response) =>
        response.writeHead(302, { Location: `${issuer.url}/elsewhere.json` }).end(),
      ),
    'keys without TLS on another machine': (issuer) =>
      issuer.on(
        '/.well-known/oauth-authorization-server',
        issuer.json({ ...issuer.metadata, jwks_uri: 'http://192.0.2.1/jwks.json' }),
      ),
    'a set that is too long': (issuer) => issuer.publishRaw({ keys: [issuer.key.jwk], pad: 'x'.repeat(70_000) }),
    'an empty set': (issuer) => issuer.publishRaw({ keys: [] }),
    'no JSON': (issuer) => issuer.on('/jwks.json', (_, response) => response.end('<html>')),
    'an answer that breaks off': (issuer) =>
      issuer.on('/jwks.json', (_, response) => {
        response.writeHead(200, { 'Content-Length': '100' }).write('{"keys":');
        setImmediate(() => response.destroy());
      }),
  };
  for (const [name, breakIt] of Object.entries(broken)) {
    test(`503 for want of keys: ${name}`, async () => {
      const issuer = await startIssuer();
      breakIt(issuer);
      const log = keepLog();
      const guard = new Guard({ issuer: issuer.url, audience: AUDIENCE, log });
      const refusal = await rejection(guard.admit(bearing(await issuer.token())));
      assert.deepEqual([refusal.status, refusal.code], [503, 'temporarily_unavailable']);
      assert.equal(issuer.count('/elsewhere.json'), 0);
      assert.equal(guard.health().ready, false);
      // It was not asked, rather than asked in vain.
      if (name.includes('without TLS')) assert.match(log.lines.join('\n'), /may not be asked: without TLS/);
      await guard.close();
      await issuer.close();
    });
  }

  test('it mends itself', async () => {
    const issuer = await startIssuer();
    issuer.on('/jwks.json', (_, response) => response.writeHead(503).end());
    const guard = new Guard({ issuer: issuer.url, audience: AUDIENCE, log: keepLog() });
    const token = await issuer.token();
    assert.equal((await rejection(guard.admit(bearing(token)))).status, 503);
    issuer.on('/jwks.json', issuer.json({ keys: [issuer.key.jwk] }));
    for (let i = 0; i < 1000 && guard.health().keys.usable === 0; i++)
      await new Promise((resolve) => setTimeout(resolve, 20));
    await guard.admit(bearing(token));
    await guard.close();
    await issuer.close();
  });

  test('a closed guard answers 503', () =>
    withIssuer(async (issuer, guard) => {
      const token = await issuer.token();
      await guard.admit(bearing(token));
      await guard.close();
      assert.equal((await rejection(guard.admit(bearing(token)))).status, 503);
    }));
});
