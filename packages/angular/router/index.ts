import { isPlatformBrowser } from '@angular/common';
import { inject, PLATFORM_ID } from '@angular/core';
import { Router, type CanActivateFn } from '@angular/router';
import { injectReseal } from '@reseal/angular';

/** What `signedInGuard` takes. */
export interface SignedInGuardOptions {
  /** The path of the sign-in page. Without it the navigation just does not take place. */
  signIn?: string;
  /** The query parameter that gets the URL that was asked for; null: none. Default `returnTo`. */
  returnTo?: string | null;
}

/**
 * Lets only signed-in users pass, and leads others to the sign-in page. For `canActivate` and `canActivateChild`. On a
 * server nobody passes and nobody is led away: what is behind it is rendered in the browser.
 */
export function signedInGuard({ signIn, returnTo = 'returnTo' }: SignedInGuardOptions = {}): CanActivateFn {
  return async (_route, state) => {
    if (!isPlatformBrowser(inject(PLATFORM_ID))) return false;
    const router = inject(Router);
    if ((await injectReseal().confirm()) !== null) return true;
    if (signIn === undefined) return false;
    const url = router.parseUrl(signIn);
    if (returnTo !== null) url.queryParams = { ...url.queryParams, [returnTo]: state.url };
    return url;
  };
}
