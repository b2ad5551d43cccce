// The middleware.

import { Refusal, type Guard, type GuardedRequest, type StandardClaims } from '@reseal/node';
import {
  admit,
  carry,
  cookieIn,
  excepts,
  guardOf,
  inRealm,
  type Exceptions,
  type OwnCookie,
} from '@reseal/node/adapter';
import type { Request, RequestHandler, Response } from 'express';
import { authOf, type Marked } from './auth.js';
import { explain } from './refusals.js';
import type { SessionOptions } from './types.js';

/** What `session()` returns. */
export interface SessionMiddleware<Claims extends object> extends RequestHandler {
  /** The same, except for some requests: express-unless's options, or a function that says true. */
  unless(exceptions: Exceptions<Request> | NonNullable<Exceptions<Request>['custom']>): SessionMiddleware<Claims>;
  /** Resolves when the keys are there and the feed has caught up, or when the first try has failed: 10 s at most. */
  ready(): Promise<void>;
  /** Ends what runs in the background; for a clean end of the process. */
  close(): Promise<void>;
  /** For `health()`, and to share with another `session()`. */
  readonly guard: Guard<Claims>;
}

/** Names of the options that are Express's, not the guard's. */
const OWN = ['getToken', 'cookie', 'cookieOptions', 'isRevoked'];

/**
 * Lets requests with a good access token through, with `req.auth`: `{ user, session }`. Others are refused by
 * `next(refusal)`, a {@link Refusal}.
 *
 * Tokens past half of their life are renewed on the way, and so are those whose claims have changed; the newer one
 * leaves with the answer, errors included, in `Renewed-Access-Token`.
 *
 * @throws ConfigurationError for settings that contradict each other.
 */
export function session<Claims extends object = StandardClaims>(
  options: SessionOptions<Claims>,
): SessionMiddleware<Claims> {
  const guard = guardOf(options, OWN);
  return dressed(
    (req, res, next) => {
      letIn(guard, options, req, res).then(
        () => next(),
        (error: unknown) => {
          if (!(error instanceof Refusal)) return next(error);
          explain(error, options.debug);
          if (!options.passthrough || error.status === 503) return next(error);
          (req as Marked).authError = error;
          next();
        },
      );
    },
    guard,
    options.realm ?? guard.realm,
  );
}

async function letIn<Claims extends object>(
  guard: Guard<Claims>,
  options: SessionOptions<Claims>,
  req: Request,
  res: Response,
): Promise<void> {
  const { isRevoked, realm } = options;
  const { request, inCookie } = presented(req, options);
  const admitted = await admit(guard, request, isRevoked && ((...about) => isRevoked(req, ...about)), realm);
  const marked = req as Marked;
  marked.auth = authOf(admitted);
  delete marked.authError;
  carry(res, admitted, inCookie ? ownCookie(req, res, options) : undefined);
}

/** The application's own ways come first, then `Authorization`. */
function presented<Claims extends object>(req: Request, options: SessionOptions<Claims>) {
  const { method, headers, rawHeaders } = req;
  const request: GuardedRequest = { method, headers, rawHeaders };
  request.token = options.getToken?.(req, options) || undefined;
  const inCookie = options.cookie !== undefined && request.token === undefined;
  if (inCookie) request.token = cookieIn(headers.cookie, options.cookie as string) || undefined;
  return { request, inCookie: inCookie && request.token !== undefined };
}

function ownCookie<Claims extends object>(req: Request, res: Response, options: SessionOptions<Claims>): OwnCookie {
  const { cookie: name = '', cookieOptions } = options;
  return {
    name,
    set(token) {
      try {
        res.cookie(name, token, { httpOnly: true, sameSite: 'lax', secure: req.secure, ...cookieOptions });
      } catch (error) {
        // For example one that is `signed`, without a secret to sign with. The answer is not to blame for it.
        process.emitWarning(`reseal: the cookie \`${name}\` could not be set: ${(error as Error).message}`);
      }
    },
  };
}

/** Adds what a middleware of ours can do besides being called. */
function dressed<Claims extends object>(
  handle: RequestHandler,
  guard: Guard<Claims>,
  realm: string | undefined,
): SessionMiddleware<Claims> {
  return Object.assign(handle, {
    unless(given: Exceptions<Request> | NonNullable<Exceptions<Request>['custom']>) {
      const exceptions = typeof given === 'function' ? { custom: given } : given;
      const others: RequestHandler = (req, res, next) => {
        const { method, url, originalUrl } = req;
        excepts(exceptions, { context: req, method, url, originalUrl }).then(
          (free) => {
            if (!free) return handle(req, res, next);
            inRealm(req, realm);
            next();
          },
          (error: unknown) => next(error),
        );
      };
      return dressed(others, guard, realm);
    },
    ready: () => guard.ready(),
    close: () => guard.close(),
    guard,
  });
}
