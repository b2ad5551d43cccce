import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { bearer } from '../src/bearer.js';
import { challenge } from '../src/challenge.js';
import { Fault } from '../src/errors.js';
import { parseObject } from '../src/json.js';
import { MAX_TOKEN_LENGTH, parseJws } from '../src/jws.js';
import { parsePayload } from '../src/payload.js';
import { insufficientAuthentication, insufficientScope, refusalOf } from '../src/refusal.js';
import { checkHeader, checkParties, checkTime, type Rules } from '../src/rules.js';
import { pick, random, upTo } from './random.js';

const RULES: Rules = {
  issuer: 'https://auth.example',
  audience: ['https://notes.example'],
  algorithms: ['ES256'],
  accessTokens: true,
  leeway: 5,
};
const bytes = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
const part = (value: unknown) => bytes(value).toString('base64url');

describe('the form of a token', () => {
  const header = { alg: 'ES256', kid: 'a', typ: 'at+jwt' };
  const make = (h: unknown, payload: unknown = {}) => `${part(h)}.${part(payload)}.c2ln`;

  test('three parts, of which the header is read', () => {
    const jws = parseJws(make(header, { iss: 'x' }));
    assert.deepEqual([jws.header.alg, jws.header.kid, jws.header.typ], ['ES256', 'a', 'at+jwt']);
    assert.equal(Buffer.from(jws.payload).toString(), '{"iss":"x"}');
  });

  const bad: Record<string, string> = {
    empty: '',
    'one part': 'abc',
    'two parts': `${part(header)}.${part({})}`,
    'four parts': `${make(header)}.x`,
    'five parts, a JWE': `${make(header)}.x.y`,
    'no JSON': make('{'),
    'no object': make('[]'),
    'a null': make('null'),
    'no alg': make({ typ: 'at+jwt' }),
    'alg is a number': make({ alg: 1 }),
    'kid is an object': make({ ...header, kid: {} }),
    'typ is a number': make({ ...header, typ: 1 }),
    crit: make({ ...header, crit: ['exp'] }),
    'empty crit': make({ ...header, crit: [] }),
    'b64 is false': make({ ...header, b64: false }),
    'alg twice': make('{"alg":"ES256","alg":"none"}'),
    'alg twice, one of them escaped': make('{"alg":"ES256","\\u0061lg":"none"}'),
    padding: `${part(header)}=.${part({})}.c2ln`,
    'another alphabet': `${part(header)}.a+/b.c2ln`,
    'bits that nobody reads': `${part(header)}.${part({})}.c2lo`.replace('c2lo', 'QR'),
    'a line feed': `${part(header)}\n.${part({})}.c2ln`,
    'no UTF-8': `${Buffer.from([0x7b, 0xff, 0x7d]).toString('base64url')}.${part({})}.c2ln`,
    'a byte order mark': make('\ufeff{"alg":"ES256"}'),
    'a long header': make({ ...header, pad: 'x'.repeat(8192) }),
    'many members': make({ ...header, ...Object.fromEntries(Array.from({ length: 64 }, (_, i) => [`m${i}`, i])) }),
    'too long': 'a'.repeat(MAX_TOKEN_LENGTH + 1),
  };
  for (const [name, token] of Object.entries(bad)) {
    test(`refused: ${name}`, () => assert.throws(() => parseJws(token), Fault));
  }
});

