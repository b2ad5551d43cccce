// Keys given by hand, as koa-jwt takes them.

import assert from 'node:assert/strict';
import { createHmac, createPublicKey, createSecretKey, generateKeyPairSync, KeyObject } from 'node:crypto';
import { describe, test } from 'node:test';
import { SignJWT } from 'jose';
import { ConfigurationError, Guard, Refusal, type GuardOptions, type SecretSource } from '../src/index.js';
import { bearing, rejection } from './issuer.js';

const SHARED = 'shared';
const quiet = { warn: () => {} };

function guardOf(secret: SecretSource, more: Partial<GuardOptions> = {}) {
  return new Guard({ secret, log: quiet, ...more });
}

function hmac(secret: string | Buffer, claims: object = { sub: 'ann' }, alg = 'HS256', header: object = {}) {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${encode({ alg, typ: 'JWT', ...header })}.${encode(claims)}`;
  return `${text}.${createHmac(`sha${alg.slice(2)}`, secret)
    .update(text)
    .digest('base64url')}`;
}

function sign(key: KeyObject, alg: string, claims: Record<string, unknown> = { sub: 'ann' }) {
  return new SignJWT(claims).setProtectedHeader({ alg, typ: 'JWT' }).sign(key);
}

const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ed = generateKeyPairSync('ed25519');
const pem = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }).toString();

const accepts = async (guard: Guard, token: string) =>
  assert.equal((await guard.admit(bearing(token)))?.subject, 'ann');
const refuses = async (guard: Guard, token: string) =>
  assert.equal((await rejection(guard.admit(bearing(token)))).status, 401);

describe('keys given by hand', () => {
  test('a shared secret, in each form and size', async () => {
    for (const secret of [SHARED, Buffer.from(SHARED), createSecretKey(Buffer.from(SHARED))]) {
      for (const alg of ['HS256', 'HS384', 'HS512']) await accepts(guardOf(secret), hmac(SHARED, { sub: 'ann' }, alg));
      await refuses(guardOf(secret), hmac('another'));
    }
    await accepts(guardOf('x'), hmac('x'));
  });

  test('public keys, in each form', async () => {
    for (const [pair, alg] of [
      [ec, 'ES256'],
      [rsa, 'RS256'],
      [rsa, 'PS512'],
      [ed, 'EdDSA'],
    ] as const) {
      const token = await sign(pair.privateKey, alg);
      for (const secret of [pair.publicKey, pem(pair.publicKey), Buffer.from(pem(pair.publicKey)), pair.privateKey])
        await accepts(guardOf(secret), token);
      await refuses(guardOf(pair === ec ? rsa.publicKey : ec.publicKey), token);
    }
  });

  test('several, in any order', async () => {
    const guard = guardOf(['another', pem(ec.publicKey), SHARED]);
    await accepts(guard, hmac(SHARED));
    await accepts(guard, hmac('another'));
    await accepts(guard, await sign(ec.privateKey, 'ES256'));
    await refuses(guard, hmac('none of them'));
  });

  test('a function of header and payload, of promises, too', async () => {
    const asked: unknown[] = [];
    const guard = guardOf(async (header, payload) => {
      asked.push([header.kid, payload.sub]);
      return header.kid === 'old' ? ['no', SHARED] : Buffer.from('new secret');
    });
    await accepts(guard, hmac(SHARED, { sub: 'ann' }, 'HS256', { kid: 'old' }));
    await accepts(guard, hmac('new secret'));
    await refuses(guard, hmac(SHARED));
    assert.deepEqual(asked, [
      ['old', 'ann'],
      [undefined, 'ann'],
      [undefined, 'ann'],
    ]);
  });

  test('a function that finds none refuses, and its own refusal is passed on', async () => {
    const lost = new Error('no such key');
    const refusal = await rejection(guardOf(() => Promise.reject(lost)).admit(bearing(hmac(SHARED))));
    assert.equal(refusal.status, 401);
    assert.equal((refusal.cause as Error).cause, lost);
    for (const nothing of [undefined, '', [], {}, 7])
      await refuses(
        guardOf(() => nothing as never),
        hmac(SHARED),
      );
    const away = new Refusal({
      status: 503,
      headers: {},
      body: { error: 'temporarily_unavailable', error_description: 'later' },
    });
    const thrower = guardOf(() => {
      throw away;
    });
    assert.equal(await rejection(thrower.admit(bearing(hmac(SHARED)))), away);
  });

  test('another secret for one request', async () => {
    const guard = guardOf(SHARED);
    const token = hmac('of the tenant');
    await refuses(guard, token);
    assert.equal((await guard.admit({ ...bearing(token), secret: 'of the tenant' }))?.subject, 'ann');
    await refuses(guard, token);
  });

  test('a public key is never a shared secret', async () => {
    const forms = [pem(ec.publicKey), Buffer.from(pem(ec.publicKey)), ec.publicKey];
    const texts = [
      pem(ec.publicKey),
      pem(ec.publicKey).trim(),
      Buffer.from(pem(ec.publicKey)),
      ec.publicKey.export({ type: 'spki', format: 'der' }),
    ];
    for (const form of forms) {
      for (const alg of ['HS256', 'HS384', 'HS512']) {
        for (const text of texts) await refuses(guardOf(form), hmac(text, { sub: 'ann' }, alg));
      }
    }
    for (const text of texts)
      await refuses(
        guardOf(() => form()),
        hmac(text),
      );
    const form = () => pem(rsa.publicKey);
  });

  test('no signature', async () => {
    const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
    for (const secret of [SHARED, ec.publicKey]) {
      for (const alg of ['none', 'NONE', ''])
        await refuses(guardOf(secret), `${encode({ alg })}.${encode({ sub: 'ann' })}.`);
    }
  });

  test('algorithms restrict', async () => {
    await refuses(guardOf(SHARED, { algorithms: ['HS512'] }), hmac(SHARED));
    await accepts(guardOf(SHARED, { algorithms: ['HS512', 'HS256'] }), hmac(SHARED));
    await refuses(guardOf(rsa.publicKey, { algorithms: ['PS256'] }), await sign(rsa.privateKey, 'RS256'));
  });

  test('issuer, audience and tolerance apply if given', async () => {
    const now = Math.floor(Date.now() / 1000);
    const of = (claims: object) => hmac(SHARED, { sub: 'ann', ...claims });
    await accepts(guardOf(SHARED), of({ iss: 'x', aud: 'y' }));
    await accepts(guardOf(SHARED, { issuer: 'x', audience: ['y', 'z'] }), of({ iss: 'x', aud: ['z'] }));
    await refuses(guardOf(SHARED, { issuer: 'x' }), of({ iss: 'y' }));
    await refuses(guardOf(SHARED, { issuer: 'x' }), of({}));
    await refuses(guardOf(SHARED, { audience: 'y' }), of({ aud: 'z' }));
    await refuses(guardOf(SHARED), of({ exp: now - 2 }));
    await accepts(guardOf(SHARED, { clockTolerance: 30 }), of({ exp: now - 2 }));
    await refuses(guardOf(SHARED), of({ nbf: now + 60 }));
  });

  test('it dies in the cache as well; a token without an end lives on', async () => {
    let now = 1_000_000;
    const guard = guardOf(SHARED, { now: () => now * 1000 });
    const [token, endless] = [hmac(SHARED, { sub: 'ann', exp: 1_000_010 }), hmac(SHARED)];
    await accepts(guard, token);
    assert.equal((await guard.admit(bearing(endless)))?.expiresAt, Infinity);
    now = 1_000_010;
    await refuses(guard, token);
    await accepts(guard, endless);
  });

  test('nothing is resealed or renewed here', async () => {
    const session = await guardOf(SHARED).admit(bearing(hmac(SHARED, { sub: 'ann', renew_at: 1 })));
    assert.equal(await session?.reseal(), null);
    assert.deepEqual(session?.responseHeaders(), {});
    assert.deepEqual(guardOf([SHARED, 'y']).health(), { ready: true, keys: { given: true, usable: 2, failures: 0 } });
  });
});

describe('settings that contradict each other', () => {
  const issuer = 'https://auth.example';
  const audience = 'https://notes.example';
  const client = { id: 'a', secret: 'b' };
  const bad: Record<string, [GuardOptions, RegExp]> = {
    nothing: [{}, /issuer/],
    'no audience': [{ issuer }, /audience/],
    'an empty audience': [{ issuer, audience: [] }, /audience/],
    'an issuer without TLS': [{ issuer: 'http://auth.example', audience }, /https/],
    'an issuer with a query': [{ issuer: `${issuer}?x`, audience }, /query/],
    'an issuer with a password': [{ issuer: 'https://a:b@auth.example', audience }, /password/],
    'an issuer that is none': [{ issuer: 'auth', audience }, /URL/],
    'HS256 with an issuer': [{ issuer, audience, algorithms: ['HS256'] }, /HS256/],
    'no algorithms': [{ issuer, audience, algorithms: [] }, /algorithms/],
    'an algorithm none': [{ secret: SHARED, algorithms: ['none'] }, /none/],
    'a large tolerance': [{ issuer, audience, clockTolerance: 61 }, /clockTolerance/],
    'half a second': [{ issuer, audience, clockTolerance: 0.5 }, /clockTolerance/],
    'a client without a secret': [{ issuer, audience, client: { id: 'a' } as typeof client }, /client/],
    'introspection without a client': [{ issuer, audience, onFeedLost: 'introspect' }, /client/],
    'a word that is none': [{ issuer, audience, onStale: 'ignore' as 'renew' }, /onStale/],
    'a text for a flag': [{ issuer, audience, sliding: 'no' as unknown as boolean }, /sliding/],
    'a cache without end': [{ issuer, audience, cacheSize: 1e9 }, /cacheSize/],
    'no time at all': [{ issuer, audience, timeout: 0 }, /timeout/],
    'secret and client': [{ secret: SHARED, client }, /`secret` and `client` contradict/],
    'secret and sliding': [{ secret: SHARED, sliding: true }, /sliding/],
    'secret and sessionCookie': [{ secret: SHARED, sessionCookie: true }, /sessionCookie/],
    'secret and onFeedLost': [{ secret: SHARED, onFeedLost: 'accept' }, /onFeedLost/],
    'an empty secret': [{ secret: '' }, /empty/],
    'no secrets': [{ secret: [] }, /secrets/],
    'a number': [{ secret: 7 as unknown as string }, /secret/],
    'a PEM that is broken': [{ secret: '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----' }, /PEM/],
    'a public key in DER': [{ secret: ec.publicKey.export({ type: 'spki', format: 'der' }) }, /public key/],
    'an RSA key in DER': [{ secret: rsa.publicKey.export({ type: 'pkcs1', format: 'der' }) }, /public key/],
    'a public key in PEM without its frame': [
      { secret: pem(ec.publicKey).replace(/-----.*?-----/g, '') },
      /public key/,
    ],
    'a public key as a JWK': [{ secret: JSON.stringify(ec.publicKey.export({ format: 'jwk' })) }, /public key/],
    'a set of JWKs': [
      { secret: JSON.stringify({ keys: [rsa.publicKey.export({ format: 'jwk' })] }, null, 2) },
      /public key/,
    ],
    'a realm that is no text': [{ issuer, audience, realm: 7 as unknown as string }, /realm/],
    'a clock that is none': [{ issuer, audience, now: 7 as unknown as () => number }, /now/],
  };
  for (const [name, [options, message]] of Object.entries(bad)) {
    test(name, () => {
      assert.throws(
        () => new Guard({ log: quiet, ...options }),
        (error) => error instanceof ConfigurationError && message.test(error.message),
      );
    });
  }

  test('sliding: false beside a secret is no contradiction', () => {
    assert.ok(new Guard({ secret: createPublicKey(pem(ec.publicKey)), sliding: false }));
  });
});
