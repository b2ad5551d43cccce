// When the key set is fetched again. Pure; milliseconds.

/** A key set is kept for at least so long, whatever its `max-age`. */
export const MIN_REFRESH = 30_000;
/** And for at most so long. */
export const MAX_REFRESH = 3_600_000;
/** If its answer does not say. */
export const DEFAULT_REFRESH = 300_000;
/** For so long old keys go on being used while none can be fetched. */
export const MAX_STALE = 24 * 3_600_000;

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 30_000;

/**
 * How long to wait after a set that may be kept for `maxAge`: between three quarters and nine tenths of it, so that there
 * is time for a second try, and services that started together do not come together.
 */
export function afterSuccess(maxAge: number | undefined, chance: number): number {
  const life = Math.min(Math.max(maxAge ?? DEFAULT_REFRESH, MIN_REFRESH), MAX_REFRESH);
  return life * (0.75 + 0.15 * chance);
}

/** How long to wait after so many failures in a row: doubling up to half a minute, half of it at random. */
export function afterFailure(failures: number, chance: number): number {
  const whole = Math.min(FIRST_PAUSE * 2 ** Math.min(Math.max(failures - 1, 0), 10), LONGEST_PAUSE);
  return whole / 2 + (whole / 2) * chance;
}

/** For how long an answer may still be kept, by its `Cache-Control` and `Age` (RFC 9111 §5.1 and §5.2). */
export function maxAge(cacheControl: string, age: string | undefined): number | undefined {
  let seconds: number | undefined;
  for (const directive of cacheControl.split(',')) {
    const [name, value = ''] = directive.split('=', 2).map((part) => part.trim().toLowerCase());
    if (name === 'no-store' || name === 'no-cache') return 0;
    if (name === 'max-age') seconds = wholeNumber(value.replace(/^"|"$/g, ''));
  }
  return seconds === undefined ? undefined : Math.max(0, seconds - (wholeNumber(age ?? '') ?? 0)) * 1000;
}

function wholeNumber(text: string): number | undefined {
  return /^\d{1,12}$/.test(text.trim()) ? Number(text) : undefined;
}
