import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createCache } from '../src/cache.js';
import { createFreshness, type Facts } from '../src/freshness/freshness.js';
import { createLink } from '../src/freshness/link.js';
import { createMaps, type FeedEvent } from '../src/freshness/maps.js';
import { pick, random, upTo } from './random.js';

const FACTS: Facts = { kid: 'k', sid: 'AAECAwQFBgcICQoLDA0ODw', sub: 'u', rev: 3, clientId: 'c', iat: 100 };
const facts = (more: Partial<Facts> = {}): Facts => ({ ...FACTS, ...more });
const ENDED: FeedEvent = { type: 'session-ended', sid: FACTS.sid as string, reason: 'signed_out', until: 1000 };

describe('what the feed told', () => {
  test('each kind of event, and the worst counts', () => {
    const freshness = createFreshness();
    const kind = (more: Partial<Facts> = {}) => freshness.judge(facts(more)).kind;
    assert.equal(kind(), 'current');
    freshness.apply({ type: 'claims-changed', sub: 'u', rev: 4, until: 1000 });
    assert.deepEqual(
      [kind(), kind({ rev: 4 }), kind({ rev: undefined }), kind({ sub: 'v' })],
      ['stale', 'current', 'stale', 'current'],
    );
    assert.equal(kind({ sid: undefined }), 'current', "a client's own token has its name as `sub`");
    freshness.apply({ type: 'client-changed', clientId: 'c', before: 100, until: 1000 });
    assert.deepEqual(
      [kind({ rev: 4 }), kind({ rev: 4, iat: 99 }), kind({ rev: 4, iat: undefined })],
      ['current', 'stale', 'stale'],
    );
    freshness.apply(ENDED);
    assert.deepEqual(freshness.judge(facts()), { kind: 'ended', reason: 'signed_out' });
    freshness.apply({ type: 'keys-changed', withdrawn: ['j', 'k'], until: 1000 });
    assert.equal(kind(), 'withdrawn');
    assert.equal(freshness.isWithdrawn('j'), true);
    assert.deepEqual(freshness.entries(), { sessions: 1, users: 1, clients: 1, keys: 2 });
  });

  test('a reason of a later authority ends a session all the same', () => {
    const freshness = createFreshness();
    freshness.apply({ ...ENDED, reason: 'moved_to_mars' });
    assert.deepEqual(freshness.judge(facts()), { kind: 'ended', reason: 'revoked' });
  });

  test('a session ends, whatever its time is said to be', () => {
    for (const until of [Number.MAX_SAFE_INTEGER, 2 ** 50 + 1, -1]) {
      const freshness = createFreshness();
      freshness.apply({ ...ENDED, until });
      assert.equal(freshness.judge(facts()).kind, 'ended', `${until}`);
    }
  });

  test('any order and repetition give the same, and nothing gets milder', () => {
    const severity = { current: 0, stale: 1, ended: 2, withdrawn: 3 };
    for (let seed = 1; seed <= 200; seed++) {
      const next = random(seed);
      const event = (): FeedEvent => {
        const until = 500 + upTo(next, 500);
        return pick<() => FeedEvent>(next, [
          () => ({
            type: 'session-ended',
            sid: `s${upTo(next, 4)}`,
            reason: pick(next, ['revoked', 'signed_out']),
            until,
          }),
          () => ({ type: 'claims-changed', sub: `u${upTo(next, 3)}`, rev: upTo(next, 6), until }),
          () => ({ type: 'client-changed', clientId: `c${upTo(next, 2)}`, before: upTo(next, 200), until }),
          () => ({ type: 'keys-changed', withdrawn: [`k${upTo(next, 3)}`], until }),
        ])();
      };
      const events = Array.from({ length: upTo(next, 20) }, event);
      const tokens = Array.from({ length: 30 }, () =>
        facts({
          sid: `s${upTo(next, 4)}`,
          sub: `u${upTo(next, 3)}`,
          clientId: `c${upTo(next, 2)}`,
          kid: `k${upTo(next, 3)}`,
          rev: upTo(next, 6),
          iat: upTo(next, 200),
        }),
      );
      const inOrder = createFreshness();
      for (const each of events) {
        const before = tokens.map((token) => severity[inOrder.judge(token).kind]);
        inOrder.apply(each);
        tokens.forEach((token, i) =>
          assert.ok(severity[inOrder.judge(token).kind] >= (before[i] as number), `seed ${seed}`),
        );
      }
      const shuffled = createFreshness();
      for (const each of [...events, ...events].sort(() => next() - 0.5)) shuffled.apply(each);
      for (const token of tokens) assert.deepEqual(shuffled.judge(token), inOrder.judge(token), `seed ${seed}`);
      assert.deepEqual(shuffled.entries(), inOrder.entries(), `seed ${seed}`);
    }
  });

  test('an entry goes when its time has passed, and not before', () => {
    const maps = createMaps(1000);
    for (let i = 0; i < 300; i++)
      maps.apply({ type: 'session-ended', sid: `session-${i}-x`, reason: 'revoked', until: 100 + (i % 2) * 100 });
    maps.apply({ type: 'claims-changed', sub: 'user-1-x', rev: 1, until: 100 });
    maps.apply({ type: 'client-changed', clientId: 'c', before: 1, until: 100 });
    maps.apply({ type: 'keys-changed', withdrawn: ['k'], until: 100 });
    const sweep = (now: number) => {
      for (let i = 0; i < 64; i++) maps.sweepNext(now);
      return maps.entries();
    };
    assert.deepEqual(sweep(100), { sessions: 300, users: 1, clients: 1, keys: 1 });
    assert.deepEqual(sweep(101), { sessions: 150, users: 0, clients: 0, keys: 0 });
    assert.equal(maps.ended('session-1-x'), 'revoked');
    assert.equal(maps.ended('session-0-x'), undefined);
    assert.deepEqual(sweep(201), { sessions: 0, users: 0, clients: 0, keys: 0 });
  });

  test('starting over forgets nothing before it has caught up', () => {
    const freshness = createFreshness();
    freshness.apply(ENDED);
    freshness.startOver();
    assert.equal(freshness.judge(facts()).kind, 'ended');
    freshness.apply({ type: 'claims-changed', sub: 'u', rev: 9, until: 1000 });
    freshness.startOver();
    assert.equal(freshness.judge(facts()).kind, 'ended');
    assert.equal(freshness.judge(facts({ sid: 'x' })).kind, 'stale');
    freshness.caughtUp();
    assert.equal(freshness.judge(facts()).kind, 'current');
  });

  test('what finds no place makes the maps say that they cannot tell, until there is room', () => {
    const freshness = createFreshness(8);
    for (let i = 0; i < 9; i++) freshness.apply({ ...ENDED, sid: `session-${i}-x`, until: 100 });
    assert.equal(freshness.isIncomplete(), true);
    assert.equal(freshness.mustStartOver(50), false, 'no room yet');
    for (let i = 0; i < 64; i++) freshness.prune(101);
    assert.equal(freshness.mustStartOver(101), true);
    freshness.startOver();
    assert.equal(freshness.isIncomplete(), true, 'what is missing is missing until all has come again');
    freshness.caughtUp();
    assert.equal(freshness.isIncomplete(), false);
  });

  test('an id that is none of ours takes no room', () => {
    const freshness = createFreshness();
    freshness.apply({ ...ENDED, sid: 'x'.repeat(65) });
    assert.deepEqual([freshness.isIncomplete(), freshness.entries().sessions], [true, 0]);
  });

  test('a clock that goes back by more than half a minute means starting over', () => {
    const freshness = createFreshness();
    freshness.prune(1000);
    assert.deepEqual([freshness.mustStartOver(970), freshness.mustStartOver(969)], [false, true]);
    freshness.startOver();
    assert.equal(freshness.mustStartOver(969), false);
  });
});

