export { session, type SessionMiddleware } from './session.js';
export { requireAcr, requireMaxAge, requireScope } from './require.js';
export type { PassthroughState, SessionOptions, SessionState } from './types.js';
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
export type { Exceptions } from '@reseal/node/adapter';
