import { isPlatformBrowser } from '@angular/common';
import {
  DestroyRef,
  inject,
  makeEnvironmentProviders,
  NgZone,
  PLATFORM_ID,
  provideEnvironmentInitializer,
  type EnvironmentProviders,
} from '@angular/core';
import { createSession, type SessionOptions } from '@reseal/browser';
import { makeReseal, RESEAL, type Reseal } from './reseal';
import { sessionOfServer } from './server';
import { outsideZone } from './zone';

/**
 * Provides the session of this page, which starts with the injector and is disposed with it. A function is called in its
 * injection context. On a server there is no session: nobody is signed in, and nothing is sent anywhere.
 *
 * ```ts
 * bootstrapApplication(App, {
 *   providers: [
 *     provideReseal({ api: 'https://auth.example.org', clientId: 'app', mode: 'refresh' }),
 *     provideHttpClient(withInterceptors([resealInterceptor])),
 *   ],
 * });
 * ```
 */
export function provideReseal(options: SessionOptions | (() => SessionOptions)): EnvironmentProviders {
  return makeEnvironmentProviders([
    { provide: RESEAL, useFactory: () => start(options) },
    // From the start, so that other tabs are heard before the first call.
    provideEnvironmentInitializer(() => void inject(RESEAL)),
  ]);
}

function start(options: SessionOptions | (() => SessionOptions)): Reseal<object> {
  if (!isPlatformBrowser(inject(PLATFORM_ID))) return makeReseal(sessionOfServer(), false);
  const zone = inject(NgZone);
  const session = zone.runOutsideAngular(() =>
    createSession<object>(typeof options === 'function' ? options() : options),
  );
  inject(DestroyRef).onDestroy(() => session.dispose());
  return makeReseal(outsideZone(session, zone), true);
}
