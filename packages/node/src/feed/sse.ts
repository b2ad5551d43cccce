// Server-sent events: bytes to messages (WHATWG HTML §9.2.5 and §9.2.6), with bounds. Pure.

/** Longest data of a message, in bytes. */
export const MAX_DATA_LENGTH = 64 * 1024;
const MAX_LINE = MAX_DATA_LENGTH + 64;
/** Longest `event` and `id`, in characters. */
const MAX_FIELD = 1024;

/** A message as it was dispatched. */
export interface Message {
  /** `event:`; empty stands for `message`. */
  readonly name: string;
  /** `data:`, its lines joined by line feeds. */
  readonly data: string;
  /** `id:`, if this very message has one. */
  readonly id: string | undefined;
}

/** Reads a stream in chunks that may end anywhere, inside a character included. */
export interface SseParser {
  /** The messages that the chunk completes. `TOO_LONG` last: a line or message is longer than any of the feed. */
  push(chunk: Uint8Array): (Message | typeof TOO_LONG)[];
}

export const TOO_LONG = Symbol('too long');

const [LF, CR] = [10, 13];
const MARK = '\ufeff';

export function createSseParser(): SseParser {
  // Split at bytes and decoded line by line: line ends are ASCII, so that it gives the same text as decoding the stream.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let parts: Uint8Array[] = [];
  let length = 0;
  let afterCr = false;
  let isFirstLine = true;
  let name = '';
  let data: string[] = [];
  let dataLength = 0;
  let id: string | undefined;
  let failed = false;

  const extend = (bytes: Uint8Array): boolean => {
    length += bytes.length;
    if (length > MAX_LINE) return false;
    // A copy: what was given may be used again for the next chunk.
    if (bytes.length > 0) parts.push(Buffer.from(bytes));
    return true;
  };

  const takeLine = (): string => {
    const [only] = parts;
    const bytes = only !== undefined && parts.length === 1 ? only : Buffer.concat(parts);
    parts = [];
    length = 0;
    let line = decoder.decode(bytes);
    if (isFirstLine && line.startsWith(MARK)) line = line.slice(1);
    isFirstLine = false;
    return line;
  };

  /** Whether the field is within its bounds. */
  const field = (line: string): boolean => {
    const colon = line.indexOf(':');
    // A comment is a line whose field name is empty: no known one.
    const known = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (known === 'data') {
      dataLength += Buffer.byteLength(value) + (data.length > 0 ? 1 : 0);
      data.push(value);
      return dataLength <= MAX_DATA_LENGTH;
    }
    if (known !== 'event' && known !== 'id') return true;
    if (value.length > MAX_FIELD) return false;
    if (known === 'event') name = value;
    else if (!value.includes('\0')) id = value;
    return true;
  };

  /** An empty line. Without data there is nothing to dispatch. */
  const dispatch = (): Message | undefined => {
    const message = data.length === 0 ? undefined : { name, data: data.join('\n'), id };
    [name, data, dataLength, id] = ['', [], 0, undefined];
    return message;
  };

  return {
    push(chunk) {
      const messages: (Message | typeof TOO_LONG)[] = [];
      let from = afterCr && chunk[0] === LF ? 1 : 0;
      if (chunk.length > 0) afterCr = false;
      const fail = (): typeof messages => {
        failed = true;
        parts = [];
        return [...messages, TOO_LONG];
      };
      if (failed) return fail();
      for (let at = from; at < chunk.length; at++) {
        if (chunk[at] !== LF && chunk[at] !== CR) continue;
        if (!extend(chunk.subarray(from, at))) return fail();
        const line = takeLine();
        const message = line === '' ? dispatch() : undefined;
        if (line !== '' && !field(line)) return fail();
        if (message !== undefined) messages.push(message);
        if (chunk[at] === CR) {
          if (at + 1 === chunk.length) afterCr = true;
          else if (chunk[at + 1] === LF) at++;
        }
        from = at + 1;
      }
      return extend(chunk.subarray(from)) ? messages : fail();
    },
  };
}
