import assert from 'node:assert/strict';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough } from 'node:stream';
import { describe, test } from 'node:test';
import { backoff, slowBackoff } from '../src/feed/backoff.js';
import { createReader } from '../src/feed/connection.js';
import { decode, formatPosition, parsePosition } from '../src/feed/message.js';
import { createSseParser, MAX_DATA_LENGTH, TOO_LONG, type Message } from '../src/feed/sse.js';
import { Guard } from '../src/index.js';
import { eventually } from '../../tools/authority.js';
import { AUDIENCE, bearing, keepLog, rejection, SID, startIssuer, SUB, type Issuer } from './issuer.js';
import { pick, random, upTo } from './random.js';

function parse(chunks: readonly Uint8Array[]): (Message | typeof TOO_LONG)[] {
  const parser = createSseParser();
  return chunks.flatMap((chunk) => parser.push(chunk));
}

function parseText(text: string) {
  return parse([Buffer.from(text)]);
}

describe('server-sent events', () => {
  const message = (name: string, data: string, id?: string) => ({ name, data, id });

  test('messages are read as the standard has it', () => {
    const stream =
      '\ufeff: a comment\nevent: one\nid: 7\ndata: {}\n\n' +
      'data:first\ndata: second\ndata\nretry: 10\nunknown: x\n\n' +
      'event: no data\n\nid: with\0nul\ndata:  two spaces\n\n:\n\ndata\n\nevent: cut off\ndata: never dispatched\n';
    const expected = [
      message('one', '{}', '7'),
      message('', 'first\nsecond\n'),
      message('', ' two spaces'),
      message('', ''),
    ];
    for (const end of ['\n', '\r', '\r\n'])
      assert.deepEqual(parseText(stream.replaceAll('\n', end)), expected, JSON.stringify(end));
  });

  test('a byte order mark is one only at the start', () => {
    assert.deepEqual(parseText('\n\ufeffdata: x\n\n'), []);
    assert.deepEqual(parseText('\ufeff\ufeffdata: x\n\n'), []);
    assert.deepEqual(parseText('\ufeffdata: x\n\n'), [message('', 'x')]);
  });

  test('lines and messages are bounded, and nothing is read after one that is too long', () => {
    const long = 'x'.repeat(MAX_DATA_LENGTH);
    assert.deepEqual(parseText(`data: ${long}\n\n`), [message('', long)]);
    for (const bad of [
      `data: ${long}y\n\n`,
      `data: ${long}\ndata\n\n`,
      'data: xxxxxxxxx\n'.repeat(9000),
      `id: ${long}\n`,
      `event: ${long}\n`,
      `data: ${'é'.repeat(MAX_DATA_LENGTH / 2 + 1)}\n\n`,
    ]) {
      assert.deepEqual(parseText(bad), [TOO_LONG], bad.slice(0, 20));
    }
    const parser = createSseParser();
    const chunk = Buffer.alloc(1000, 'x');
    const seen = Array.from({ length: 200 }, () => parser.push(chunk)).flat();
    assert.equal(seen[0], TOO_LONG);
    assert.ok(parser.push(Buffer.from('\n\ndata: x\n\n')).every((each) => each === TOO_LONG));
  });

  test('any chunking gives the same messages, split at every byte, too', () => {
    for (let seed = 1; seed <= 300; seed++) {
      const next = random(seed);
      const pieces = [
        '\n',
        '\r',
        '\r\n',
        '\n\n',
        'data: ',
        'event:',
        'id: ',
        ': ',
        '\ufeff',
        'é€🦀',
        'abc{}0',
        '\0',
        '\ud800',
      ];
      const bytes = Buffer.from(Array.from({ length: upTo(next, 60) }, () => pick(next, pieces)).join(''));
      const whole = parse([bytes]);
      assert.deepEqual(
        parse(Array.from(bytes, (_, i) => bytes.subarray(i, i + 1))),
        whole,
        `seed ${seed}, byte by byte`,
      );
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length;) {
        const length = upTo(next, 9);
        chunks.push(bytes.subarray(at, at + length));
        at += length;
      }
      assert.deepEqual(parse(chunks), whole, `seed ${seed}`);
    }
  });

  test('a chunk that is overwritten later has been read', () => {
    const parser = createSseParser();
    const shared = Buffer.from('data: abc');
    parser.push(shared);
    shared.fill('z');
    assert.deepEqual(parser.push(Buffer.from('\n\n')), [message('', 'abc')]);
  });
});

