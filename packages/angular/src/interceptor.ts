import { isPlatformBrowser, DOCUMENT } from '@angular/common';
import {
  HttpContext,
  HttpContextToken,
  HttpErrorResponse,
  HttpResponse,
  type HttpEvent,
  type HttpHandlerFn,
  type HttpInterceptorFn,
  type HttpRequest,
} from '@angular/common/http';
import { inject, PLATFORM_ID } from '@angular/core';
import type { Answer, Prepared, Session } from '@reseal/browser';
import { catchError, concatMap, from, map, of, switchMap, throwError, type Observable } from 'rxjs';
import { injectReseal } from './reseal';

/** Whether a request gets the session's credential, where its origin is one that may have it. Default true. */
export const WITH_RESEAL = new HttpContextToken<boolean>(() => true);

/** `http.get(url, { context: withoutReseal() })`: the request is sent as it is. */
export function withoutReseal(context = new HttpContext()): HttpContext {
  return context.set(WITH_RESEAL, false);
}

/**
 * Adds the session's credential to requests for own origins, adopts a `Renewed-Access-Token`, and sends once more what a
 * renewal mends. For `provideHttpClient(withInterceptors([resealInterceptor]))`; best as the last of the list: then it sees
 * the URL that is really asked for, and others see answers only after the renewal.
 */
export const resealInterceptor: HttpInterceptorFn = (request, next) => {
  // Who brings a credential means it.
  if (!request.context.get(WITH_RESEAL) || request.method === 'JSONP' || request.headers.has('Authorization'))
    return next(request);
  if (!isPlatformBrowser(inject(PLATFORM_ID))) return next(request);
  const { session } = injectReseal();
  return send({ session, base: inject(DOCUMENT).baseURI, request, next, again: false });
};

interface Sending {
  session: Session;
  /** What relative URLs are relative to. */
  base: string;
  request: HttpRequest<unknown>;
  next: HttpHandlerFn;
  /** Whether this is the second time. */
  again: boolean;
}

function send(sending: Sending): Observable<HttpEvent<unknown>> {
  const { session, request, next } = sending;
  const url = request.urlWithParams;
  return from(session.prepare(url)).pipe(
    catchError((error: unknown) =>
      throwError(() => new HttpErrorResponse({ error, status: 0, statusText: 'No access token', url })),
    ),
    switchMap((prepared) => {
      if (!prepared) return next(request);
      const withCredentials = prepared.credentials || request.withCredentials;
      return hear(sending, prepared, next(request.clone({ setHeaders: prepared.headers, withCredentials })));
    }),
  );
}

/** Tells the session of the answer, before anyone else sees it. */
function hear(
  sending: Sending,
  sent: Prepared,
  events: Observable<HttpEvent<unknown>>,
): Observable<HttpEvent<unknown>> {
  const { again } = sending;
  return events.pipe(
    concatMap((event) =>
      event instanceof HttpResponse ? tell(sending, sent, event).pipe(map(() => event)) : of(event),
    ),
    catchError((failure: unknown) => {
      const refused = throwError(() => failure);
      // Without a status there was no answer.
      if (!(failure instanceof HttpErrorResponse) || failure.status === 0) return refused;
      return tell(sending, sent, failure).pipe(
        switchMap((renewed) => (renewed && !again ? send({ ...sending, again: true }) : refused)),
      );
    }),
  );
}

function tell(
  { session, base, request, again }: Sending,
  sent: Prepared,
  response: HttpResponse<unknown> | HttpErrorResponse,
): Observable<boolean> {
  const originOf = (url: string) => new URL(url, base).origin;
  // A redirect may have led to a stranger.
  if (response.url && originOf(response.url) !== originOf(request.url)) return of(false);
  // A storage that fails must not cost the answer.
  return from(session.settle(sent, answerOf(response), again).catch(() => false));
}

function answerOf(response: HttpResponse<unknown> | HttpErrorResponse): Answer {
  const { status, headers } = response;
  return {
    status,
    header: (name) => headers.get(name),
    json: async () => {
      const body: unknown = response instanceof HttpErrorResponse ? response.error : response.body;
      if (body instanceof Blob || body instanceof ArrayBuffer) return new Response(body).json();
      return typeof body === 'string' ? JSON.parse(body) : body;
    },
  };
}
