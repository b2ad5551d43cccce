import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import { beforeHead, cookieIn, excepts, putHeaders, type Exceptions } from '../src/adapter/index.js';

/** The head of the answer of a server of one listener. */
async function answerOf(listener: RequestListener): Promise<IncomingMessage> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const request = get({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, agent: false });
    const [answer] = (await once(request, 'response')) as [IncomingMessage];
    answer.resume();
    await once(answer, 'close');
    return answer;
  } finally {
    server.close();
  }
}

describe('before the head', () => {
  const ours = { 'Renewed-Access-Token': 'a.b.c', 'Cache-Control': 'no-store', 'Set-Cookie': ['ours=1'] };
  const put = (res: ServerResponse) => beforeHead(res, () => putHeaders(res, ours));

  const ways: Record<string, (res: ServerResponse) => void> = {
    end: (res) => res.end('x'),
    'write, then end': (res) => {
      res.write('x');
      res.end();
    },
    flushHeaders: (res) => {
      res.flushHeaders();
      res.end();
    },
    'writeHead with an object': (res) => res.writeHead(203, { 'Cache-Control': 'public', 'Set-Cookie': 'app=1' }).end(),
    'writeHead with text and an object': (res) =>
      res.writeHead(203, 'Fine', { 'Cache-Control': 'public', 'Set-Cookie': ['app=1'] }).end(),
    'writeHead with a flat list': (res) =>
      res.writeHead(203, ['Cache-Control', 'public', 'Set-Cookie', 'app=1', 'Set-Cookie', 'app=2']).end(),
    'headers wiped at the last moment': (res) => {
      for (const name of res.getHeaderNames()) res.removeHeader(name);
      res.end();
    },
  };
  for (const [name, way] of Object.entries(ways)) {
    test(name, async () => {
      const answer = await answerOf((_, res) => {
        put(res);
        way(res);
      });
      assert.equal(answer.headers['renewed-access-token'], 'a.b.c');
      assert.equal(answer.headers['cache-control'], 'no-store');
      const cookies = answer.headers['set-cookie'] ?? [];
      assert.equal(cookies.at(-1), 'ours=1');
      if (name.startsWith('writeHead')) {
        assert.equal(cookies[0], 'app=1');
        assert.equal(answer.statusCode, 203);
      }
      if (name.includes('text')) assert.equal(answer.statusMessage, 'Fine');
    });
  }

  test('two who wait are both called, once, the first one last', async () => {
    const called: string[] = [];
    await answerOf((_, res) => {
      beforeHead(res, () => called.push('first'));
      beforeHead(res, () => called.push('second'));
      res.writeHead(204);
      res.end();
    });
    assert.deepEqual(called, ['second', 'first']);
  });

  test('over HTTP/2', async () => {
    const server = createHttp2Server((_, res) => {
      put(res as unknown as ServerResponse);
      res.setHeader('cache-control', 'public');
      res.end('x');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    try {
      const [headers] = (await once(client.request({ ':path': '/' }), 'response')) as [Record<string, unknown>];
      assert.equal(headers['renewed-access-token'], 'a.b.c');
      assert.equal(headers['cache-control'], 'no-store');
    } finally {
      client.destroy();
      server.close();
    }
  });

  test('after the head it is too late, and said so', async () => {
    let late: boolean | undefined;
    await answerOf((_, res) => {
      res.write('x');
      late = beforeHead(res, () => assert.fail('called'));
      res.end();
    });
    assert.equal(late, false);
  });
});

describe('headers beside those of the application', () => {
  const STRONGER = ['CDN-Cache-Control', 'Cloudflare-CDN-Cache-Control', 'Surrogate-Control', 'X-Accel-Expires'];
  const on = async (set: (res: ServerResponse) => void, headers: Record<string, string | string[]>) =>
    (
      await answerOf((_, res) => {
        set(res);
        putHeaders(res, headers);
        putHeaders(res, headers);
        res.end();
      })
    ).headers;

  test('lists are merged, each member once', async () => {
    const headers = await on(
      (res) => {
        res.setHeader('Vary', 'Origin, accept-encoding');
        res.setHeader('Access-Control-Expose-Headers', ['ETag', 'Link']);
      },
      { Vary: 'Accept-Encoding, Authorization', 'Access-Control-Expose-Headers': 'Renewed-Access-Token' },
    );
    assert.equal(headers.vary, 'Origin, accept-encoding, Authorization');
    assert.equal(headers['access-control-expose-headers'], 'ETag, Link, Renewed-Access-Token');
  });

  test('cookies are added, each once', async () => {
    const headers = await on((res) => res.setHeader('Set-Cookie', 'app=1'), { 'Set-Cookie': ['a=1', 'b=2'] });
    assert.deepEqual(headers['set-cookie'], ['app=1', 'a=1', 'b=2']);
  });

  test('what goes before Cache-Control leaves', async () => {
    const headers = await on(
      (res) => {
        res.setHeader('Cache-Control', 'public, max-age=60');
        for (const name of STRONGER) res.setHeader(name, '60');
      },
      { 'Cache-Control': 'no-store' },
    );
    assert.equal(headers['cache-control'], 'no-store');
    assert.deepEqual(
      STRONGER.filter((name) => name.toLowerCase() in headers),
      [],
    );
  });

  test("a cookie of the application's own is newer: a sign-out is not taken back", async () => {
    const headers = await on((res) => res.setHeader('Set-Cookie', 'a=; Max-Age=0'), { 'Set-Cookie': ['a=1', 'b=2'] });
    assert.deepEqual(headers['set-cookie'], ['a=; Max-Age=0', 'b=2']);
  });

  test("a token of the application's own is newer", async () => {
    const headers = await on((res) => res.setHeader('Renewed-Access-Token', 'newest'), {
      'Renewed-Access-Token': 'newer',
    });
    assert.equal(headers['renewed-access-token'], 'newest');
  });
});

test('a cookie among others', () => {
  assert.equal(cookieIn('a=1; token=x.y.z; b=2', 'token'), 'x.y.z');
  assert.equal(cookieIn('token=first; token=second', 'token'), 'first');
  assert.equal(cookieIn('token="quoted"', 'token'), 'quoted');
  assert.equal(cookieIn('token=a%20b', 'token'), 'a b');
  assert.equal(cookieIn('token=%zz', 'token'), '%zz');
  assert.equal(cookieIn('xtoken=1; tokenx=2; token', 'token'), undefined);
  assert.equal(cookieIn(undefined, 'token'), undefined);
  assert.equal(cookieIn(`token=${'x'.repeat(20_000)}`, 'token'), undefined);
});

describe('exceptions', () => {
  const judge = (exceptions: Exceptions<string>, originalUrl: string, method = 'GET', url = originalUrl) =>
    excepts(exceptions, { context: 'context', method, url, originalUrl });

  const cases: [string, Exceptions<string>, string, boolean, string?][] = [
    ['a path', { path: '/public' }, '/public?x=1', true],
    ['a longer path', { path: '/public' }, '/public/x', false],
    ['one of several', { path: ['/a', /^\/b\//] }, '/b/c', true],
    ['none of several', { path: ['/a', /^\/b\//] }, '/c/b/', false],
    ['a path that is only in the query', { path: /^\/public/ }, '/secret?/public', false],
    ['the whole URL', { path: '/public' }, 'http://host/public?x', true],
    ['nothing but a host', { path: '/' }, 'http://host', true],
    ['two slashes are no host', { path: '/public' }, '//host/public', false],
    ['an end', { ext: '.css' }, '/a.css?v=2', true],
    ['an end that is only in the query', { ext: ['.css', '.js'] }, '/a?x=.css', false],
    ['a method', { method: ['OPTIONS', 'HEAD'] }, '/', true, 'OPTIONS'],
    ['another method', { method: 'OPTIONS' }, '/', false],
    ['a path for a method', { path: [{ url: '/a', methods: ['GET'] }] }, '/a', true],
    ['a path for another method', { path: { url: '/a', methods: ['GET'] } }, '/a', false, 'POST'],
    ['no options', {}, '/', false],
    ['the whole URL of another scheme', { path: '/public' }, 'ftp://host/public', false],
    // What routers read in another way, by the rules of `url.parse`, is nobody's exception.
    ['a port that is none', { path: '/login' }, 'http://host:tenant/login', false],
    ['a host that ends early', { path: '/login' }, 'http://host;admin/login', false],
    ['a user name', { path: '/login' }, 'http://host@admin/login', false],
    ['a backslash that becomes a slash', { path: /^\/[^/]+$/ }, '/a\\secret#', false],
    ['a space that is cut off', { path: /^\/secret.+$/ }, '/secret\xa0', false],
    ['a fragment', { path: '/public' }, '/public#x', true],
  ];
  for (const [name, exceptions, url, expected, method] of cases) {
    test(name, async () => assert.equal(await judge(exceptions, url, method), expected));
  }

  test('a pattern with a memory finds the same each time', async () => {
    const exceptions = { path: /public/g };
    assert.equal(await judge(exceptions, '/public'), true);
    assert.equal(await judge(exceptions, '/public'), true);
  });

  test('a promise is no yes', async () => {
    assert.equal(await judge({ custom: () => Promise.resolve(false) }, '/'), false);
    assert.equal(await judge({ custom: (context) => Promise.resolve(context === 'context') }, '/'), true);
    await assert.rejects(judge({ custom: () => Promise.reject(new Error('away')) }, '/'), /away/);
  });

  test('the URL of the client, or as changed on the way', async () => {
    assert.equal(await judge({ path: '/mounted/a' }, '/mounted/a', 'GET', '/a'), true);
    assert.equal(await judge({ path: '/a', useOriginalUrl: false }, '/mounted/a', 'GET', '/a'), true);
  });
});