describe('messages', () => {
  const read = (name: string, data: unknown) =>
    decode({ name, data: typeof data === 'string' ? data : JSON.stringify(data), id: undefined });

  test('each kind', () => {
    assert.deepEqual(read('caught-up', { seq: 3 }), { is: 'caught-up', seq: 3 });
    assert.deepEqual(read('heartbeat', { seq: 3, now: 9 }), { is: 'heartbeat', seq: 3, now: 9 });
    assert.deepEqual(read('start-over', '{}'), { is: 'start-over' });
    assert.deepEqual(read('session-ended', { seq: 1, sid: 's', reason: 'revoked', until: 9, more: 1 }), {
      is: 'event',
      seq: 1,
      event: { type: 'session-ended', sid: 's', reason: 'revoked', until: 9 },
    });
    assert.deepEqual(read('keys-changed', { seq: 1, withdrawn: ['a'], until: 9 }), {
      is: 'event',
      seq: 1,
      event: { type: 'keys-changed', withdrawn: ['a'], until: 9 },
    });
    assert.equal(read('of-a-later-version', 'anything'), undefined);
  });

  test('what is not what it should be is never passed by', () => {
    for (const [name, data] of [
      ['caught-up', '{'],
      ['caught-up', {}],
      ['caught-up', { seq: '3' }],
      ['heartbeat', { seq: 3 }],
      ['heartbeat', 'null'],
      ['session-ended', { seq: 1, sid: 's', reason: 'x' }],
      ['session-ended', { seq: 1, sid: 4, reason: 'x', until: 9 }],
      ['claims-changed', { seq: 1, sub: 's', until: 9 }],
      ['client-changed', { seq: 1, client_id: 's', before: 1.5, until: 9 }],
      ['keys-changed', { seq: 1, withdrawn: 'a', until: 9 }],
      ['keys-changed', { seq: 1, withdrawn: [1], until: 9 }],
    ] as const) {
      assert.throws(() => read(name, data), `${name} ${JSON.stringify(data)}`);
    }
  });

  test('positions have one spelling', () => {
    const epoch = '0123456789abcdef0123456789abcdef';
    assert.deepEqual(parsePosition(`${epoch}.47`), { epoch, seq: 47 });
    assert.equal(formatPosition({ epoch, seq: 47 }), `${epoch}.47`);
    for (const bad of [
      undefined,
      '',
      '47',
      `${epoch}.`,
      `${epoch}.047`,
      `${epoch}.+1`,
      `${epoch}.1 `,
      `${epoch.toUpperCase()}.1`,
      `${epoch}0.1`,
    ]) {
      assert.equal(parsePosition(bad), undefined, bad);
    }
  });

  test('it tries often for a while, then doubles up to five seconds, and jitters over all of it', () => {
    const bounds = Array.from({ length: 26 }, (_, failures) => backoff(failures, 1));
    assert.deepEqual(bounds, [50, 100, 200, ...Array(17).fill(250), 500, 1000, 2000, 4000, 5000, 5000]);
    assert.equal(backoff(3, 0), 0);
    assert.deepEqual([slowBackoff(0), slowBackoff(1), backoff(1e6, 1)], [7500, 15000, 5000]);
  });
});

/** The connections of a scripted feed: the test writes to the newest. */
function scriptFeed(issuer: Issuer) {
  const epoch = 'a'.repeat(32);
  const connections: { request: IncomingMessage; response: ServerResponse }[] = [];
  issuer.on('/v1/feed', (request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.flushHeaders();
    connections.push({ request, response });
  });
  return {
    connections,
    write(name: string, data: Record<string, unknown>, id?: string) {
      const at = id === undefined ? '' : `id: ${id}\n`;
      connections.at(-1)?.response.write(`event: ${name}\n${at}data: ${JSON.stringify(data)}\n\n`);
    },
    event(name: string, seq: number, data: Record<string, unknown>) {
      this.write(name, { seq, until: Math.floor(Date.now() / 1000) + 900, ...data }, `${epoch}.${seq}`);
    },
    end: () => void connections.at(-1)?.response.destroy(),
    /** The `Last-Event-ID` of each connection. */
    asked: () => connections.map(({ request }) => request.headers['last-event-id']),
    id: (seq: number) => `${epoch}.${seq}`,
  };
}

