// Calls to the authority: whom may be asked, how much is read, and for how long. Node's own client follows no redirects
// (a credential must not follow one), and its sockets can be told not to keep a process alive.

import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import { deadline } from './time.js';

/** Longest wait for a connection, in milliseconds. */
const CONNECT_MS = 3000;
const NO_ANSWER = 'no answer in time';
/** Connections that are kept for the next call. */
const IDLE_SOCKETS = 4;
const MAX_SOCKETS = 256;

/** One call. */
export interface Call {
  readonly method: 'GET' | 'POST';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Longest wait for the whole answer, milliseconds; of {@link Http.open} for its head. */
  readonly timeoutMs: number;
  /** Whether nobody waits for it: then it does not keep the process alive. */
  readonly background: boolean;
}

/** An answer that was read to its end. */
export interface Answered {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

/** Calls of one guard. */
export interface Http {
  /** Rejects with an `Error` whose text names neither URL nor credential. `max` bounds the body, in bytes. */
  ask(call: Call, max: number): Promise<Answered>;
  /** The head of an answer that goes on for ever, on a connection of its own. Destroy it when done. */
  open(call: Call): Promise<IncomingMessage>;
  /** Ends all calls. */
  close(): void;
}

/** `connectMs` is the longest wait for a connection. */
export function createHttp(connectMs: number = CONNECT_MS): Http {
  const settings = { keepAlive: true, maxFreeSockets: IDLE_SOCKETS, maxSockets: MAX_SOCKETS };
  const agents = { 'http:': new HttpAgent(settings), 'https:': new HttpsAgent(settings) };
  const running = new Set<ClientRequest>();
  let closed = false;

  /** Until the head of the answer. */
  const start = (call: Call, own: boolean): { request: ClientRequest; head: Promise<IncomingMessage> } => {
    const secure = call.url.protocol === 'https:';
    const headers: Record<string, string | number> = { 'User-Agent': 'reseal-node', ...call.headers };
    if (call.method === 'POST') headers['Content-Length'] = Buffer.byteLength(call.body ?? '');
    const options = { method: call.method, headers, agent: own ? false : agents[secure ? 'https:' : 'http:'] } as const;
    const request = (secure ? httpsRequest : httpRequest)(call.url, options);
    running.add(request);
    request.once('close', () => running.delete(request));
    const head = new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      // It may fail again after its answer has begun.
      request.on('error', (error) => reject(new Error(cause(error))));
      request.once('close', () => reject(new Error('the connection was closed')));
      request.once('socket', (socket) => {
        if (call.background) socket.unref();
        if (!socket.connecting) return;
        const ready = secure ? 'secureConnect' : 'connect';
        const late = (): void => void request.destroy(new Error('no connection in time'));
        const done = deadline(connectMs, late, call.background);
        socket.once(ready, done).once('close', done);
      });
    });
    if (closed) request.destroy(new Error('the guard was closed'));
    request.end(call.body);
    return { request, head };
  };

  /** Ends the call when the work takes too long. */
  const within = async <T>(call: Call, request: ClientRequest, work: Promise<T>): Promise<T> => {
    const done = deadline(call.timeoutMs, () => request.destroy(new Error(NO_ANSWER)), call.background);
    try {
      return await work;
    } finally {
      done();
    }
  };

  /** `stale`: it failed on a connection that was kept, before anything was answered. */
  const attempt = async (call: Call, max: number): Promise<Answered | { error: Error; stale?: true }> => {
    const { request, head } = start(call, false);
    let isAnswered = false;
    const whole = head.then(async (response) => {
      isAnswered = true;
      const body = await read(response, max);
      return { status: response.statusCode ?? 0, headers: response.headers, body };
    });
    try {
      return await within(call, request, whole);
    } catch (error) {
      request.destroy();
      const failed = { error: error as Error };
      return request.reusedSocket && !isAnswered && failed.error.message !== NO_ANSWER && !closed
        ? { ...failed, stale: true }
        : failed;
    }
  };

  return {
    async ask(call, max) {
      const first = await attempt(call, max);
      // A connection that was kept may have been closed by the other side just now: that says nothing of it.
      const last = 'stale' in first ? await attempt(call, max) : first;
      if ('error' in last) throw last.error;
      return last;
    },
    open(call) {
      const { request, head } = start(call, true);
      return within(call, request, head);
    },
    close() {
      closed = true;
      for (const request of running) request.destroy(new Error('the guard was closed'));
      for (const agent of Object.values(agents)) agent.destroy();
    },
  };
}

function read(response: IncomingMessage, max: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    response.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > max) reject(new Error('the answer is too long'));
      else chunks.push(chunk);
    });
    response.once('end', () => resolve(Buffer.concat(chunks)));
    response.on('error', (error) => reject(new Error(cause(error))));
    response.once('close', () => reject(new Error('the answer broke off')));
  });
}

/** What went wrong, as a word of the system: its texts may show addresses, ours are said as they are. */
function cause(error: Error & { code?: unknown }): string {
  return typeof error.code === 'string' ? error.code : error.message;
}

/** Whether credentials and keys may go over this URL: TLS, or this machine. */
export function mayAsk(url: URL): boolean {
  if (url.protocol === 'https:') return url.hostname !== '';
  return url.protocol === 'http:' && isLoopback(url.hostname);
}

/** Whether a URL that the issuer's own metadata names may be asked: one with TLS must not send us away from it. */
export function mayBeSentTo(url: URL, issuer: URL): boolean {
  return mayAsk(url) && (url.protocol === 'https:' || issuer.protocol === 'http:');
}

/** The host of a parsed URL is in its one spelling: lower case, numbers in dotted form, IPv6 in brackets. */
function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** A URL under the issuer's. */
export function under(issuer: string, path: string): URL {
  return new URL(issuer.replace(/\/+$/, '') + path);
}

/** A URL, or nothing. */
export function parseUrl(text: unknown): URL | undefined {
  return typeof text === 'string' && URL.canParse(text) ? new URL(text) : undefined;
}

/** `client_secret_basic`: id and secret are form-encoded before they are joined (RFC 6749 §2.3.1). */
export function basic(client: { id: string; secret: string }): string {
  return `Basic ${Buffer.from(`${formEncode(client.id)}:${formEncode(client.secret)}`).toString('base64')}`;
}

/** `application/x-www-form-urlencoded` (RFC 6749 appendix B). */
export function formEncode(text: string): string {
  return new URLSearchParams([['', text]]).toString().slice(1);
}

/** `Retry-After` in seconds, 60 at most. */
export function retryAfter(headers: IncomingMessage['headers']): number {
  const seconds = Number(headers['retry-after'] ?? 1);
  return Number.isInteger(seconds) ? Math.min(Math.max(seconds, 1), 60) : 1;
}