describe('whether the feed is heard', () => {
  const at = (monotonic: number, wall: number) => ({ monotonic: monotonic * 1000, wall: wall * 1000 });

  test('lost until the first caught-up, and fifteen seconds after the last word', () => {
    const link = createLink();
    assert.equal(link.isLost(at(0, 1000)), true);
    link.heard(at(1, 1001));
    assert.equal(link.isLost(at(1, 1001)), true, 'a heartbeat before caught-up proves nothing');
    assert.equal(link.caughtUp(at(2, 1002)), false, 'the start is no loss');
    assert.deepEqual([link.isLost(at(17, 1017)), link.isLost(at(17.001, 1017.001))], [false, true]);
    link.heard(at(10, 1010));
    assert.equal(link.isLost(at(18, 1018)), false);
  });

  test('either clock may say so', () => {
    const link = createLink();
    link.caughtUp(at(0, 1000));
    assert.equal(link.isLost(at(1, 4600)), true, 'the machine slept');
    assert.equal(link.isLost(at(20, 900)), true, 'the wall clock was set back');
    assert.equal(link.isLost(at(5, 900)), false);
  });

  test('a new connection is not heard before it has caught up', () => {
    const link = createLink();
    link.caughtUp(at(0, 1000));
    link.behind();
    link.heard(at(14, 1014));
    assert.deepEqual([link.isLost(at(5, 1005)), link.isLost(at(16, 1016))], [false, true]);
    assert.equal(link.caughtUp(at(17, 1017)), true, 'it is back');
    link.behind();
    assert.equal(link.caughtUp(at(20, 1020)), false, 'a short interruption is no loss');
    link.lose();
    assert.equal(link.isLost(at(20, 1020)), true);
    assert.equal(link.caughtUp(at(20, 1020)), true);
  });
});

describe('the cache', () => {
  const entry = (payload: string, generation = 1) => ({
    token: { payload, registered: {} as never, kid: undefined, key: '' },
    generation,
  });

  test('never more than it may, and what is used stays', () => {
    const cache = createCache(100);
    cache.put('hot', entry('x'));
    for (let i = 0; i < 10_000; i++) {
      cache.put(`k${i}`, entry('x'));
      assert.ok(cache.size <= 100, `${cache.size}`);
      assert.notEqual(cache.get('hot'), undefined, `after ${i}`);
    }
    assert.equal(cache.get('k0'), undefined);
  });

  test('the length of what it keeps is bounded, too', () => {
    const cache = createCache(1000, 1000);
    for (let i = 0; i < 100; i++) cache.put(`k${i}`, entry('x'.repeat(100)));
    assert.ok(cache.size <= 10, `${cache.size}`);
    cache.put('long', entry('x'.repeat(501)));
    assert.equal(cache.get('long'), undefined);
  });

  test('the newest of a name counts, and it can be forgotten', () => {
    const cache = createCache(10);
    cache.put('a', entry('x', 1));
    cache.put('a', entry('x', 2));
    assert.equal(cache.get('a')?.generation, 2);
    cache.remove('a');
    assert.equal(cache.get('a'), undefined);
  });

  test('none', () => {
    const cache = createCache(0);
    cache.put('a', entry('x'));
    assert.deepEqual([cache.size, cache.get('a')], [0, undefined]);
  });
});