describe('a connection', () => {
  const opened = (status = 200, type = 'text/event-stream; charset=utf-8') => {
    const stream = new PassThrough();
    return Object.assign(stream, { statusCode: status, headers: { 'content-type': type } });
  };
  const connect = (stream: PassThrough, silence = 60_000) => {
    const authority = { open: async () => stream as unknown as IncomingMessage, forgetToken: () => {} };
    const taken: string[] = [];
    const reader = createReader(authority, { connected: () => {}, take: ({ is }) => void taken.push(is) }, silence);
    return { end: reader.connect(), taken, reader };
  };

  test('silence ends it, and comments and half messages are silence', async () => {
    const stream = opened();
    const { end } = connect(stream, 100);
    const noise = setInterval(() => stream.write(': ping\n\nevent: unknown\ndata: x\n\ndata: never'), 10);
    assert.deepEqual(await end, { how: 'broken', why: 'nothing was heard for too long' });
    clearInterval(noise);
    assert.equal(stream.destroyed, true);
  });

  test('how it ends', async () => {
    const { end, taken } = connect(opened().end('event: heartbeat\ndata: {"seq":1,"now":2}\n\n'));
    assert.deepEqual([await end, taken], [{ how: 'orderly' }, ['heartbeat']]);
    const how = async (stream: PassThrough) => (await connect(stream).end).how;
    assert.equal(await how(opened(401)), 'unauthorized');
    assert.equal(await how(opened(403)), 'forbidden');
    for (const [status, type] of [
      [200, 'text/html'],
      [400, 'text/event-stream'],
      [503, ''],
      [302, ''],
    ] as const)
      assert.equal(await how(opened(status, type)), 'broken');
    const cut = opened();
    const { end: ended } = connect(cut);
    setImmediate(() => cut.destroy(Object.assign(new Error('with an address in it'), { code: 'ECONNRESET' })));
    assert.deepEqual(await ended, { how: 'broken', why: 'ECONNRESET' });
  });

  test('nothing of an interrupted connection is taken in', async () => {
    const stream = opened();
    const { end, taken, reader } = connect(stream);
    await new Promise((resolve) => setImmediate(resolve));
    reader.interrupt({ how: 'start-over', why: 'so' });
    stream.write('event: caught-up\ndata: {"seq":1}\n\n');
    assert.deepEqual([await end, taken], [{ how: 'start-over', why: 'so' }, []]);
  });
});

