import { createSession, type SessionOptions } from '@reseal/browser';
import type Angular from 'angular';
import { makeInterceptor } from './interceptor.js';
import { makeService } from './service.js';
import type { ResealProvider, ResealService } from './types.js';

const NAME = 'reseal';

/** Registers the module `reseal` with this AngularJS; returns its name. */
export function register(angular: Angular.IAngularStatic): string {
  const module = angular.module(NAME, []);
  module.provider('reseal', ResealServiceProvider);
  module.config(addInterceptor);
  // From the start, so that a forgotten configuration is seen at once, and other tabs are heard before the first call.
  module.run(['reseal', () => {}]);
  return NAME;
}

function ResealServiceProvider(): ResealProvider & Angular.IServiceProvider {
  let configured: SessionOptions | (() => SessionOptions) | undefined;
  return {
    configure(options) {
      configured = options;
    },
    $get: [
      '$q',
      '$rootScope',
      ($q: Angular.IQService, $rootScope: Angular.IRootScopeService): ResealService => {
        if (!configured) {
          throw new Error(
            "reseal: not configured. Call resealProvider.configure({ api: 'https://…', clientId: '…', mode: '…' }) in a config block",
          );
        }
        return makeService(createSession(typeof configured === 'function' ? configured() : configured), $q, $rootScope);
      },
    ],
  };
}

addInterceptor.$inject = ['$httpProvider', '$provide'];

/**
 * The last of all interceptors, whenever an app registers its own: so it sees the URL that is really asked for, and an
 * app's own handling of a 401 comes after the renewal, not before.
 */
function addInterceptor($httpProvider: Angular.IHttpProvider, $provide: Angular.auto.IProvideService): void {
  const make = $httpProvider.$get;
  const xhrs = new WeakMap<object, XMLHttpRequest>();

  // `$http` does not tell where an answer came from, its XMLHttpRequest does: it is made for the newest of the pending requests.
  $provide.decorator('$xhrFactory', [
    '$delegate',
    '$injector',
    ($delegate: Angular.IXhrFactory<XMLHttpRequest>, $injector: Angular.auto.IInjectorService) =>
      (method: string, url: string) => {
        const xhr = $delegate(method, url);
        const config = $injector.get<Angular.IHttpService>('$http').pendingRequests.at(-1);
        if (config) xhrs.set(config, xhr);
        return xhr;
      },
  ]);

  $provide.factory('resealInterceptor', [
    '$q',
    '$injector',
    '$document',
    'reseal',
    (
      $q: Angular.IQService,
      $injector: Angular.auto.IInjectorService,
      $document: Angular.IDocumentService,
      reseal: ResealService,
    ) =>
      makeInterceptor({
        $q,
        session: reseal.session,
        base: () => ($document[0] as unknown as Document).baseURI,
        answeredBy: (config) => xhrs.get(config)?.responseURL,
        isTemplate: (config) => config.cache === $injector.get('$templateCache'),
        sendAgain: once(() => withoutInterceptors($injector)),
      }),
  ]);

  $httpProvider.$get = [
    '$injector',
    ($injector: Angular.auto.IInjectorService) => {
      $httpProvider.interceptors.push('resealInterceptor');
      return $injector.invoke(make, $httpProvider);
    },
  ];

  /** An `$http` with all of the app's settings, on which a request goes out again that has been through the interceptors. */
  function withoutInterceptors($injector: Angular.auto.IInjectorService): Angular.IHttpService {
    const $http = $injector.get<Angular.IHttpService>('$http');
    const cache = $injector.get<Angular.ICacheFactoryService>('$cacheFactory').get('$http');
    const { interceptors } = $httpProvider;
    // `$http` reads the list when it is made.
    const all = interceptors.splice(0);
    try {
      const again: Angular.IHttpService = $injector.invoke(make, $httpProvider, { $cacheFactory: () => cache });
      return Object.assign(again, { pendingRequests: $http.pendingRequests });
    } catch {
      // A module before ours has decorated `$http`, so that there can be but one: then the others see a request twice.
      return Object.assign((config: Angular.IRequestConfig) => $http({ ...config, reseal: false }), $http);
    } finally {
      interceptors.push(...all);
    }
  }
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}