describe('JSON objects', () => {
  test('members are counted once, wherever colons stand', () => {
    const value = { a: 'x:"y', 'b:"': [{ c: ':' }, 'd\\'], '\\': { e: { f: 1 } }, '"': null };
    assert.deepEqual(parseObject(JSON.stringify(value), 9), value);
    assert.equal(parseObject(JSON.stringify(value), 3), undefined);
  });

  test('a member that is there twice is refused, one level deeper it is passed by', () => {
    assert.equal(parseObject('{"a":1,"b":2,"a":1}', 9), undefined);
    assert.equal(parseObject('{"__proto__":1,"__proto__":2}', 9), undefined);
    assert.deepEqual(parseObject('{"a":{"b":1,"b":2}}', 9), { a: { b: 2 } });
  });

  test('any object survives, and doubling one of its members does not', () => {
    for (let seed = 1; seed <= 300; seed++) {
      const next = random(seed);
      const text = () =>
        Array.from({ length: upTo(next, 6) }, () =>
          pick(next, ['a', '"', '\\', ':', '{', '}', ',', '[', 'é', '\n']),
        ).join('');
      const object = Object.fromEntries(
        Array.from({ length: 1 + upTo(next, 6) }, () => [
          text(),
          pick<unknown>(next, [text(), [text()], { [text()]: text() }, 1, null]),
        ]),
      );
      const json = JSON.stringify(object);
      assert.deepEqual(parseObject(json, 99), object, `seed ${seed}: ${json}`);
      const twice = `${json.slice(0, -1)},${JSON.stringify(pick(next, Object.keys(object)))}:0}`;
      assert.equal(parseObject(twice, 99), undefined, `seed ${seed}: ${twice}`);
    }
  });
});

describe('claims', () => {
  const read = (claims: unknown) => parsePayload(bytes(claims)).registered;

  test('times are rounded so that no token lives longer than it says', () => {
    const claims = read({ exp: 10.9, nbf: 3.1, iat: 2.9, auth_time: 1.5 });
    assert.deepEqual([claims.exp, claims.nbf, claims.iat, claims.authTime], [10, 4, 2, 1]);
  });

  test('text or array', () => {
    assert.deepEqual(read({ aud: 'a' }).aud, ['a']);
    assert.deepEqual(read({ aud: ['a', 'b'] }).aud, ['a', 'b']);
    assert.deepEqual(read({ scope: 'a  b' }).scope, ['a', 'b']);
    assert.deepEqual(read({ scope: ['a', 'b c'] }).scope, ['a', 'b', 'c']);
    assert.deepEqual(read({}).aud, []);
  });

  test('names of ours with other meanings count as absent', () => {
    for (const rev of ['3', -1, 1.5, null, {}, 2 ** 60]) assert.equal(read({ rev }).rev, undefined);
    assert.equal(read({ renew_at: 'soon' }).renewAt, undefined);
  });

  for (const claims of [
    { exp: '10' },
    { exp: {} },
    { nbf: 'x' },
    { iss: 1 },
    { sub: ['a'] },
    { aud: 1 },
    { aud: [1] },
    { aud: {} },
    { scope: 1 },
    { amr: [{}] },
    { acr: 2 },
    { sid: {} },
    { client_id: 1 },
    { aud: Array(257).fill('a') },
    [],
    'null',
    '"x"',
    '{"exp":1e999}',
    '{"sub":"a","sub":"b"}',
    '',
    '{',
    Object.fromEntries(Array.from({ length: 257 }, (_, i) => [`c${i}`, i])),
  ]) {
    test(`refused: ${JSON.stringify(claims).slice(0, 40)}`, () => assert.throws(() => read(claims), Fault));
  }
});

describe('the rules', () => {
  const claims = (more: object = {}) =>
    parsePayload(bytes({ iss: RULES.issuer, sub: 'a', aud: ['x', 'https://notes.example'], exp: 100, ...more }))
      .registered;
  const header = (typ: string | undefined, alg = 'ES256') => ({ alg, typ, kid: undefined, all: {} });

  test('the type in any case, with and without application/', () => {
    for (const typ of ['at+jwt', 'AT+JWT', 'application/at+jwt', 'Application/at+JWT']) checkHeader(RULES, header(typ));
    for (const typ of [
      undefined,
      '',
      'JWT',
      'at',
      'application/x/at+jwt',
      'at+jwt ',
      'application/application/at+jwt',
    ]) {
      assert.throws(() => checkHeader(RULES, header(typ)), Fault, typ);
    }
  });

  test('only listed algorithms', () => {
    for (const alg of ['none', 'NONE', 'HS256', 'RS256', 'es256', 'ES256 ']) {
      assert.throws(() => checkHeader(RULES, header('at+jwt', alg)), Fault, alg);
    }
  });

  test('issuer exactly, one of the audience', () => {
    checkParties(RULES, claims());
    for (const more of [
      { iss: 'https://auth.example/' },
      { iss: undefined },
      { iss: 'https://other.example' },
      { aud: 'x' },
      { aud: [] },
      { aud: 'https://notes.example/' },
      { aud: undefined },
      { exp: undefined },
      { sub: undefined },
    ]) {
      assert.throws(() => checkParties(RULES, claims(more)), Fault, JSON.stringify(more));
    }
  });

  test('dead from exp + leeway on, valid from nbf - leeway on, to the second', () => {
    const token = claims({ nbf: 50 });
    assert.throws(() => checkTime(RULES, token, 44), /not valid yet/);
    for (const now of [45, 50, 100, 104]) checkTime(RULES, token, now);
    for (const now of [105, 1e12])
      assert.throws(
        () => checkTime(RULES, token, now),
        (fault) => (fault as Fault).kind === 'expired',
      );
  });

  test('plain JWTs need neither exp nor sub', () => {
    const plain = { ...RULES, accessTokens: false, issuer: undefined, audience: undefined };
    const none = parsePayload(bytes({})).registered;
    checkHeader(plain, header(undefined));
    checkParties(plain, none);
    checkTime(plain, none, 1e12);
  });
});

