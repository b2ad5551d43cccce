import { isPlatformBrowser } from '@angular/common';
import {
  assertInInjectionContext,
  computed,
  DestroyRef,
  inject,
  NgZone,
  PLATFORM_ID,
  signal,
  type Signal,
} from '@angular/core';
import { injectReseal } from './reseal';

/**
 * Whole seconds until the user is signed out unless something renews, by the authority's clock; null when nobody is signed
 * in. It ticks as long as the component lives that asked for it.
 */
export function injectSecondsLeft(): Signal<number | null> {
  assertInInjectionContext(injectSecondsLeft);
  const { session, expiresAt } = injectReseal();
  const tick = signal(0);
  if (isPlatformBrowser(inject(PLATFORM_ID))) {
    const timer = inject(NgZone).runOutsideAngular(() => setInterval(() => tick.update((n) => n + 1), 1000));
    inject(DestroyRef).onDestroy(() => clearInterval(timer));
  }
  return computed(() => {
    tick();
    const end = expiresAt();
    return end === null ? null : Math.max(0, Math.ceil(end - session.now()));
  });
}
