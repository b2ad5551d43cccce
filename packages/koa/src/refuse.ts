// How a refusal leaves a Koa application.

import { Refusal } from '@reseal/node';
import type { Context } from 'koa';

/** What koa-jwt's errors have besides, for handlers that were written for it. */
type LikeKoaJwt = Refusal & { originalError?: unknown };

/** Adds what was wrong: for handlers, and with `debug` for the client. */
export function explain(refusal: LikeKoaJwt, debug: boolean | undefined): void {
  const { cause } = refusal;
  if (cause === undefined) return;
  refusal.originalError = cause;
  if (debug && cause instanceof Error) refusal.message = cause.message;
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
