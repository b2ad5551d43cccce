// More for some routes, behind `session()`.

import type { RequestSession } from '@reseal/node';
import { Refusal } from '@reseal/node';
import { missingToken, realmOf } from '@reseal/node/adapter';
import type { Middleware } from 'koa';
import { fail } from './refuse.js';

/** Lets through tokens that grant all of these scopes. Others: 403 `insufficient_scope`; no token: 401. */
export function requireScope(...scopes: string[]): Middleware {
  return required((session) => session.requireScope(...scopes));
}

/** Lets through who authenticated in one of these ways, such as `aal2`. Others: 401, RFC 9470. */
export function requireAcr(...values: string[]): Middleware {
  return required((session) => session.requireAcr(...values));
}

/** Lets through who authenticated within this many seconds. Others: 401, RFC 9470. */
export function requireMaxAge(seconds: number): Middleware {
  return required((session) => session.requireMaxAge(seconds));
}

function required(check: (session: RequestSession<object>) => void): Middleware {
  return async (ctx, next) => {
    try {
      const { session, jwtOriginalError } = ctx.state as {
        session?: RequestSession<object>;
        jwtOriginalError?: unknown;
      };
      // With `passthrough` the reason for which nobody is there is the better answer.
      if (session === undefined)
        throw jwtOriginalError instanceof Refusal ? jwtOriginalError : missingToken(realmOf(ctx.req));
      check(session);
    } catch (error) {
      fail(ctx, error);
    }
    return next() as unknown;
  };
}
