// Checked by tsc, never run; with the types of both Angulars.

import { HttpClient, provideHttpClient, withInterceptors } from '@angular/common/http';
import type { ApplicationConfig, Signal } from '@angular/core';
import type { Routes } from '@angular/router';
import {
  injectReseal,
  injectSecondsLeft,
  provideReseal,
  ResealError,
  resealInterceptor,
  withoutReseal,
  type Claims,
} from '@reseal/angular';
import { signedInGuard } from '@reseal/angular/router';

interface User {
  sub: string;
  plan: 'gold' | 'free';
}

export const config: ApplicationConfig = {
  providers: [
    provideReseal({ api: 'https://auth.example.org', clientId: 'app', mode: 'sliding' }),
    provideReseal(() => ({ api: 'https://auth.example.org', clientId: 'app', mode: 'cookie' })),
    provideHttpClient(withInterceptors([resealInterceptor])),
  ],
};
// @ts-expect-error a mode of that name does not exist
provideReseal({ api: 'https://auth.example.org', clientId: 'app', mode: 'jwt' });
// @ts-expect-error the client is required
provideReseal({ api: 'https://auth.example.org', mode: 'fixed' });

export const routes: Routes = [
  { path: 'a', canActivate: [signedInGuard({ signIn: '/sign-in', returnTo: null })], children: [] },
  { path: 'b', canActivateChild: [signedInGuard()], children: [] },
];

export function inComponent(http: HttpClient): void {
  const any = injectReseal();
  const typed = injectReseal<User>();
  const user: Signal<Claims | null> = any.user;
  const plan: 'gold' | 'free' | undefined = typed.user()?.plan;
  const left: Signal<number | null> = injectSecondsLeft();
  // @ts-expect-error no such claim
  void typed.user()?.phone_number;
  // @ts-expect-error the signals are for reading
  any.user.set(null);
  http.get('/x', { context: withoutReseal() });
  any.session.on('signedout', ({ reason }) => reason.length);
  void [user, plan, left, new ResealError('signed_out').code];
}
