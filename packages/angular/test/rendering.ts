// Run by a newer Node than the tests: renders an app once and prints what happened, as one line of JSON.

import '@angular/compiler';
import { HttpClient, provideHttpClient, withInterceptors } from '@angular/common/http';
import { Component, inject } from '@angular/core';
import { bootstrapApplication, type BootstrapContext } from '@angular/platform-browser';
import { provideServerRendering, renderApplication } from '@angular/platform-server';
import { provideRouter, Router, RouterOutlet } from '@angular/router';
import { injectReseal, injectSecondsLeft, provideReseal, resealInterceptor, type Reseal } from '@reseal/angular';
import { signedInGuard } from '@reseal/angular/router';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const sent: (string | null)[] = [];
const server = createServer((request, response) => {
  sent.push(request.headers.authorization ?? null);
  response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
});
await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

let reseal: Reseal | undefined;
let router: Router | undefined;

@Component({ selector: 'app-empty', template: 'empty' })
class Empty {}

@Component({
  selector: 'app-root',
  imports: [RouterOutlet],
  template: '<main>@if (reseal.ready()) {ready} @else {loading}</main>{{ secondsLeft() }}<router-outlet />',
})
class App {
  readonly reseal = (reseal = injectReseal());
  readonly secondsLeft = injectSecondsLeft();

  constructor() {
    router = inject(Router);
    inject(HttpClient).get(`${origin}/api`).subscribe();
  }
}

const html = await renderApplication(
  (context: BootstrapContext) =>
    bootstrapApplication(
      App,
      {
        providers: [
          provideServerRendering(),
          // Storage and mode of a browser; an authority that must not be called.
          provideReseal({ api: origin, clientId: 'app', mode: 'cookie' }),
          provideHttpClient(withInterceptors([resealInterceptor])),
          provideRouter([
            { path: 'private', component: Empty, canActivate: [signedInGuard({ signIn: '/sign-in' })] },
            { path: 'sign-in', component: Empty },
          ]),
        ],
      },
      context,
    ),
  {
    document: '<!doctype html><html><body><app-root></app-root></body></html>',
    url: `${origin}/private`,
    allowedHosts: ['127.0.0.1'],
  },
);
const token = await reseal!.session.token().then(
  () => '',
  ({ code }) => code as string,
);
server.close();
server.closeAllConnections();
console.log(JSON.stringify({ html, sent, user: reseal!.user(), token, path: router!.url }));