describe('Authorization', () => {
  const read = (authorization: string, rawHeaders?: string[]) => bearer({ headers: { authorization }, rawHeaders });

  test('one token of the scheme in any case', () => {
    for (const value of ['Bearer a.b.c', 'bearer a.b.c', 'BEARER  a.b.c '])
      assert.deepEqual(read(value), { token: 'a.b.c' });
    assert.deepEqual(read('Bearer AZaz09-._~+/=='), { token: 'AZaz09-._~+/==' });
  });

  test('another scheme is no token', () => {
    for (const value of ['Basic YTpi', 'DPoP a.b.c', 'Bearers a', 'a.b.c', ''])
      assert.equal(read(value), 'none', value);
    assert.equal(bearer({ headers: {} }), 'none');
  });

  test('what cannot be read is malformed', () => {
    for (const value of [
      'Bearer',
      'Bearer ',
      'Bearer a b',
      'Bearer a,b',
      'Bearer =',
      'Bearer a=b',
      'Bearer a\tb',
      'Bearer é',
    ]) {
      assert.equal(read(value), 'malformed', value);
    }
    const raw = ['Host', 'x', 'authorization', 'Bearer a.b.c', 'AUTHORIZATION', 'Bearer a.b.c'];
    assert.equal(read('Bearer a.b.c', raw), 'malformed', 'two headers, even equal ones');
    assert.deepEqual(read('Bearer a.b.c', raw.slice(0, 4)), { token: 'a.b.c' });
  });

  test('a long row of spaces takes no long time', () => {
    const before = process.cpuUsage();
    assert.equal(read(`Bearer a${' '.repeat(100_000)}b`), 'malformed');
    assert.ok(process.cpuUsage(before).user < 2_000_000);
  });
});

describe('challenges', () => {
  test('parameters follow each other', () => {
    assert.equal(challenge(undefined, []), 'Bearer');
    assert.equal(challenge('notes', []), 'Bearer realm="notes"');
    const text = challenge('a "b" \\', [
      ['error', 'invalid_token'],
      ['error_description', 'gone'],
    ]);
    assert.equal(text, String.raw`Bearer realm="a \"b\" \\", error="invalid_token", error_description="gone"`);
  });

  test('nothing can be injected', () => {
    assert.equal(
      challenge(undefined, [['scope', 'a", error="x\r\nSet-Cookie: b']]),
      `Bearer scope="a', error='x??Set-Cookie: b"`,
    );
    for (let seed = 1; seed <= 500; seed++) {
      const next = random(seed);
      const any = () =>
        String.fromCodePoint(
          ...Array.from({ length: upTo(next, 20) }, () =>
            pick(next, [34, 92, 13, 10, 0, 127, 44, 61, 65, 233, 0x1f980]),
          ),
        );
      const text = challenge(any(), [['scope', any()]]);
      assert.match(text, /^Bearer realm="(?:[^"\\]|\\["\\])*", scope="[^"\\]*"$/, `seed ${seed}`);
      assert.match(text, /^[\x20-\x7e]*$/, `seed ${seed}`);
    }
    assert.ok(challenge('x'.repeat(1e6), [['scope', 'y'.repeat(1e6)]]).length < 1100);
  });
});

