import type { IncomingMessage } from 'node:http';
import { deadline } from '../time.js';
import { lacksScope, Refused, type FeedAuthority } from './authority.js';
import { decode, formatPosition, parsePosition, type FeedMessage, type Position } from './message.js';
import { createSseParser, TOO_LONG, type Message } from './sse.js';

/** How a connection ended, or why there was none. */
export type End =
  /** The server ended it in order, as it does when the token expires. */
  | { readonly how: 'orderly' }
  /** It did not come about, was cut, or fell silent. */
  | { readonly how: 'broken'; readonly why: string }
  /** The token is not good (any more). */
  | { readonly how: 'unauthorized' }
  /** Only a person can mend it. */
  | { readonly how: 'forbidden'; readonly why: string }
  /** What is known may have holes: all live events must come again. */
  | { readonly how: 'start-over'; readonly why: string };

/** What a reader tells of. */
export interface Taker {
  connected(): void;
  take(message: FeedMessage): void;
}

/** Reads the feed, one connection after the other: never more than one, so that nothing superseded is taken in. */
export interface Reader {
  /** Opens a connection and reads it to its end. */
  connect(): Promise<End>;
  /** Ends the connection of now, for that reason. */
  interrupt(end: End): void;
  /** Everything must come again: the next connection asks for it. */
  forgetPosition(): void;
}

/** `silence` is the longest wait for a message, in milliseconds. */
export function createReader(authority: FeedAuthority, taker: Taker, silence: number): Reader {
  /** The last event that was taken in. */
  let position: Position | undefined;
  let stream: IncomingMessage | undefined;
  let interruption: End | undefined;

  const open = async (): Promise<IncomingMessage> => {
    const response = await authority.open(position === undefined ? undefined : formatPosition(position));
    const status = response.statusCode ?? 0;
    if (status === 200 && isEventStream(response)) return response;
    response.destroy();
    if (status === 200) throw new Error('the feed answered something that is no feed');
    if (status === 401) throw new Ended({ how: 'unauthorized' });
    if (status === 403) throw lacksScope();
    if ((status === 400 || status === 410) && position !== undefined)
      throw startOver(`the feed answered ${status} to the position`);
    throw new Error(`the feed answered with ${status}`);
  };

  const read = async (response: IncomingMessage): Promise<End> => {
    const parser = createSseParser();
    let done = (): void => {};
    // Only whole messages are words, of a name that is known: a line that never ends, comments, or what somebody on the way
    // puts in keep nothing alive.
    const hear = (): void => {
      done();
      done = deadline(silence, () => interrupt({ how: 'broken', why: 'nothing was heard for too long' }), true);
    };
    hear();
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        if (interruption !== undefined) return interruption;
        for (const message of parser.push(chunk)) {
          if (message === TOO_LONG) throw startOver('a line or a message of the feed is too long');
          if (takeIn(message)) hear();
        }
      }
      return { how: 'orderly' };
    } finally {
      done();
      response.destroy();
    }
  };

  /** Whatever is wrong with a message, it may be one that must not be missed. Whether it is one of ours. */
  const takeIn = (message: Message): boolean => {
    let known: FeedMessage | undefined;
    try {
      known = decode(message);
    } catch (error) {
      throw startOver((error as Error).message);
    }
    const at = parsePosition(message.id);
    if (known === undefined) {
      // One of a later version says nothing to this one, but its place counts.
      if (at !== undefined) advance(at);
      return false;
    }
    if ((known.is === 'caught-up' || known.is === 'heartbeat') && position !== undefined && known.seq < position.seq) {
      throw startOver('the log went backwards');
    }
    if (known.is === 'start-over') position = undefined;
    // First of all: whatever else is wrong with an event, it makes things stricter.
    taker.take(known);
    if (known.is === 'event') {
      if (at === undefined || at.seq !== known.seq) throw startOver('an event has no position, or a wrong one');
      advance(at);
    }
    return true;
  };

  /** Numbers grow, with gaps where events are dead; and another epoch is another log. */
  const advance = (at: Position): void => {
    if (position !== undefined && at.epoch !== position.epoch) throw startOver('the feed is of another epoch');
    if (position !== undefined && at.seq < position.seq) throw startOver('the feed went backwards');
    position = at;
  };

  const interrupt = (end: End): void => {
    interruption ??= end;
    stream?.destroy();
  };

  return {
    async connect() {
      interruption = undefined;
      try {
        stream = await open();
        if (interruption !== undefined) stream.destroy();
        else taker.connected();
        const end = await read(stream);
        return interruption ?? end;
      } catch (error) {
        return interruption ?? endOf(error);
      } finally {
        stream = undefined;
      }
    },
    interrupt,
    forgetPosition() {
      position = undefined;
    },
  };
}

/** An end as it is thrown. */
class Ended extends Error {
  constructor(readonly end: End) {
    super(end.how);
  }
}

function startOver(why: string): Ended {
  return new Ended({ how: 'start-over', why });
}

function endOf(error: unknown): End {
  if (error instanceof Ended) return error.end;
  if (error instanceof Refused) return { how: 'forbidden', why: error.message };
  const { code, message } = error as Error & { code?: unknown };
  return { how: 'broken', why: typeof code === 'string' ? code : message };
}

function isEventStream(response: IncomingMessage): boolean {
  return response.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase() === 'text/event-stream';
}
