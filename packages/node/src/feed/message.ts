// The messages of the feed (docs: reference/feed).

import type { FeedEvent } from '../freshness/maps.js';
import type { Message } from './sse.js';

/** A place in the log of one store. */
export interface Position {
  /** Which log: another one after a restore. */
  readonly epoch: string;
  readonly seq: number;
}

/** What a message says. */
export type FeedMessage =
  | { readonly is: 'event'; readonly seq: number; readonly event: FeedEvent }
  | { readonly is: 'caught-up'; readonly seq: number }
  /** `now` is the node's time, Unix seconds. */
  | { readonly is: 'heartbeat'; readonly seq: number; readonly now: number }
  | { readonly is: 'start-over' };

/** Undefined for a name that this version does not know: it may be passed by. Throws on one that is not what it should be. */
export function decode({ name, data }: Message): FeedMessage | undefined {
  if (!NAMES.has(name)) return undefined;
  if (name === 'start-over') return { is: 'start-over' };
  const said = read(name, data);
  const seq = whole(name, said['seq']);
  switch (name) {
    case 'caught-up':
      return { is: 'caught-up', seq };
    case 'heartbeat':
      return { is: 'heartbeat', seq, now: whole(name, said['now']) };
    default:
      return { is: 'event', seq, event: event(name, said) };
  }
}

function event(name: string, said: Record<string, unknown>): FeedEvent {
  const until = whole(name, said['until']);
  switch (name) {
    case 'session-ended':
      return { type: name, sid: text(name, said['sid']), reason: text(name, said['reason']), until };
    case 'claims-changed':
      return { type: name, sub: text(name, said['sub']), rev: whole(name, said['rev']), until };
    case 'client-changed':
      return { type: name, clientId: text(name, said['client_id']), before: whole(name, said['before']), until };
    default: {
      const withdrawn = said['withdrawn'];
      if (!Array.isArray(withdrawn)) throw malformed(name);
      return { type: 'keys-changed', withdrawn: withdrawn.map((kid) => text(name, kid)), until };
    }
  }
}

const EVENTS = ['session-ended', 'claims-changed', 'client-changed', 'keys-changed'];
const NAMES = new Set([...EVENTS, 'caught-up', 'heartbeat', 'start-over']);

function read(name: string, data: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(data);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw malformed(name);
}

function whole(name: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw malformed(name);
  return value;
}

function text(name: string, value: unknown): string {
  if (typeof value !== 'string') throw malformed(name);
  return value;
}

function malformed(name: string): Error {
  return new Error(`the data of a ${name} is not what it should be`);
}

/** 32 lower-case hexadecimal digits, a dot and a number in its one spelling. */
export function parsePosition(id: string | undefined): Position | undefined {
  const found = id === undefined ? null : /^([0-9a-f]{32})\.(0|[1-9][0-9]{0,15})$/.exec(id);
  const seq = Number(found?.[2]);
  return found?.[1] !== undefined && Number.isSafeInteger(seq) ? { epoch: found[1], seq } : undefined;
}

export function formatPosition({ epoch, seq }: Position): string {
  return `${epoch}.${seq}`;
}
