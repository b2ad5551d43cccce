import type { Claims, Session, SessionOptions } from './types.js';

export { ResealError } from './error.js';
export type * from './types.js';

/** Makes the session of this page. Safe to import and call without a window. */
export function createSession<User extends object = Claims>(_options: SessionOptions): Session<User> {
  throw new Error('under construction');
}
