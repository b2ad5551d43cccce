export { ConfigurationError } from './errors.js';
export { Guard } from './guard.js';
export { Refusal, type RefusalAnswer, type RefusalBody, type RefusalStatus } from './refusal.js';
export type {
  FeedHealth,
  GuardedRequest,
  GuardOptions,
  Health,
  KeysHealth,
  Logger,
  OnFeedLost,
  OnStale,
  RegisteredClaims,
  RequestSession,
  Secret,
  SecretProvider,
  SecretSource,
  StandardClaims,
} from './types.js';
