import type { Answer, Prepared, Session } from '@reseal/browser';
import type { IHttpInterceptor, IHttpResponse, IHttpService, IPromise, IQService, IRequestConfig } from 'angular';
import type { UnsentResponse } from './types.js';

/** What the interceptor needs of AngularJS. */
export interface Surroundings {
  $q: IQService;
  session: Pick<Session, 'prepare' | 'settle'>;
  /** What relative URLs are relative to. */
  base(): string;
  /** Whether a template is asked for, not data. */
  isTemplate(config: IRequestConfig): boolean;
  /** Where the answer to a request came from, after redirects; undefined where that is not known. */
  answeredBy(config: IRequestConfig): string | undefined;
  /** What sends a request once more, without going through the interceptors again. */
  sendAgain(): IHttpService;
}

type Outcome<T> = IHttpResponse<T> | IPromise<IHttpResponse<T>>;

/** A request that went out with the session's credential. */
interface Sent {
  prepared: Prepared;
  /** When its time is over, in milliseconds of `performance.now()`; Infinity without a numeric `timeout`. */
  deadline: number;
}

/** The `$http` interceptor: adds the credential, hears of the answer, and sends once more what a renewal mends. */
export function makeInterceptor(surroundings: Surroundings): IHttpInterceptor {
  const { $q, session, base, isTemplate, answeredBy, sendAgain } = surroundings;
  const requests = new WeakMap<object, Sent>();

  return {
    request(config) {
      if (!concernsUs(config) || isTemplate(config)) return config;
      const deadline = typeof config.timeout === 'number' && config.timeout > 0 ? now() + config.timeout : Infinity;
      return prepare(config, deadline).then((prepared) => {
        if (prepared) requests.set(config, { prepared, deadline });
        return config;
      });
    },

    response: <T>(response: IHttpResponse<T>) => heard(response, () => response),

    // Somebody may reject with anything.
    responseError: <T>(failure: IHttpResponse<T>) =>
      failure?.config ? heard(failure, () => $q.reject(failure)) : $q.reject(failure),
  };

  /** Tells the session of the answer; `otherwise` is what comes of it unless the request is sent once more. */
  function heard<T>(response: IHttpResponse<T>, otherwise: () => Outcome<T>): Outcome<T> {
    const { config } = response;
    const sent = requests.get(config);
    if (!sent) return otherwise();
    requests.delete(config);
    // Nothing of ours stays behind: neither for a log, nor for who sends the same `config` again by himself.
    for (const name of Object.keys(sent.prepared.headers)) delete config.headers?.[name];
    // Without a status there was no answer: network, timeout, cancelled.
    if (response.status <= 0) return otherwise();
    const told = $q.when(tell(sent.prepared, response, false));
    // What came with an answer is there at once; what a 401 starts may take its time.
    const wait = response.status === 401 ? withinTime(told, config, sent.deadline) : told;
    return wait.then((renewed) => {
      if (!renewed) return otherwise();
      return again<T>({ ...config }, config, sent.deadline).then((second) => second ?? otherwise());
    });
  }

  /** Sends it once more; resolves to undefined when it may not be. */
  function again<T>(
    copy: IRequestConfig,
    original: IRequestConfig,
    deadline: number,
  ): IPromise<IHttpResponse<T> | undefined> {
    return prepare(copy, deadline).then((prepared) => {
      if (!prepared) return undefined;
      if (deadline !== Infinity) copy.timeout = Math.max(1, deadline - now());
      const tellLast = (response: IHttpResponse<unknown>) => {
        const told = $q.when(response.status > 0 ? tell(prepared, response, true) : false);
        // Interceptors of the app know the request by this object.
        response.config = original;
        return told;
      };
      return sendAgain()<T>(copy).then(
        (response) => tellLast(response).then(() => response),
        (failure) => tellLast(failure).then(() => $q.reject(failure)),
      );
    });
  }

  async function tell(sent: Prepared, response: IHttpResponse<unknown>, retried: boolean): Promise<boolean> {
    const by = answeredBy(response.config);
    // A redirect may have led to a stranger.
    if (by && originOf(by) !== originOf(urlOf(response.config))) return false;
    // A storage that fails must not cost the answer.
    return session.settle(sent, answerOf(response), retried).catch(() => false);
  }

  function originOf(url: string): string {
    return new URL(url, base()).origin;
  }

  /** Adds the credential to `config`. Rejects in the shape of a response, at the latest when the request's time is over. */
  function prepare(config: IRequestConfig, deadline: number): IPromise<Prepared | null> {
    const prepared = $q.when(session.prepare(urlOf(config))).then(
      (prepared) => {
        if (prepared) {
          config.headers = { ...config.headers, ...prepared.headers };
          if (prepared.credentials) config.withCredentials = true;
        }
        return prepared;
      },
      (error: unknown) => $q.reject(unsent(config, 'error', error)),
    );
    return withinTime(prepared, config, deadline);
  }

  /** `$http` minds `timeout` only once a request is under way; a renewal before that is part of the wait. */
  function withinTime<T>(work: IPromise<T>, config: IRequestConfig, deadline: number): IPromise<T> {
    const { timeout } = config;
    if (deadline !== Infinity) {
      return $q((resolve, reject) => {
        const timer = setTimeout(() => reject(unsent(config, 'timeout')), Math.max(0, deadline - now()));
        work.then(resolve, reject).finally(() => clearTimeout(timer));
      });
    }
    if (typeof timeout !== 'object' || timeout === null) return work;
    // By AngularJS's own mark: a promise of $timeout is a timeout, any other one cancels.
    const status = '$$timeoutId' in timeout ? 'timeout' : 'abort';
    return $q.race([work, timeout.then(() => $q.reject(unsent(config, status)))]) as IPromise<T>;
  }
}

function concernsUs(config: IRequestConfig & { reseal?: boolean }): boolean {
  if (config.reseal === false || config.method === 'JSONP') return false;
  // Who brings a credential means it.
  return !Object.keys(config.headers ?? {}).some((name) => name.toLowerCase() === 'authorization');
}

/** `url` may be a value trusted by `$sce`, which prints as its text. */
function urlOf(config: IRequestConfig): string {
  return String(config.url);
}

function answerOf(response: IHttpResponse<unknown>): Answer {
  return {
    status: response.status,
    header: (name) => response.headers(name) ?? null,
    json: async () => {
      const { data } = response;
      if (data instanceof Blob || data instanceof ArrayBuffer) return new Response(data).json();
      return typeof data === 'string' ? JSON.parse(data) : data;
    },
  };
}

function unsent(config: object, xhrStatus: UnsentResponse['xhrStatus'], error?: unknown): UnsentResponse {
  const statusText = error instanceof Error ? error.message : '';
  return {
    data: null,
    status: -1,
    statusText,
    headers: () => null,
    config,
    xhrStatus,
    ...(error === undefined ? {} : { error }),
  };
}

function now(): number {
  return performance.now();
}
