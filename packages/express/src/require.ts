// More for some routes, behind `session()`.

import type { RequestSession } from '@reseal/node';
import type { Request, RequestHandler } from 'express';
import { auth } from './auth.js';

/** Lets through tokens that grant all of these scopes. Others: 403 `insufficient_scope`; no token: 401. */
export function requireScope(...scopes: string[]): RequestHandler {
  return required((session) => session.requireScope(...scopes));
}

/** Lets through who authenticated in one of these ways, such as `aal2`. Others: 401, RFC 9470. */
export function requireAcr(...values: string[]): RequestHandler {
  return required((session) => session.requireAcr(...values));
}

/** Lets through who authenticated within this many seconds. Others: 401, RFC 9470. */
export function requireMaxAge(seconds: number): RequestHandler {
  return required((session) => session.requireMaxAge(seconds));
}

function required(check: (session: RequestSession) => void): RequestHandler {
  return (req: Request, _res, next) => {
    try {
      check(auth(req).session);
    } catch (error) {
      next(error);
      return;
    }
    next();
  };
}
