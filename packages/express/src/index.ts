export { session, type SessionMiddleware } from './session.js';
export { auth } from './auth.js';
export { requireAcr, requireMaxAge, requireScope } from './require.js';
export { refusalHandler } from './refusals.js';
export type { Auth, SessionOptions } from './types.js';
export { ConfigurationError, Guard, Refusal } from '@reseal/node';
export type {
  GuardOptions,
  Health,
  Logger,
  OnFeedLost,
  OnStale,
  RefusalBody,
  RefusalStatus,
  RegisteredClaims,
  RequestSession,
  Secret,
  SecretProvider,
  SecretSource,
  StandardClaims,
} from '@reseal/node';
export type { Exceptions, PathException } from '@reseal/node/adapter';
