// What `session()` leaves on a request.

import { Refusal, type RequestSession, type StandardClaims } from '@reseal/node';
import { missingToken, realmOf } from '@reseal/node/adapter';
import type { Request } from 'express';
import type { Auth } from './types.js';

/** The members that are added to a request. Their types are the application's to declare: it knows its claims. */
export interface Marked {
  auth?: Auth<object>;
  /** With `passthrough`: why the request was not let in. */
  authError?: Refusal;
}

/**
 * Who is signed in: `req.auth` with its type.
 *
 * @throws Refusal 401 where nobody is: behind `passthrough` or `unless`, or with no `session()` before.
 */
export function auth<Claims extends object = StandardClaims>(req: Request): Auth<Claims> {
  const { auth: found, authError } = req as Marked;
  // With `passthrough` the reason for which nobody is there is the better answer.
  if (found === undefined) throw authError ?? missingToken(realmOf(req));
  return found as Auth<Claims>;
}

/** `user` is looked up when it is asked for, so that it is the newest after `session.reseal()`. */
export function authOf<Claims extends object>(session: RequestSession<Claims>): Auth<Claims> {
  return {
    get user() {
      return session.claims;
    },
    session,
  };
}