describe('reading a feed', () => {
  const follow = async (
    work: (parts: { issuer: Issuer; feed: ReturnType<typeof scriptFeed>; guard: Guard }) => Promise<void>,
  ) => {
    const issuer = await startIssuer();
    const feed = scriptFeed(issuer);
    const client = { id: 'svc', secret: 'shh' };
    const guard = new Guard({ issuer: issuer.url, audience: AUDIENCE, client, onStale: 'refuse', log: keepLog() });
    try {
      await eventually('a connection', () => feed.connections.length === 1);
      await work({ issuer, feed, guard });
    } finally {
      await guard.close();
      await issuer.close();
    }
  };
  const entries = (guard: Guard) => guard.health().feed?.entries;
  const caughtUp = (guard: Guard) => eventually('caught up', () => guard.health().feed?.caughtUp === true);

  test('ready when it has caught up; it comes back where it was', () =>
    follow(async ({ feed, guard, issuer }) => {
      let ready = false;
      const becoming = guard.ready().then(() => (ready = true));
      feed.event('session-ended', 4, { sid: SID, reason: 'signed_out' });
      await eventually('the event', () => entries(guard)?.sessions === 1);
      assert.deepEqual([ready, guard.health().feed?.lost], [false, true]);
      feed.write('caught-up', { seq: 4 });
      await becoming;
      const refusal = await rejection(guard.admit(bearing(await issuer.token())));
      assert.deepEqual([refusal.status, (refusal.body as { reason: string }).reason], [401, 'signed_out']);
      feed.end();
      await eventually('a second connection', () => feed.connections.length === 2);
      assert.deepEqual(feed.asked(), [undefined, feed.id(4)]);
      assert.equal(guard.health().feed?.lost, false, 'a short interruption is no loss');
      feed.write('caught-up', { seq: 4 });
      await caughtUp(guard);
      assert.equal((await rejection(guard.admit(bearing(await issuer.token())))).status, 401, 'nothing was forgotten');
    }));

  test('claims that changed, a client that changed', () =>
    follow(async ({ feed, guard, issuer }) => {
      feed.write('caught-up', { seq: 0 });
      await guard.ready();
      const old = await issuer.token({ rev: 3 });
      assert.equal((await guard.admit(bearing(old)))?.claims.rev, 3);
      feed.event('claims-changed', 1, { sub: SUB, rev: 4 });
      await eventually(
        'it is stale',
        async () =>
          (await guard.admit(bearing(old)).catch((e: { body: { reason?: string } }) => e.body.reason)) ===
          'claims_changed',
      );
      await guard.admit(bearing(await issuer.token({ rev: 4 })));
      feed.event('client-changed', 2, { client_id: 'notes', before: Math.floor(Date.now() / 1000) + 60 });
      await eventually('the client', () => entries(guard)?.clients === 1);
      assert.equal((await rejection(guard.admit(bearing(await issuer.token({ rev: 4 }))))).status, 401);
      await guard.admit(bearing(await issuer.token({ rev: 4, client_id: 'another' })));
    }));

  const holes: Record<string, (feed: ReturnType<typeof scriptFeed>) => void> = {
    'a message that is too long': (feed) => feed.write('heartbeat', { pad: 'x'.repeat(70_000) }),
    'an event that cannot be read': (feed) => feed.event('session-ended', 6, { sid: 1, reason: 'x' }),
    'an event without a position': (feed) => feed.write('claims-changed', { seq: 6, sub: 'x', rev: 1, until: 9e9 }),
    'an event with another position': (feed) =>
      feed.write('claims-changed', { seq: 7, sub: 'x', rev: 1, until: 9e9 }, feed.id(6)),
    'another epoch': (feed) =>
      feed.write('claims-changed', { seq: 6, sub: 'x', rev: 1, until: 9e9 }, `${'b'.repeat(32)}.6`),
    'an event from before': (feed) => feed.event('claims-changed', 4, { sub: 'x', rev: 1 }),
    'a node that has read less': (feed) => feed.write('heartbeat', { seq: 4, now: 1 }),
  };
  for (const [name, dig] of Object.entries(holes)) {
    test(`all comes again after ${name}, and nothing is forgotten before`, () =>
      follow(async ({ feed, guard, issuer }) => {
        feed.event('session-ended', 5, { sid: SID, reason: 'revoked' });
        feed.write('caught-up', { seq: 5 });
        await guard.ready();
        dig(feed);
        await eventually('a second connection', () => feed.connections.length === 2);
        assert.deepEqual(feed.asked(), [undefined, undefined]);
        assert.equal((await rejection(guard.admit(bearing(await issuer.token())))).status, 401);
        feed.event('claims-changed', 9, { sub: 'y', rev: 1 });
        feed.write('caught-up', { seq: 9 });
        await eventually('only what came again is known', () => entries(guard)?.sessions === 0);
        await guard.admit(bearing(await issuer.token()));
        assert.equal(guard.health().feed?.starts, 1);
      }));
  }

  test('start-over on a connection; names that are not known move the position only', () =>
    follow(async ({ feed, guard }) => {
      feed.event('session-ended', 5, { sid: SID, reason: 'revoked' });
      feed.write('start-over', {});
      feed.write('of-a-later-version', { what: 'ever' }, `${'c'.repeat(32)}.2`);
      feed.write('caught-up', { seq: 2 });
      await guard.ready();
      assert.deepEqual(entries(guard), { sessions: 0, users: 0, clients: 0, keys: 0 });
      feed.end();
      await eventually('a second connection', () => feed.connections.length === 2);
      assert.deepEqual(feed.asked(), [undefined, `${'c'.repeat(32)}.2`]);
    }));

  test('a withdrawn key is dead at once, and the set is fetched again', () =>
    follow(async ({ feed, guard, issuer }) => {
      feed.write('caught-up', { seq: 0 });
      await guard.ready();
      const token = await issuer.token();
      await guard.admit(bearing(token));
      const before = issuer.count('/jwks.json');
      feed.event('keys-changed', 1, { withdrawn: ['k1'] });
      await eventually(
        'refused',
        async () => (await guard.admit(bearing(token)).catch((e: { status: number }) => e.status)) === 401,
      );
      await eventually('fetched again', () => issuer.count('/jwks.json') > before);
      // The issuer, or a cache on the way, still shows it.
      assert.match((await rejection(guard.admit(bearing(await issuer.token())))).message, /withdrawn/);
    }));

  test('a feed that may not be read says why, and the first try is over', async () => {
    const issuer = await startIssuer();
    const log = keepLog();
    issuer.on('/oauth/token', (_, response) => response.writeHead(400).end(JSON.stringify({ error: 'invalid_scope' })));
    const guard = new Guard({ issuer: issuer.url, audience: AUDIENCE, client: { id: 'a', secret: 'shh' }, log });
    await guard.ready();
    assert.match(log.lines.join('\n'), /lacks the scope reseal:feed/);
    assert.match(guard.health().feed?.problem ?? '', /lacks the scope/);
    // Lost, and yet by default tokens are good until they expire.
    await guard.admit(bearing(await issuer.token()));
    await guard.close();
    await issuer.close();
  });
});
