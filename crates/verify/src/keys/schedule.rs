//! When the key set is fetched again. Pure.

use std::time::Duration;

/// A key set is kept for at least so long, whatever its `max-age`.
pub const MIN_REFRESH: Duration = Duration::from_secs(30);
/// And for at most so long.
pub const MAX_REFRESH: Duration = Duration::from_secs(3600);
/// If its answer does not say.
pub const DEFAULT_REFRESH: Duration = Duration::from_secs(300);
/// For so long old keys go on being used while none can be fetched.
pub const MAX_STALE: Duration = Duration::from_secs(24 * 3600);

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long to wait after a set that may be kept for `max_age`: between three quarters and nine tenths of
/// it, so that there is time for a second try, and verifiers that started together do not come together.
pub(crate) fn after_success(max_age: Option<Duration>, chance: u16) -> Duration {
    let life = max_age.unwrap_or(DEFAULT_REFRESH).clamp(MIN_REFRESH, MAX_REFRESH);
    life.mul_f64(0.75 + 0.15 * share(chance))
}

/// How long to wait after so many failures in a row: doubling up to half a minute, half of it at random.
pub(crate) fn after_failure(failures: u32, chance: u16) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    whole / 2 + (whole / 2).mul_f64(share(chance))
}

fn share(chance: u16) -> f64 {
    f64::from(chance) / f64::from(u16::MAX)
}

/// For how long an answer may still be kept, by its `Cache-Control` and `Age` (RFC 9111 §5.1 and §5.2).
pub(crate) fn max_age(cache_control: &str, age: Option<&str>) -> Option<Duration> {
    let mut seconds = None;
    for directive in cache_control.split(',') {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let name = name.trim();
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        if name.eq_ignore_ascii_case("max-age") {
            seconds = value.trim().trim_matches('"').parse::<u64>().ok();
        }
    }
    let age = age.and_then(|age| age.trim().parse::<u64>().ok()).unwrap_or(0);
    seconds.map(|seconds| Duration::from_secs(seconds.saturating_sub(age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_fetched_again_before_it_is_too_old() {
        for (max_age, life) in
            [(None, 300), (Some(300), 300), (Some(0), 30), (Some(86_400), 3600), (Some(u64::MAX), 3600)]
        {
            for chance in [0, 1, u16::MAX / 2, u16::MAX] {
                let wait = after_success(max_age.map(Duration::from_secs), chance);
                let life = Duration::from_secs(life);
                assert!(wait >= life.mul_f64(0.75) && wait <= life.mul_f64(0.91), "{max_age:?} {wait:?}");
            }
        }
    }

    #[test]
    fn failures_are_further_and_further_apart() {
        assert_eq!(after_failure(1, 0), Duration::from_millis(250));
        assert_eq!(after_failure(1, u16::MAX), Duration::from_millis(500));
        assert_eq!(after_failure(3, u16::MAX), Duration::from_secs(2));
        for failures in [7, 100, u32::MAX] {
            assert_eq!(after_failure(failures, u16::MAX), LONGEST_PAUSE);
            assert_eq!(after_failure(failures, 0), LONGEST_PAUSE / 2);
        }
    }

    #[test]
    fn max_age_is_read_as_rfc_9111_has_it() {
        let secs = |text: &str, age| max_age(text, age).map(|d| d.as_secs());
        assert_eq!(secs("public, max-age=300", None), Some(300));
        assert_eq!(secs("MAX-AGE=\"60\"", None), Some(60));
        assert_eq!(secs("max-age=300", Some("100")), Some(200));
        assert_eq!(secs("max-age=300", Some("400")), Some(0));
        assert_eq!(secs("max-age=300, no-cache", None), Some(0));
        assert_eq!(secs("no-store", None), Some(0));
        assert_eq!(secs("s-maxage=5, public", None), None);
        assert_eq!(secs("max-age=-1", None), None);
        assert_eq!(secs("max-age=99999999999999999999", None), None);
        assert_eq!(secs("", None), None);
    }
}
