import { create } from './session.js';
import type { Claims, Session, SessionOptions } from './types.js';

export { ResealError } from './error.js';
export type * from './types.js';

/** Makes the session of this page. Safe to import and to call without a window. */
export const createSession: <User extends object = Claims>(options: SessionOptions) => Session<User> = create;
