// The app under test; what the tests ask for is in `window.page`. Compiled in the browser, as nothing here is worth a build.

import '@angular/compiler';
import {
  HttpClient,
  provideHttpClient,
  withInterceptors,
  type HttpErrorResponse,
  type HttpInterceptorFn,
} from '@angular/common/http';
import { ApplicationRef, ChangeDetectionStrategy, Component, NgZone, provideZoneChangeDetection } from '@angular/core';
import { bootstrapApplication } from '@angular/platform-browser';
import { provideRouter, Router, RouterOutlet, withHashLocation } from '@angular/router';
import {
  injectReseal,
  injectSecondsLeft,
  provideReseal,
  resealInterceptor,
  withoutReseal,
  type Reseal,
  type SessionOptions,
} from '@reseal/angular';
import { signedInGuard } from '@reseal/angular/router';
import { tap } from 'rxjs';

/** Options in the page's address. */
export interface PageOptions extends SessionOptions {
  /** Without `provideReseal`. */
  forgotten?: boolean;
}

export interface Outcome {
  status: number;
  body: Record<string, unknown>;
  /** `code` of a `ResealError`. */
  code?: string;
}

export interface PageWindow {
  page: {
    reseal: Reseal;
    secondsLeft(): number | null;
    call(
      method: string,
      path: string,
      more?: { body?: unknown; headers?: Record<string, string>; responseType?: string; untouched?: boolean },
    ): Promise<Outcome>;
    /** Sends a request and cancels it before its token is there. */
    cancel(path: string): void;
    /** Goes to a path of the app; the URL at which it arrives. */
    go(path: string): Promise<string>;
    /** Ends the app. */
    destroy(): void;
    /** Whether Angular has nothing to wait for. */
    stable: boolean;
    /** As a component does it. */
    login(user: { username: string; password: string }): Promise<{ status: string }>;
    /** Statuses that an interceptor before ours saw. */
    statuses: number[];
    /** Names of the session's events, what the user signal said then, and whether it was in Angular's zone. */
    heard: { event: string; name: unknown; inZone: boolean }[];
    disposed: number;
  };
  failure?: string;
}

const { forgotten, ...options }: PageOptions = JSON.parse(new URLSearchParams(location.search).get('options') ?? '{}');
const withZone = 'Zone' in window;
const statuses: number[] = [];

const watching: HttpInterceptorFn = (request, next) =>
  next(request).pipe(
    tap({
      next: (event) => 'status' in event && statuses.push(event.status),
      error: (failure: HttpErrorResponse) => statuses.push(failure.status),
    }),
  );

@Component({ selector: 'app-home', template: 'home' })
class Home {}

@Component({ selector: 'app-private', template: 'private' })
class Private {}

@Component({
  selector: 'app-root',
  imports: [RouterOutlet],
  changeDetection: ChangeDetectionStrategy.OnPush,
  template: `
    <main>
      @if (reseal.user(); as user) {
        {{ user.name }} {{ user.phone_number }}
      } @else if (reseal.ready()) {
        nobody
      }
    </main>
    <output>{{ secondsLeft() === null ? '' : 'soon' }}</output>
    <router-outlet />
  `,
})
class App {
  readonly reseal = injectReseal();
  readonly secondsLeft = injectSecondsLeft();
}

document.body.append(document.createElement('app-root'));
bootstrapApplication(App, {
  providers: [
    withZone ? provideZoneChangeDetection() : [],
    forgotten ? [] : provideReseal(() => options),
    provideHttpClient(withInterceptors([watching, resealInterceptor])),
    provideRouter(
      [
        { path: '', component: Home },
        { path: 'private', component: Private, canActivate: [signedInGuard({ signIn: '/sign-in?from=guard' })] },
        { path: 'hidden', component: Private, canActivate: [signedInGuard()] },
        { path: 'sign-in', component: Home },
      ],
      withHashLocation(),
    ),
  ],
}).then(expose, (error: unknown) => void ((window as unknown as PageWindow).failure = String(error)));

function expose(app: ApplicationRef): void {
  const { reseal, secondsLeft } = app.components[0]!.instance as App;
  const http = app.injector.get(HttpClient);
  const router = app.injector.get(Router);
  const page: PageWindow['page'] = {
    reseal,
    secondsLeft,
    statuses,
    heard: [],
    disposed: 0,
    call: (method, path, { body, headers, responseType = 'json', untouched } = {}) =>
      new Promise((resolve) => {
        const context = untouched ? { context: withoutReseal() } : {};
        http
          .request(method, path, {
            body,
            headers: headers ?? {},
            observe: 'response',
            responseType: responseType as 'json',
            ...context,
          })
          .subscribe({
            next: ({ status, body }) => resolve({ status, body: body as Outcome['body'] }),
            error: ({ status, error }: HttpErrorResponse) => resolve({ status, body: error, code: error?.code }),
          });
      }),
    cancel: (path) => http.get(path).subscribe().unsubscribe(),
    go: async (path) => {
      await router.navigateByUrl(path);
      return router.url;
    },
    destroy: () => app.destroy(),
    stable: false,
    login: (user) => app.injector.get(NgZone).run(() => reseal.session.login(user)),
  };
  for (const event of ['signedin', 'claims', 'renewed', 'signedout'] as const) {
    reseal.session.on(event, () =>
      page.heard.push({ event, name: reseal.user()?.name, inZone: NgZone.isInAngularZone() }),
    );
  }
  app.isStable.subscribe((stable) => (page.stable = stable));
  const { dispose } = reseal.session;
  reseal.session.dispose = () => {
    page.disposed += 1;
    dispose();
  };
  (window as unknown as PageWindow).page = page;
}
