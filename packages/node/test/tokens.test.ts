// Tokens that must not pass, and some that must.

import assert from 'node:assert/strict';
import { createHmac, createPublicKey, type JsonWebKey } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { inspect } from 'node:util';
import { Guard, type Refusal } from '../src/index.js';
import {
  AUDIENCE,
  bearing,
  keepLog,
  newKey,
  rejection,
  SID,
  startIssuer,
  SUB,
  type Issuer,
  type Key,
} from './issuer.js';
import { random, upTo } from './random.js';

describe('tokens', () => {
  let issuer: Issuer;
  let guard: Guard;
  let seconds = 0;
  const log = keepLog();

  before(async () => {
    issuer = await startIssuer();
    guard = new Guard({
      issuer: issuer.url,
      audience: ['https://x.example', AUDIENCE],
      now: () => Date.now() + seconds * 1000,
      log,
    });
    await guard.ready();
  });
  after(async () => {
    await guard.close();
    await issuer.close();
  });

  const refused = async (token: string): Promise<Refusal> => {
    const refusal = (await rejection(guard.admit(bearing(token)))) as unknown as Refusal;
    assert.deepEqual([refusal.name, refusal.status, refusal.code], ['Refusal', 401, 'invalid_token'], refusal.message);
    // Whatever was wrong with it, the token itself is told to nobody.
    const signature = token.split('.')[2] ?? '';
    if (signature.length > 20) assert.ok(!inspect(refusal, { depth: 9 }).includes(signature));
    return refusal;
  };
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

  test('one that was found elsewhere and is no text', async () => {
    for (const found of [['a.b.c'], { a: 'b' }, 7, '']) {
      const refusal = await rejection(guard.admit({ ...bearing('a.b.c'), token: found as unknown as string }));
      assert.deepEqual([refusal.status, refusal.code], [401, 'invalid_token'], JSON.stringify(found));
    }
  });

  test('what one request does to the lists of its session no other sees', async () => {
    const token = await issuer.token({ amr: ['pwd'] });
    const session = await guard.admit(bearing(token));
    for (const list of [session?.scope, session?.amr] as string[][]) assert.throws(() => list.push('notes:write'));
    assert.deepEqual((await guard.admit(bearing(token)))?.scope, ['notes:read']);
  });

  test('a realm of the request goes before that of the guard', async () => {
    const named = new Guard({ issuer: issuer.url, audience: AUDIENCE, realm: 'all', log });
    const challenged = async (realm?: string) => {
      const refusals = [await rejection(named.admit(bearing('a.b.c'), realm))];
      const session = await named.admit(bearing(await issuer.token()), realm);
      assert.throws(
        () => session?.requireScope('x'),
        (error) => refusals.push(error as never) > 0,
      );
      return refusals.map(
        ({ headers }) => /^Bearer realm="(\w+)", error=/.exec((headers as never)['WWW-Authenticate'])?.[1],
      );
    };
    assert.deepEqual(await challenged(), ['all', 'all']);
    assert.deepEqual(await challenged('own'), ['own', 'own']);
    await named.close();
  });

  test('a good one', async () => {
    const session = await guard.admit(
      bearing(await issuer.token({ acr: 'aal1', amr: ['pwd'], auth_time: 7, renew_at: 9e9, name: 'Ann' })),
    );
    assert.ok(session);
    assert.deepEqual(
      [session.id, session.subject, session.clientId, session.scope],
      [SID, SUB, 'notes', ['notes:read']],
    );
    assert.deepEqual([session.acr, session.amr, session.authTime, session.renewAt], ['aal1', ['pwd'], 7, 9e9]);
    assert.equal(session.claims.name, 'Ann');
    assert.deepEqual(session.responseHeaders(), {});
  });

  test('every algorithm', async () => {
    const keys = await Promise.all([newKey('e2'), newKey('d2', 'EdDSA'), newKey('r2', 'RS256')]);
    issuer.publish(issuer.key, ...keys);
    for (const key of keys) await guard.admit(bearing(await issuer.token({}, {}, key)));
  });

  test('without a name the key of its algorithm is found', async () => {
    await guard.admit(bearing(await issuer.token({}, { kid: undefined })));
  });

  test('every change of a character, of a sample of them', async () => {
    const token = await issuer.token();
    await guard.admit(bearing(token));
    const next = random(7);
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=~';
    const places = new Set([0, token.indexOf('.'), token.lastIndexOf('.'), token.length - 1, token.length - 2]);
    while (places.size < 120) places.add(upTo(next, token.length));
    for (const at of places) {
      for (let n = 0; n < 2; n++) {
        const other = alphabet[upTo(next, alphabet.length)] as string;
        if (other === token[at]) continue;
        const changed = token.slice(0, at) + other + token.slice(at + 1);
        const { status } = await rejection(guard.admit(bearing(changed)));
        assert.ok(status === 401 || status === 400, `${at} ${other}: ${status}`);
      }
    }
    for (const changed of [token.slice(0, -1), `${token}A`, `A${token}`, token.slice(1), `${token}=`, `${token}.`]) {
      assert.equal((await rejection(guard.admit(bearing(changed)))).status, 401);
    }
    await guard.admit(bearing(token));
  });

  test('no signature', async () => {
    for (const alg of ['none', 'None', 'NONE', 'nOnE', '', 'HS256', 'ES256K', 'ES384']) {
      const head = encode({ alg, kid: 'k1', typ: 'at+jwt' });
      await refused(`${head}.${encode(issuer.claims())}.`);
      await refused(`${head}.${encode(issuer.claims())}.AAAA`);
    }
    const [head, payload] = (await issuer.token()).split('.');
    await refused(`${head}.${payload}.`);
    await refused(`${head}.${payload}.${Buffer.alloc(64).toString('base64url')}`);
  });

  test('HS256, with the public key as the secret', async () => {
    const { jwk } = issuer.key;
    const key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
    const secrets = [
      key.export({ type: 'spki', format: 'pem' }),
      key.export({ type: 'spki', format: 'der' }),
      JSON.stringify(jwk),
      Buffer.from(jwk.x as string, 'base64url'),
      '',
    ];
    for (const secret of secrets) {
      const text = `${encode({ alg: 'HS256', kid: 'k1', typ: 'at+jwt' })}.${encode(issuer.claims())}`;
      await refused(`${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`);
    }
  });

  test("another's key, under our key's name and in the header", async () => {
    const forger: Key = { ...(await newKey('x')), kid: 'k1' };
    await refused(await issuer.token({}, {}, forger));
    await refused(await issuer.token({}, { jwk: forger.jwk }, forger));
    await refused(await issuer.token({}, { jku: 'http://127.0.0.1:1/jwks', kid: 'x' }, forger));
  });

  test('the algorithm of another key', async () => {
    const rsa = { ...(await newKey('x', 'RS256')), kid: 'k1' };
    await refused(await issuer.token({}, {}, rsa));
  });

  const wrong: Record<string, [Record<string, unknown>, Record<string, unknown>?]> = {
    'another issuer': [{ iss: 'https://other.example' }],
    'no issuer': [{ iss: undefined }],
    'another audience': [{ aud: ['https://other.example'] }],
    'no audience': [{ aud: undefined }],
    'no exp': [{ exp: undefined }],
    'exp is a text': [{ exp: '9999999999' }],
    'no sub': [{ sub: undefined }],
    expired: [{ exp: Math.floor(Date.now() / 1000) - 60 }],
    'not valid yet': [{ nbf: Math.floor(Date.now() / 1000) + 60 }],
    'a JWT': [{}, { typ: 'JWT' }],
    'no type': [{}, { typ: undefined }],
    'an ID token': [{}, { typ: 'id+jwt' }],
    'a logout token': [{}, { typ: 'logout+jwt' }],
  };
  for (const [name, [claims, header]] of Object.entries(wrong)) {
    test(`refused: ${name}`, async () => {
      await refused(await issuer.token(claims, header));
    });
  }

  test('it dies in the cache as well, to the second', async () => {
    const exp = Math.floor(Date.now() / 1000) + 100;
    const token = await issuer.token({ exp });
    await guard.admit(bearing(token));
    seconds = 100 + 3;
    await guard.admit(bearing(token));
    seconds = 100 + 6;
    assert.equal((await refused(token)).message, 'The access token has expired.');
    seconds = 0;
    await guard.admit(bearing(token));
  });

  test('claims of one request are not those of another', async () => {
    const token = await issuer.token({ roles: ['reader'] });
    const [one, two] = await Promise.all([guard.admit(bearing(token)), guard.admit(bearing(token))]);
    (one?.claims.roles as string[]).push('admin');
    assert.deepEqual(two?.claims.roles, ['reader']);
    assert.deepEqual((await guard.admit(bearing(token)))?.claims.roles, ['reader']);
  });

  test('a hundred at once with a token that is new', async () => {
    const token = await issuer.token({ jti: 'at once' });
    const all = await Promise.all(Array.from({ length: 100 }, () => guard.admit(bearing(token))));
    assert.ok(all.every((session) => session?.subject === SUB));
  });

  test('refusals of one check are different objects: middleware writes on them', async () => {
    const token = await issuer.token({}, {}, { ...(await newKey('x')), kid: 'k1' });
    const [one, two] = await Promise.all([refused(token), refused(token)]);
    assert.notEqual(one, two);
    assert.notEqual(one.headers, two.headers);
  });

  test('nothing that prints or serializes shows a token or a claim', async () => {
    const token = await issuer.token({ phone_number: '+4915112345' });
    const session = await guard.admit(bearing(token));
    void session?.claims;
    for (const text of [
      inspect(session, { depth: 9, showHidden: true }),
      JSON.stringify(session),
      `${String(session)}`,
      inspect({ ctx: { state: { session } } }, { depth: 9 }),
    ]) {
      assert.ok(!text.includes(token.split('.')[2] as string) && !text.includes('+4915112345'), text);
    }
    assert.ok(!inspect(guard, { depth: 9, showHidden: true }).includes('secret'));
    assert.ok(inspect(session).includes(SID));
  });

  test('what a route asks for', async () => {
    const now = Math.floor(Date.now() / 1000);
    const session = await guard.admit(bearing(await issuer.token({ scope: 'a b', acr: 'aal1', auth_time: now - 100 })));
    assert.ok(session);
    session.requireScope('a', 'b');
    session.requireScope('b a');
    session.requireAcr('aal2', 'aal1');
    session.requireMaxAge(100);
    const refusedWith = (work: () => void, status: number, code: string) =>
      assert.throws(work, (error: Refusal) => error.status === status && error.code === code);
    refusedWith(() => session.requireScope('a', 'c'), 403, 'insufficient_scope');
    refusedWith(() => session.requireAcr('aal2'), 401, 'insufficient_user_authentication');
    refusedWith(() => session.requireMaxAge(90), 401, 'insufficient_user_authentication');
    // A setting that was forgotten closes the route.
    for (const scopes of [[], [''], [' ']])
      refusedWith(() => session.requireScope(...scopes), 403, 'insufficient_scope');
    for (const values of [[], ['']])
      refusedWith(() => session.requireAcr(...values), 401, 'insufficient_user_authentication');
    refusedWith(() => session.requireMaxAge(NaN), 401, 'insufficient_user_authentication');
    const bare = await guard.admit(bearing(await issuer.token({ acr: '', scope: undefined })));
    refusedWith(() => bare?.requireAcr(''), 401, 'insufficient_user_authentication');
    refusedWith(() => bare?.requireMaxAge(1e9), 401, 'insufficient_user_authentication');
  });

  test('a request without a token, and one with something else', async () => {
    for (const headers of [
      {},
      { authorization: 'Basic YTpi' },
      { cookie: '__Host-reseal=rsl_sc_x; reseal=rsl_sc_x' },
    ]) {
      const refusal = await rejection(guard.admit({ method: 'GET', headers }));
      assert.deepEqual(
        [refusal.status, (refusal.headers as Record<string, string>)['WWW-Authenticate']],
        [401, 'Bearer'],
      );
    }
    assert.equal((await rejection(guard.admit({ headers: { authorization: 'Bearer a b' } }))).status, 400);
    const open = new Guard({ issuer: issuer.url, audience: AUDIENCE, passthrough: true, log });
    assert.equal(await open.admit({ headers: {} }), null);
    assert.equal((await rejection(open.admit(bearing('a.b.c')))).status, 401);
    await open.close();
  });

  test('a token that was found elsewhere goes before the header', async () => {
    const token = await issuer.token();
    assert.equal((await guard.admit({ headers: { authorization: 'Bearer x' }, token }))?.token, token);
    assert.equal((await rejection(guard.admit({ ...bearing(token), token: 'é'.repeat(30_000) }))).status, 401);
    assert.equal((await rejection(guard.admit({ ...bearing(token), token: '' }))).status, 401);
  });
});
