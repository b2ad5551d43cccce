import type { RegisteredClaims, RequestSession, StandardClaims } from '@reseal/node';
import type { AdapterOptions } from '@reseal/node/adapter';
import type { CookieOptions, Request } from 'express';

/** Settings of `session()`: those of a `Guard`, and where Express has the token. */
export interface SessionOptions<Claims extends object = StandardClaims> extends AdapterOptions<Claims> {
  /** Finds the token elsewhere; asked first. Null or empty: look in the cookie and in `Authorization`. */
  getToken?(req: Request, options: SessionOptions<Claims>): string | null | undefined;
  /**
   * The name of a cookie of the application's own that holds the token. A renewed one is put there, too. You must protect
   * such an application against cross-site requests yourself; Reseal's own cookie is `sessionCookie`.
   */
  cookie?: string;
  /** How that cookie is set when its token was renewed. Default `{ httpOnly: true, sameSite: 'lax', secure: req.secure }`. */
  cookieOptions?: CookieOptions;
  /** Asked about a good token, as it was sent: true refuses it with 401. If it throws, the answer is 503. */
  isRevoked?(req: Request, claims: Claims & RegisteredClaims, token: string): boolean | Promise<boolean>;
  /**
   * A request that is not let in goes on as nobody, with the reason in `req.authError`. Not one whose token cannot be
   * judged now: that is 503 all the same.
   */
  passthrough?: boolean;
}

/** `req.auth` behind `session()`. */
export interface Auth<Claims extends object = StandardClaims> {
  /** The claims of the access token: the newest. */
  readonly user: Claims & RegisteredClaims;
  readonly session: RequestSession<Claims>;
}
