use super::*;
use proptest::prelude::*;

fn after(start: Instant, ms: i64) -> Instant {
    start + Duration::from_millis(u64::try_from(ms).unwrap())
}

#[test]
fn a_clock_that_is_behind_is_set_forward_and_one_that_is_ahead_never_goes_back() {
    let start = Instant::now();
    let course = Course { at: start, right: 1_000_000, ahead: 0 };
    let behind = course.corrected(after(start, 1000), 1_004_000, 5);
    assert_eq!(behind.show(after(start, 1000)), 1_004_000);

    let ahead = course.corrected(after(start, 1000), 1_000_500, 5);
    assert_eq!(ahead.show(after(start, 1000)), 1_001_000, "it stays where it was");
    assert_eq!(ahead.show(after(start, 2000)), 1_001_800, "and runs slower");
    assert_eq!(ahead.show(after(start, 3500)), 1_003_000, "until it is right");
    assert_eq!(ahead.show(after(start, 9000)), 1_008_500);
}

#[test]
fn what_cannot_be_told_apart_is_not_corrected() {
    let start = Instant::now();
    let course = Course { at: start, right: 1_000_000, ahead: 0 };
    for right in [1_000_990, 1_001_000, 1_001_010] {
        assert_eq!(course.corrected(after(start, 1000), right, 10).show(after(start, 1000)), 1_001_000);
    }
}

fn looked(clock: &Clock, at: Instant, store: i64, machine: i64) {
    clock.adopt(Look { at, store, margin: 1 }, machine);
}

#[test]
fn a_store_that_jumps_is_not_followed_and_the_node_says_that_it_is_not_ready() {
    let clock = Clock::system();
    assert!(clock.agrees() && clock.machine_behind().is_none());
    let start = Instant::now();
    looked(&clock, start, 1_000_000_000, 1_000_000_100);
    assert!(clock.agrees());
    let hour = 3_600_000;
    looked(&clock, after(start, 1000), 1_000_001_000 + hour, 1_000_001_100);
    assert!(!clock.agrees());
    assert_eq!(clock.followed.get().unwrap().course().show(after(start, 1000)), 1_000_001_000);
    looked(&clock, after(start, 2000), 1_000_002_020, 1_000_002_100);
    assert!(clock.agrees());
    assert_eq!(clock.followed.get().unwrap().course().show(after(start, 2000)), 1_000_002_020);
}

#[test]
fn a_machine_with_a_wrong_clock_follows_the_store_and_is_not_ready() {
    let clock = Clock::system();
    let start = Instant::now();
    for second in 0..5 {
        looked(&clock, after(start, 1000 * second), 5_000_000 + 1000 * second, 90_000 + 1000 * second);
        assert!(!clock.agrees());
        assert_eq!(clock.machine_behind(), Some(4_910_000));
    }
    assert_eq!(clock.followed.get().unwrap().course().show(after(start, 4000)), 5_004_000);
}

#[test]
fn a_machine_that_slept_is_set_right_and_a_node_that_is_far_ahead_is_not_ready() {
    let clock = Clock::system();
    let start = Instant::now();
    let hour = 3_600_000;
    looked(&clock, start, hour, hour);
    // The monotonic clock stood still for an hour; the machine's clock was set, and it is the store's time.
    let woken = after(start, 1000);
    looked(&clock, woken, 2 * hour, 2 * hour + 50);
    assert_eq!(clock.followed.get().unwrap().course().show(woken), 2 * hour);
    assert!(clock.agrees());
    // Both say that the time is an hour before what this node went by: a store with a wrong clock, followed from
    // this node's start. It never goes back, nor does it judge sessions beside nodes that are right.
    let later = after(start, 2000);
    looked(&clock, later, hour + 1000, hour + 1000);
    assert_eq!(clock.followed.get().unwrap().course().show(later), 2 * hour + 1000);
    assert!(!clock.agrees());
    let at_last = after(start, 2000 + 5 * hour);
    looked(&clock, at_last, 6 * hour + 1000, 6 * hour + 1000);
    assert!(clock.agrees());
    assert_eq!(clock.followed.get().unwrap().course().show(at_last), 6 * hour + 1000);
}

#[test]
fn development_moves_the_clock_on_top() {
    let clock = Clock::system();
    looked(&clock, Instant::now(), 1_000_000, 1_000_000);
    clock.advance(Duration::from_secs(100));
    let now = clock.now().millis();
    assert!((1_100_000..1_160_000).contains(&now), "{now}");
    assert_eq!(clock.offset(), Duration::from_secs(100));
}

proptest! {
    #[test]
    fn it_never_goes_back_and_nodes_come_to_agree(
        looks in proptest::collection::vec((1i64..10_000, -400i64..400, 0i64..200), 1..60),
    ) {
        let start = Instant::now();
        let mut course = Course { at: start, right: 0, ahead: 0 };
        let (mut at, mut shown) = (0, 0);
        for (step, error, margin) in looks {
            for part in 0..4 {
                let now = course.show(after(start, at + step * part / 4));
                prop_assert!(now >= shown);
                shown = now;
            }
            at += step;
            // A look is never wrong by more than it says.
            let error = error.clamp(-margin, margin);
            course = course.corrected(after(start, at), at + error, margin);
            let now = course.show(after(start, at));
            prop_assert!(now >= shown);
            shown = now;
        }
        // Left alone after one good look, it is right after five times what it was ahead.
        course = course.corrected(after(start, at), at, 0);
        let later = at + SLOWED * 2000;
        prop_assert!((course.show(after(start, later)) - later).abs() <= 1);
    }
}
