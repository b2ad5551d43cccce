// The app under test. It is put after AngularJS and the module; what the tests ask for is in `window.page`.

import type Angular from 'angular';
import type { SessionOptions } from '@reseal/browser';
import type { ResealProvider, ResealService } from '../src/types.js';

declare const angular: Angular.IAngularStatic;

/** Options in the page's address. */
export interface PageOptions extends SessionOptions {
  /** Without `resealProvider.configure`. */
  forgotten?: boolean;
  /** With a module before ours that decorates `$http`. */
  decorated?: boolean;
  /** What the app's own interceptor puts before each URL that begins with `~`. */
  prefix?: string;
}

export interface PageWindow {
  page: {
    reseal: ResealService;
    $http: Angular.IHttpService;
    $q: Angular.IQService;
    $timeout: Angular.ITimeoutService;
    $templateRequest: Angular.ITemplateRequestService;
    /** What was broadcast, and whether it came in a digest. */
    heard: { event: string; detail: Record<string, unknown>; digest: boolean }[];
    /** What the app's own interceptor saw. */
    intercepted: { requests: number; statuses: number[]; authorization: number };
    /** What went to `$exceptionHandler`. */
    errors: string[];
  };
  failure?: string;
}

const options: PageOptions = JSON.parse(new URLSearchParams(location.search).get('options') ?? '{}');
const { forgotten, decorated, prefix, ...sessionOptions } = options;
const heard: PageWindow['page']['heard'] = [];
const intercepted = { requests: 0, statuses: [] as number[], authorization: 0 };
const errors: string[] = [];
angular.module('early', []).config([
  '$provide',
  ($provide: Angular.auto.IProvideService) => {
    if (decorated) $provide.decorator('$http', ['$delegate', ($delegate: Angular.IHttpService) => $delegate]);
  },
]);
const app = angular.module('app', ['early', 'reseal']);

app.config([
  'resealProvider',
  '$httpProvider',
  (resealProvider: ResealProvider, $httpProvider: Angular.IHttpProvider) => {
    if (!forgotten) resealProvider.configure(sessionOptions);
    $httpProvider.interceptors.push('appInterceptor');
  },
]);

app.factory('appInterceptor', [
  '$q',
  ($q: Angular.IQService): Angular.IHttpInterceptor => {
    const saw = <T extends { status: number; config?: Angular.IRequestConfig }>(response: T): T => {
      intercepted.statuses.push(response.status);
      if (Object.keys(response.config?.headers ?? {}).some((name) => /^authorization$/i.test(name)))
        intercepted.authorization += 1;
      return response;
    };
    return {
      request(config) {
        intercepted.requests += 1;
        config.url = config.url.replace(/^~/, prefix ?? '');
        return config;
      },
      response: saw,
      responseError: (failure) => $q.reject(failure && saw(failure)),
    };
  },
]);

app.factory('$exceptionHandler', () => (error: unknown) => void errors.push(String(error)));

app.controller('Main', [
  '$scope',
  'reseal',
  ($scope: Angular.IScope & { reseal?: ResealService }, reseal: ResealService) => {
    $scope.reseal = reseal;
  },
]);

app.run([
  '$injector',
  '$rootScope',
  ($injector: Angular.auto.IInjectorService, $rootScope: Angular.IRootScopeService) => {
    for (const event of ['signedin', 'claims', 'renewed', 'expiring', 'signedout']) {
      $rootScope.$on(`reseal:${event}`, (_, detail) => {
        heard.push({ event, detail, digest: Boolean(($rootScope as { $$phase?: string }).$$phase) });
      });
    }
    (window as unknown as PageWindow).page = {
      reseal: $injector.get('reseal'),
      $http: $injector.get('$http'),
      $q: $injector.get('$q'),
      $timeout: $injector.get('$timeout'),
      $templateRequest: $injector.get('$templateRequest'),
      heard,
      intercepted,
      errors,
    };
  },
]);

document.body.insertAdjacentHTML(
  'beforeend',
  '<main ng-controller="Main"><b ng-if="reseal.user">{{reseal.user.name}} {{reseal.user.phone_number}}</b></main>',
);
try {
  angular.bootstrap(document.body, ['app'], { strictDi: true });
} catch (error) {
  (window as unknown as PageWindow).failure = String(error);
}