describe('answers', () => {
  const of = (kind: Fault['kind'], more: { reason?: string; retryAfter?: number } = {}, realm?: string) =>
    refusalOf(new Fault(kind, 'it is so', more), realm);
  const bearerError = (text: string) => `Bearer error="invalid_token", error_description="${text}"`;

  test('as the Rust layer gives them', () => {
    const table: [Fault['kind'], { reason?: string }, number, string | undefined, object][] = [
      [
        'missing',
        {},
        401,
        'Bearer',
        { error: 'unauthorized', error_description: 'Sign in first: send an access token as a Bearer token.' },
      ],
      [
        'malformed',
        {},
        400,
        'Bearer error="invalid_request", error_description="The Authorization header must be `Bearer` and one token."',
        { error: 'invalid_request', error_description: 'The Authorization header must be `Bearer` and one token.' },
      ],
      [
        'invalid',
        {},
        401,
        bearerError('The access token is not valid here: it is so.'),
        { error: 'invalid_token', error_description: 'The access token is not valid here: it is so.' },
      ],
      [
        'expired',
        {},
        401,
        bearerError('The access token has expired.'),
        { error: 'invalid_token', error_description: 'The access token has expired.' },
      ],
      [
        'ended',
        { reason: 'signed_out' },
        401,
        bearerError('The session is over (signed_out). Sign in again.'),
        {
          error: 'invalid_token',
          error_description: 'The session is over (signed_out). Sign in again.',
          reason: 'signed_out',
        },
      ],
      [
        'ended',
        {},
        401,
        bearerError('The authority does not accept the access token.'),
        { error: 'invalid_token', error_description: 'The authority does not accept the access token.' },
      ],
      [
        'changed',
        {},
        401,
        bearerError('The claims have changed since the access token was issued. Renew it and try again.'),
        {
          error: 'invalid_token',
          error_description: 'The claims have changed since the access token was issued. Renew it and try again.',
          reason: 'claims_changed',
        },
      ],
      [
        'unavailable',
        {},
        503,
        undefined,
        {
          error: 'temporarily_unavailable',
          error_description: 'The access token cannot be judged right now. Try again; keep your session.',
        },
      ],
    ];
    for (const [kind, more, status, header, body] of table) {
      const refusal = of(kind, more);
      assert.deepEqual(
        [refusal.status, refusal.statusCode, refusal.headers['WWW-Authenticate'], refusal.body],
        [status, status, header, body],
      );
      assert.equal(refusal.headers['Cache-Control'], 'no-store');
      assert.equal(refusal.headers['Retry-After'], status === 503 ? '1' : undefined);
      assert.equal(refusal.message, refusal.body.error_description);
    }
    assert.equal(of('cross-site').status, 403);
    assert.equal(of('unavailable', { retryAfter: 7 }).headers['Retry-After'], '7');
    assert.equal(of('missing', {}, 'notes').headers['WWW-Authenticate'], 'Bearer realm="notes"');
  });

  test('what would do is told', () => {
    const scope = insufficientScope(['notes:write', 'x"y'], undefined);
    assert.deepEqual([scope.status, scope.code], [403, 'insufficient_scope']);
    assert.equal(scope.headers['WWW-Authenticate'], `Bearer error="insufficient_scope", scope="notes:write x'y"`);
    const both = insufficientAuthentication(['aal2', 'aal3'], 300, undefined);
    assert.equal(
      both.headers['WWW-Authenticate'],
      'Bearer error="insufficient_user_authentication", acr_values="aal2 aal3", max_age="300"',
    );
    assert.deepEqual(both.body, {
      error: 'insufficient_user_authentication',
      error_description: 'This needs a stronger or more recent login.',
      acr_values: 'aal2 aal3',
      max_age: 300,
    });
    assert.equal(
      insufficientAuthentication([], 0, undefined).headers['WWW-Authenticate'],
      'Bearer error="insufficient_user_authentication", max_age="0"',
    );
  });

  test('what is no fault is not hidden', () => {
    const bug = new TypeError('a bug');
    assert.throws(() => refusalOf(bug, undefined), bug);
  });
});
