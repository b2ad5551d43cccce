export { ResealError } from '@reseal/browser';
export type {
  Answer,
  Claims,
  Credentials,
  Events,
  FactorOffer,
  LoginResult,
  Mode,
  Prepared,
  SecondFactor,
  Session,
  SessionInfo,
  SessionItem,
  SessionOptions,
  TokenStorage,
} from '@reseal/browser';
export { resealInterceptor, WITH_RESEAL, withoutReseal } from './interceptor';
export { provideReseal } from './provide';
export { injectReseal, type Reseal } from './reseal';
export { injectSecondsLeft } from './seconds';
