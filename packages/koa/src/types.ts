import type { Refusal, RegisteredClaims, RequestSession, StandardClaims } from '@reseal/node';
import type { AdapterOptions } from '@reseal/node/adapter';
import type { Context } from 'koa';

/** Settings of `session()`: koa-jwt's under their names, and those of a `Guard`. */
export interface SessionOptions<Claims extends object = StandardClaims> extends AdapterOptions<Claims> {
  /** Where in `ctx.state` the claims are. Default `user`. */
  key?: string;
  /** Where in `ctx.state` the token's text is. Default: nowhere. */
  tokenKey?: string;
  /** Finds the token elsewhere; asked first. Null or empty: look in the cookie and in `Authorization`. */
  getToken?(ctx: Context, options: SessionOptions<Claims>): string | null | undefined;
  /**
   * The name of a cookie of the application's own that holds the token. A renewed one is put there, too. You must protect
   * such an application against cross-site requests yourself; Reseal's own cookie is `sessionCookie`.
   */
  cookie?: string;
  /** How that cookie is set when its token was renewed. Default `{ httpOnly: true, sameSite: 'lax' }`. */
  cookieOptions?: NonNullable<Parameters<Context['cookies']['set']>[2]>;
  /** Asked about a good token, as it was sent: true refuses it with 401. If it throws, the answer is 503. */
  isRevoked?(ctx: Context, decoded: Claims & RegisteredClaims, token: string): boolean | Promise<boolean>;
  /**
   * A request that is not let in goes on as nobody, with the reason in `ctx.state.jwtOriginalError`. Not one whose token
   * cannot be judged now: that is 503 all the same.
   */
  passthrough?: boolean;
}

/** `ctx.state` behind `session()`: `new Koa<SessionState<MyClaims>>()`. */
export interface SessionState<Claims extends object = StandardClaims> {
  /** The claims of the access token. */
  user: Claims & RegisteredClaims;
  session: RequestSession<Claims>;
}

/** `ctx.state` behind `session({ passthrough: true })`. */
export interface PassthroughState<Claims extends object = StandardClaims> extends Partial<SessionState<Claims>> {
  /** Why the request was not let in. */
  jwtOriginalError?: Refusal;
}
