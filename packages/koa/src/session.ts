// The middleware.

import {
  Refusal,
  type Guard,
  type GuardedRequest,
  type RegisteredClaims,
  type RequestSession,
  type SecretSource,
  type StandardClaims,
} from '@reseal/node';
import { admit, carry, excepts, guardOf, inRealm, type Exceptions, type OwnCookie } from '@reseal/node/adapter';
import type { Context, Middleware, Next } from 'koa';
import { explain, fail } from './refuse.js';
import type { PassthroughState, SessionOptions, SessionState } from './types.js';

/** What `session()` returns. */
export interface SessionMiddleware<Claims extends object, State = SessionState<Claims>> extends Middleware<State> {
  /** The same, except for some requests: koa-unless's options, or a function that says true. */
  unless(
    exceptions: Exceptions<Context> | NonNullable<Exceptions<Context>['custom']>,
  ): SessionMiddleware<Claims, PassthroughState<Claims>>;
  /** Resolves when the keys are there and the feed has caught up, or when the first try has failed: 10 s at most. */
  ready(): Promise<void>;
  /** Ends what runs in the background; for a clean end of the process. */
  close(): Promise<void>;
  /** For `health()`, and to share with another `session()`. */
  readonly guard: Guard<Claims>;
}

/** Names of the options that are Koa's, not the guard's. */
const OWN = ['key', 'tokenKey', 'getToken', 'cookie', 'cookieOptions', 'isRevoked'];

/**
 * Lets requests with a good access token through: its claims are in `ctx.state.user`, and `ctx.state.session` is a
 * `RequestSession`. Others are refused by throwing a {@link Refusal}, as koa-jwt throws.
 *
 * Tokens past half of their life are renewed on the way, and so are those whose claims have changed; the newer one
 * leaves with the answer, errors included, in `Renewed-Access-Token`.
 *
 * @throws ConfigurationError for settings that contradict each other.
 */
export function session<Claims extends object = StandardClaims>(
  options: SessionOptions<Claims> & { passthrough: true },
): SessionMiddleware<Claims, PassthroughState<Claims>>;
export function session<Claims extends object = StandardClaims>(
  options: SessionOptions<Claims>,
): SessionMiddleware<Claims>;
export function session<Claims extends object = StandardClaims>(
  options: SessionOptions<Claims>,
): SessionMiddleware<Claims> {
  const guard = guardOf(options, OWN);
  const admitted = admission(guard, options);
  const handle = async (ctx: Context, next: Next) => {
    try {
      await admitted(ctx);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      explain(error, options.debug);
      if (!options.passthrough || error.status === 503) return fail(ctx, error);
      ctx.state['jwtOriginalError'] = error;
    }
    try {
      return (await next()) as unknown;
    } catch (error) {
      // One of `ctx.state.session.requireScope()` and its like.
      return fail(ctx, error);
    }
  };
  return dressed(handle, guard, options.realm ?? guard.realm);
}

/** Adds what a middleware of ours can do besides being called. */
function dressed<Claims extends object>(
  handle: (ctx: Context, next: Next) => Promise<unknown>,
  guard: Guard<Claims>,
  realm: string | undefined,
): SessionMiddleware<Claims> {
  return Object.assign(handle, {
    unless(given: Exceptions<Context> | NonNullable<Exceptions<Context>['custom']>) {
      const exceptions = typeof given === 'function' ? { custom: given } : given;
      const others = async (ctx: Context, next: Next): Promise<unknown> => {
        const { method, url, originalUrl } = ctx;
        const free = await excepts(exceptions, { context: ctx, method, url, originalUrl });
        if (!free) return handle(ctx, next);
        inRealm(ctx.req, realm);
        return next();
      };
      return dressed(others, guard, realm);
    },
    ready: () => guard.ready(),
    close: () => guard.close(),
    guard,
  }) as unknown as SessionMiddleware<Claims>;
}

/** Lets a request in, or throws. */
function admission<Claims extends object>(guard: Guard<Claims>, options: SessionOptions<Claims>) {
  const { key = 'user', tokenKey, isRevoked, realm } = options;
  return async (ctx: Context): Promise<void> => {
    const { request, inCookie } = presented(ctx, options);
    const asked = isRevoked && ((...about: [Claims & RegisteredClaims, string]) => isRevoked(ctx, ...about));
    const admitted = await admit(guard, request, asked, realm);

    const state = ctx.state as Record<string, unknown>;
    const show = () => {
      state[key] = admitted.claims;
      if (tokenKey !== undefined) state[tokenKey] = admitted.token;
      return admitted.claims;
    };
    let shown = show();
    state['session'] = onReseal(admitted, () => {
      // What a handler has put in their place is his.
      if (state[key] === shown) shown = show();
    });
    if (state['jwtOriginalError'] !== undefined) delete state['jwtOriginalError'];
    carry(ctx.res, admitted, inCookie ? ownCookie(ctx, options) : undefined);
  };
}

/** Where koa-jwt looks, in its order. */
function presented<Claims extends object>(ctx: Context, options: SessionOptions<Claims>) {
  const { getToken, cookie, secret } = options;
  const { secret: ofRequest } = ctx.state as { secret?: SecretSource };
  const { method, headers, rawHeaders } = ctx.req;
  const request: GuardedRequest = { method, headers, rawHeaders };
  if (secret !== undefined && ofRequest !== undefined) request.secret = ofRequest;
  request.token = getToken?.(ctx, options) || undefined;
  const inCookie = cookie !== undefined && request.token === undefined;
  if (inCookie) request.token = ctx.cookies.get(cookie) || undefined;
  return { request, inCookie: inCookie && request.token !== undefined };
}

/** Calls `done` whenever there are new claims. */
function onReseal<Claims extends object>(admitted: RequestSession<Claims>, done: () => void): RequestSession<Claims> {
  const reseal = admitted.reseal.bind(admitted);
  admitted.reseal = async () => {
    const claims = await reseal();
    if (claims !== null) done();
    return claims;
  };
  return admitted;
}

function ownCookie<Claims extends object>(ctx: Context, options: SessionOptions<Claims>): OwnCookie {
  const { cookie: name = '', cookieOptions } = options;
  return {
    name,
    set(token) {
      try {
        ctx.cookies.set(name, token, { httpOnly: true, sameSite: 'lax', overwrite: true, ...cookieOptions });
      } catch (error) {
        // For example one that is `secure`, where Koa knows of no TLS. The answer is not to blame for it.
        ctx.app.emit('error', error, ctx);
      }
    },
  };
}
