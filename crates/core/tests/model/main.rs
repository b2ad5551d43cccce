//! The refresh protocol, model-checked: every interleaving of two tabs, a network, a server that crashes,
//! a store that forgets and a thief, within bounds, against the very function that the server runs.
//!
//! - `world.rs`: who acts, and what each may do;
//! - `properties.rs`: what must always hold (P1 to P5), and what must be able to happen;
//! - `settings.rs`: the bounded worlds that are searched whole;
//! - `mutants.rs`: wrong rules, each of which a property must refute.
//!
//! `RESEAL_LONG=1` searches larger worlds. `--nocapture` shows how many states each has.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod mutants;
mod properties;
mod settings;
mod world;

use settings::Bounds;
use stateright::{Checker, Model as _};
use std::time::Instant;
use world::{Row, Setting};

/// Searches the world whole. Every property must hold, everything that should be able to happen must
/// happen, each of `rows` of the protocol must be reached, and the world must have `at_least` so many
/// states: a search that got stuck proves nothing.
fn prove(name: &str, setting: Setting, rows: &[Row], at_least: usize) {
    #[expect(clippy::disallowed_methods, reason = "how long a search took is told, and decides nothing")]
    let began = Instant::now();
    let reached = setting.reached();
    let checker = setting.checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    say(&format!("{name}: {states} states, depth {depth}, {:.1} s", began.elapsed().as_secs_f32()));
    checker.assert_properties();
    for row in rows {
        assert!(reached.contains(*row), "{name}: {row:?} was never reached");
    }
    assert!(states >= at_least, "{name}: only {states} states");
}

#[expect(clippy::print_stdout, reason = "the number of states is what a reader of the test wants to see")]
fn say(line: &str) {
    println!("{line}");
}

#[test]
fn p1_no_honest_client_is_ever_logged_out() {
    let bounds = Bounds::of_this_run();
    let rows = [Row::Advance, Row::Repeat, Row::Branch, Row::Late];
    prove("P1 two tabs", settings::two_tabs(bounds), &rows, 20_000);
}

#[test]
fn p1_holds_for_tabs_that_renew_in_haste() {
    let bounds = Bounds::of_this_run();
    let rows = [Row::Advance, Row::Repeat, Row::Late];
    prove("P1 hasty tabs", settings::hasty_tabs(bounds), &rows, 4_000);
}

#[test]
fn p1_holds_with_racing_workers_that_crash() {
    let bounds = Bounds::of_this_run();
    let rows = [Row::Advance, Row::Repeat, Row::Branch, Row::Late];
    prove("P1 racing workers", settings::racing_workers(bounds), &rows, 20_000);
}

#[test]
fn p1_holds_on_a_store_that_falls_back() {
    let bounds = Bounds::of_this_run();
    let rows = [Row::Advance, Row::Repeat, Row::Branch, Row::Late, Row::Ahead];
    prove("P1 forgetful store", settings::forgetful_store(bounds), &rows, 20_000);
}

#[test]
fn p2_thief_and_victim_who_act_apart_never_both_renew_twice() {
    let bounds = Bounds::of_this_run();
    let rows = [Row::Advance, Row::Branch, Row::Late, Row::Theft, Row::Over];
    prove("P2 apart", settings::apart(bounds), &rows, 20_000);
}

#[test]
fn p3_a_hurrying_thief_is_ended_by_the_victims_next_try() {
    let bounds = Bounds::of_this_run();
    let rows = [Row::Advance, Row::Repeat, Row::Branch, Row::Late, Row::Theft, Row::Over];
    prove("P3 hurry", settings::hurry(bounds), &rows, 20_000);
}

#[test]
fn p4_an_ended_session_never_lives_again() {
    let bounds = Bounds::of_this_run();
    let rows = [Row::Advance, Row::Repeat, Row::Over];
    prove("P4 endings", settings::endings(bounds), &rows, 20_000);
}

#[test]
fn p5_no_session_outlives_max_ttl() {
    let bounds = Bounds::of_this_run();
    let rows = [Row::Advance, Row::Branch, Row::Over];
    prove("P5 old age", settings::old_age(bounds), &rows, 5_000);
}

/// Each wrong rule is refuted, and by the property that is there to refute it. So the properties say
/// something, and the worlds are large enough to tell.
#[test]
fn every_mutant_is_refuted() {
    for mutant in mutants::all() {
        let setting = (mutant.mutate)((mutant.world)(Bounds::SHORT));
        let checker = setting
            .checker()
            .finish_when(stateright::HasDiscoveries::AnyFailures)
            .threads(2)
            .spawn_bfs()
            .join();
        let found = checker.discovery(mutant.refuted_by);
        let states = checker.unique_state_count();
        let steps = found.as_ref().map(|path| path.clone().into_actions().len());
        say(&format!("{}: {} fails after {steps:?} steps, {states} states", mutant.name, mutant.refuted_by));
        assert!(found.is_some(), "{}: nothing refutes it in {states} states", mutant.name);
    }
}
