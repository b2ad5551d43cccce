// The feed: connects, resumes, notices silence, and starts over when it may have missed something.

import { createFreshness, type Facts, type Judgement } from '../freshness/freshness.js';
import { createLink, HEARTBEAT_LIMIT, since, type Moment } from '../freshness/link.js';
import type { Log } from '../log.js';
import { monotonic, pause, type Chance } from '../time.js';
import type { FeedHealth } from '../types.js';
import type { FeedAuthority } from './authority.js';
import { backoff, slowBackoff } from './backoff.js';
import { createReader, type End } from './connection.js';
import type { FeedMessage } from './message.js';

/** A connection that lasted so long did well, in milliseconds. */
const GOOD_MS = 5000;
/** Least time between two new starts of our own, in milliseconds. */
const BETWEEN_STARTS_MS = 60_000;
/** Beyond this a verifier's and the authority's clock make judgements doubtful, seconds. */
const MAX_CLOCK_DIFFERENCE = 30;

/** What the feed told, and whether it is heard. */
export interface Feed {
  judge(token: Facts): Judgement;
  isWithdrawn(kid: string): boolean;
  /** Whether changes may have been missed: it never caught up, nothing was heard for 15 s, or the maps were too small. */
  isLost(): boolean;
  /** Resolves when it has caught up for the first time, or when the first try has failed. */
  began(): Promise<void>;
  health(): FeedHealth;
  close(): void;
}

/** What the feed needs. */
export interface FeedSource {
  readonly authority: FeedAuthority;
  /** Unix seconds, by the clock that tokens are judged by. */
  readonly now: () => number;
  /** The key set is to be fetched again: keys were withdrawn, or the feed was lost for a while. */
  readonly onKeysChanged: () => void;
  readonly log: Log;
  readonly chance: Chance;
  /** Both clocks, by which the feed is heard or lost; for tests. */
  readonly moment?: () => Moment;
}

export function followFeed(source: FeedSource): Feed {
  const { authority, now, onKeysChanged, log, chance, moment = bothClocks } = source;
  const ending = new AbortController();
  const freshness = createFreshness();
  const link = createLink();
  const count = { reconnects: 0, starts: 0, events: 0 };
  let connected = false;
  let connections = 0;
  let problem: string | undefined;
  let clockDifference: number | undefined;
  let lastStart: number | undefined;
  let wasLost = true;
  let wasRefused = false;
  let begin!: () => void;
  const begun = new Promise<void>((resolve) => (begin = resolve));

  const isLost = (): boolean => link.isLost(moment()) || freshness.isIncomplete();

  const startOver = (): void => {
    link.behind();
    freshness.startOver();
    count.starts++;
  };

  const take = (message: FeedMessage): void => {
    switch (message.is) {
      case 'event':
        freshness.apply(message.event);
        link.heard(moment());
        count.events++;
        if (message.event.type === 'keys-changed') onKeysChanged();
        return;
      case 'heartbeat':
        link.heard(moment());
        clockDifference = message.now - now();
        if (Math.abs(clockDifference) > MAX_CLOCK_DIFFERENCE) {
          log.warn('clock', `the authority's clock and this one differ by ${clockDifference} s`);
        }
        return;
      case 'start-over':
        return startOver();
      case 'caught-up':
        freshness.caughtUp();
        // What left the feed meanwhile concerns no token that is alive, but a leaked key can sign new ones.
        if (link.caughtUp(moment())) onKeysChanged();
        if (problem !== undefined) log.info('the connection to the feed is back');
        problem = undefined;
        begin();
    }
  };

  const reader = createReader(
    authority,
    {
      connected() {
        connected = true;
        if (connections++ > 0) count.reconnects++;
      },
      take,
    },
    HEARTBEAT_LIMIT,
  );

  const note = (end: End): void => {
    connected = false;
    // Once is nothing: it was of another key, or of before the client changed.
    const refusedAgain = end.how === 'unauthorized' && wasRefused;
    wasRefused = end.how === 'unauthorized';
    const why = 'why' in end ? end.why : refusedAgain ? 'the authority refuses its tokens' : undefined;
    // Once for each cause, however often it is tried.
    if (why !== undefined && why !== problem && !ending.signal.aborted) {
      log.warn(
        `feed: ${end.how}`,
        `${end.how === 'forbidden' ? 'the feed cannot be read' : 'the connection to the feed is gone'}: ${why}`,
      );
    }
    problem = why;
    begin();
  };

  const follow = async (): Promise<void> => {
    let failures = 0;
    while (!ending.signal.aborted) {
      const began = monotonic();
      const end = await reader.connect();
      const didWell = link.isCaughtUp && monotonic() - began >= GOOD_MS;
      link.behind();
      note(end);
      if (didWell) failures = 0;
      if (end.how === 'start-over') {
        reader.forgetPosition();
        startOver();
      }
      // The token was refused, or the client may have another scope by now.
      if (end.how === 'unauthorized' || end.how === 'forbidden') authority.forgetToken();
      if (end.how === 'orderly' && didWell) continue;
      await pause(end.how === 'forbidden' ? slowBackoff(chance()) : backoff(failures++, chance()), ending.signal);
    }
  };

  /** Once a second: drops what is dead, and sees whether the maps and the connection are good. */
  const keepHouse = (): void => {
    freshness.prune(now());
    if (freshness.mustStartOver(now())) {
      // What is missing is not known: by either cause the judgement may be too mild.
      link.lose();
      if (lastStart === undefined || monotonic() - lastStart >= BETWEEN_STARTS_MS) {
        lastStart = monotonic();
        reader.interrupt({ how: 'start-over', why: 'the clock was set back, or there was no room' });
      }
    }
    const lost = isLost();
    if (lost && !wasLost) log.warn('lost', 'the feed is lost: revocations may be seen late');
    if (!lost && wasLost) log.info('the feed is heard');
    wasLost = lost;
  };

  const house = setInterval(keepHouse, 1000).unref();
  void follow();

  return {
    judge: freshness.judge,
    isWithdrawn: freshness.isWithdrawn,
    isLost,
    began: () => begun,
    health() {
      const last = link.lastHeard;
      const health: FeedHealth = {
        lost: isLost(),
        connected,
        caughtUp: link.isCaughtUp,
        full: freshness.isIncomplete(),
        ...count,
        entries: freshness.entries(),
      };
      if (last !== undefined) health.silentForSeconds = Math.floor(since(last, moment()) / 1000);
      if (clockDifference !== undefined) health.clockDifferenceSeconds = clockDifference;
      if (problem !== undefined) health.problem = problem;
      return health;
    },
    close() {
      ending.abort();
      clearInterval(house);
      reader.interrupt({ how: 'orderly' });
      begin();
    },
  };
}

function bothClocks(): Moment {
  return { monotonic: monotonic(), wall: Date.now() };
}
