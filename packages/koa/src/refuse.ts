// How a refusal leaves a Koa application.

import { Refusal } from '@reseal/node';
import type { Context } from 'koa';

/** What koa-jwt's errors have besides, for handlers that were written for it. */
type LikeKoaJwt = Refusal & { originalError?: Error };

/** Adds what was wrong with a token: for handlers, and with `debug` for the client. */
export function explain(refusal: LikeKoaJwt, debug: boolean | undefined): void {
  const { cause } = refusal;
  if (!(cause instanceof Error)) return;
  if (debug) refusal.message = cause.message;
  const { kind } = cause as { kind?: string };
  // Where there is no token there is no such error.
  if (kind !== 'missing' && kind !== 'malformed') refusal.originalError = named(cause, kind);
}

/** Handlers that were written for koa-jwt go by the names of jsonwebtoken's errors. */
function named(cause: Error, kind: string | undefined): Error {
  if (kind !== 'expired' && kind !== 'invalid') return cause;
  // What the function threw that was to find the key.
  if (cause.cause instanceof Error) return cause.cause;
  const error = new Error(cause.message, { cause });
  error.name = kind === 'expired' ? 'TokenExpiredError' : 'JsonWebTokenError';
  return error;
}

/** Throws on. Where nobody handles it on the way, Koa's last resort answers in JSON, as the authority does. */
export function fail(ctx: Context, error: unknown): never {
  if (error instanceof Refusal) answerInJson(ctx, error);
  throw error;
}

/**
 * Koa's own handler would send the message as plain text, and a client could not read from it what to do. Handlers
 * of the application are left as they are: middleware that catches, and an `onerror` of its own.
 */
function answerInJson(ctx: Context, refusal: Refusal): void {
  const standard = (Object.getPrototypeOf(ctx.app.context) as { onerror?: unknown } | null)?.onerror;
  if (typeof standard !== 'function' || ctx.onerror !== standard) return;
  ctx.onerror = (error: Error) => {
    if (error !== refusal || ctx.headerSent || !ctx.writable) return standard.call(ctx, error) as void;
    ctx.app.emit('error', error, ctx);
    for (const name of ctx.res.getHeaderNames()) ctx.res.removeHeader(name);
    const { status, body, message } = refusal;
    // CORS middleware has put its own there on the way.
    ctx.set(refusal.headers);
    ctx.status = status;
    ctx.type = 'json';
    const text = JSON.stringify(message === body.error_description ? body : { ...body, debug: message });
    ctx.length = Buffer.byteLength(text);
    ctx.res.end(text);
  };
}
