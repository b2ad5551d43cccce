//! How long a database server takes to answer, and how far its clock is from this machine's.

use super::Findings;
use crate::words;
use reseal_core::Timestamp;
use reseal_server::clock::Clock;
use reseal_store::{Store, StoreError};
use std::time::Duration;
use tokio::time::Instant;

/// Questions whose median counts.
const QUESTIONS: usize = 9;
/// Every renewal waits for a few of them.
const SLOW: Duration = Duration::from_millis(20);
/// Clocks that differ by more are looked at; by more than the other, the node is not ready (design §7).
const SKEW_WARN: Duration = Duration::from_secs(1);
const SKEW_FAIL: Duration = Duration::from_secs(30);

/// Asks the store for the time again and again.
pub(super) async fn check(
    store: &dyn Store,
    name: &'static str,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let clock = Clock::system();
    let mut answers = Vec::with_capacity(QUESTIONS);
    // The first pays for the connection.
    store.time().await?;
    for _ in 0..QUESTIONS {
        let (before, asked) = (clock.now(), Instant::now());
        let Some(theirs) = store.time().await? else { return Ok(()) };
        let took = asked.elapsed();
        answers.push((took, apart(theirs, before, took)));
    }
    answers.sort();
    let median = answers[QUESTIONS / 2].0;
    let text = format!("{} ms for a question and its answer", millis(median));
    if median > SLOW {
        findings.warn(name, format!("{text}: every renewal waits for some; bring the database nearer"));
    } else {
        findings.ok(name, text);
    }
    // The quickest answer says most about the clock.
    skew(answers[0].1, findings);
    Ok(())
}

/// How far their clock surely is from ours, which showed `before` when the question left.
fn apart(theirs: Timestamp, before: Timestamp, took: Duration) -> Duration {
    if theirs < before { before.since(theirs) } else { theirs.since(before + took) }
}

fn skew(apart: Duration, findings: &mut Findings) {
    let text = format!("this machine and the database differ by {}", words::duration(apart));
    if apart > SKEW_FAIL {
        findings.fail("clocks", format!("{text}: nodes are not ready beyond 30 s; set both clocks (NTP)"));
    } else if apart > SKEW_WARN {
        findings.warn("clocks", format!("{text}; set both clocks (NTP)"));
    } else {
        findings.ok("clocks", "this machine and the database agree within a second");
    }
}

/// Milliseconds with one decimal.
pub(super) fn millis(duration: Duration) -> String {
    let tenths = duration.as_micros() / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn clocks_differ_by_what_the_way_cannot_explain() {
        let at = Timestamp::from_secs(1000);
        let took = Duration::from_secs(2);
        for (theirs, surely) in [(1000, 0), (1001, 0), (1002, 0), (1003, 1), (999, 1), (900, 100)] {
            let seen = apart(Timestamp::from_secs(theirs), at, took);
            assert_eq!(seen, Duration::from_secs(surely), "{theirs}");
        }
    }

    #[test]
    fn a_second_is_worth_a_look_and_half_a_minute_a_fault() {
        let level = |millis| {
            let mut findings = Findings::default();
            skew(Duration::from_millis(millis), &mut findings);
            findings.0[0].level
        };
        assert_eq!([0, 1000, 1001, 30_000].map(level), [Level::Ok, Level::Ok, Level::Warn, Level::Warn]);
        assert_eq!(level(30_001), Level::Fail);
        assert_eq!(millis(Duration::from_micros(12_345)), "12.3");
    }
}
