//! Wrong rules, clients and stores, each a small step from the right one.

use crate::properties::{P1, P2, P3, P4, P5};
use crate::settings::{self, Bounds};
use crate::world::{Adopt, Rule, Setting, Swap};
use reseal_core::credential::RefreshToken;
use reseal_core::refresh::{Issued, OnRollback, Outcome, Presenter, rotate};
use reseal_core::session::Change;
use reseal_core::{EndReason, Policy, Session, Timestamp};

/// A mutant, the world to look for it in, and the property that refutes it there.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    pub(crate) world: fn(Bounds) -> Setting,
    pub(crate) mutate: fn(Setting) -> Setting,
    pub(crate) refuted_by: &'static str,
}

/// All of them.
pub(crate) fn all() -> Vec<Mutant> {
    fn with(setting: Setting, rule: Rule) -> Setting {
        Setting { rule, ..setting }
    }
    let mutant = |name, world, mutate, refuted_by| Mutant { name, world, mutate, refuted_by };
    vec![
        mutant("late and theft swapped", settings::two_tabs, |s| with(s, late_and_theft_swapped), P1),
        mutant(
            "late counts from the latest renewal",
            settings::hurry,
            |s| with(s, late_from_latest_renewal),
            P3,
        ),
        mutant("late for ever", settings::hurry, |s| with(s, late_for_ever), P3),
        mutant("late for one grace only", settings::two_tabs, |s| with(s, late_for_one_grace), P1),
        mutant("late for three graces", settings::hurry, |s| with(s, late_for_three_graces), P3),
        mutant("one window is kept", settings::two_tabs, |s| with(s, one_window), P1),
        mutant(
            "every advance opens a window",
            settings::hasty_tabs,
            |s| with(s, windows_without_distance),
            P1,
        ),
        mutant("a repeat is theft", settings::two_tabs, |s| with(s, repeat_never), P1),
        mutant("a repeat at any time", settings::apart, |s| with(s, repeat_always), P2),
        mutant("a branch with the same nonce", settings::apart, |s| with(s, branch_with_same_nonce), P2),
        mutant("another branch is merely late", settings::hurry, |s| with(s, sibling_is_late), P3),
        mutant("another branch advances", settings::apart, |s| with(s, sibling_advances), P2),
        mutant(
            "ahead is theft on a forgetful store",
            settings::forgetful_store,
            no_advance_after_rollback,
            P1,
        ),
        mutant("the client keeps what came last", settings::two_tabs, adopt_last, P1),
        // No wrong rule, but as far as the promise goes: twice grace is not a second more than is needed.
        mutant("packets later than grace", settings::two_tabs, |s| Setting { request_delay: 3, ..s }, P1),
        mutant("an end is not final", settings::endings, |s| with(s, end_is_not_final), P4),
        mutant("the store swaps blindly", settings::endings, swap_blindly, P4),
        mutant("the store forgets endings", settings::endings, forget_endings, P4),
        mutant("no max_ttl", settings::old_age, |s| with(s, no_max_ttl), P5),
        mutant("a loosened policy lengthens", settings::old_age, |s| with(s, loosened_lengthens), P5),
    ]
}

type At<'a> = (Timestamp, Presenter<'a>);

fn late_and_theft_swapped(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    match rotate(s, p, t, r, at) {
        Outcome::Superseded { .. } => theft(s, at),
        Outcome::Reuse { .. } => late(),
        other => other,
    }
}

fn late_from_latest_renewal(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    match rotate(s, p, t, r, at) {
        Outcome::Superseded { .. } | Outcome::Reuse { .. } if t.number < s.rotation.used => {
            if at.0.since(s.renewed_at) <= p.grace * 2 { late() } else { theft(s, at) }
        }
        other => other,
    }
}

fn late_for_ever(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    match rotate(s, p, t, r, at) {
        Outcome::Reuse { .. } if t.number < s.rotation.used => late(),
        other => other,
    }
}

fn late_for_one_grace(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    with_windows_moved(s, |opened| opened - p.grace, |s| rotate(s, p, t, r, at))
}

fn late_for_three_graces(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    with_windows_moved(s, |opened| opened + p.grace, |s| rotate(s, p, t, r, at))
}

/// Decides whether a token is late as if the windows had opened at another time.
fn with_windows_moved(
    s: &Session,
    by: impl Fn(Timestamp) -> Timestamp,
    rule: impl Fn(&Session) -> Outcome,
) -> Outcome {
    let mut moved = s.clone();
    moved.rotation.window_at = by(s.rotation.window_at);
    moved.rotation.prev_window_at = by(s.rotation.prev_window_at);
    match rule(&moved) {
        outcome @ (Outcome::Reuse { .. } | Outcome::Superseded { .. }) => outcome,
        _ => rule(s),
    }
}

fn one_window(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    match rotate(s, p, t, r, at) {
        Outcome::Superseded { .. } if t.number < s.rotation.window_from => theft(s, at),
        other => other,
    }
}

fn windows_without_distance(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    let mut outcome = rotate(s, p, t, r, at);
    if let Outcome::Issue { session, how: Issued::Advance, change } = &mut outcome {
        let row = &mut session.rotation;
        row.prev_window_at = s.rotation.window_at;
        row.prev_window_from = s.rotation.window_from;
        row.window_at = at.0;
        row.window_from = s.rotation.used;
        change.session = Some(session.clone());
    }
    outcome
}

fn repeat_never(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    match rotate(s, p, t, r, at) {
        Outcome::Issue { how: Issued::Repeat, .. } => theft(s, at),
        other => other,
    }
}

fn repeat_always(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    match rotate(s, p, t, r, at) {
        Outcome::Issue { how: Issued::Branch, .. } => repeat(s),
        other => other,
    }
}

fn branch_with_same_nonce(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    let mut outcome = rotate(s, p, t, r, at);
    if let Outcome::Issue { session, how: Issued::Branch, change } = &mut outcome {
        session.rotation.branch = s.rotation.branch;
        change.session = Some(session.clone());
    }
    outcome
}

fn is_sibling(s: &Session, t: &RefreshToken) -> bool {
    s.ended.is_none() && t.number == s.rotation.used && t.nonce != s.rotation.used_nonce
}

fn sibling_is_late(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    if is_sibling(s, t) { late() } else { rotate(s, p, t, r, at) }
}

fn sibling_advances(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    if !is_sibling(s, t) {
        return rotate(s, p, t, r, at);
    }
    let mut before = s.clone();
    before.rotation.used -= 1;
    rotate(&before, p, t, r, at)
}

fn end_is_not_final(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    rotate(&Session { ended: None, ..s.clone() }, p, t, r, at)
}

fn no_max_ttl(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    let young = Session { started_at: at.0, expires_at: at.0 + p.max_ttl, ..s.clone() };
    rotate(&young, p, t, r, at)
}

fn loosened_lengthens(s: &Session, p: &Policy, t: &RefreshToken, r: OnRollback, at: At<'_>) -> Outcome {
    rotate(&Session { expires_at: s.started_at + p.max_ttl, ..s.clone() }, p, t, r, at)
}

fn no_advance_after_rollback(setting: Setting) -> Setting {
    Setting { on_rollback: OnRollback::Theft, ..setting }
}

fn adopt_last(setting: Setting) -> Setting {
    Setting { adopt: Adopt::Last, ..setting }
}

fn swap_blindly(setting: Setting) -> Setting {
    Setting { swap: Swap::Blind, ..setting }
}

fn forget_endings(setting: Setting) -> Setting {
    Setting { ends_are_durable: false, ..setting }
}

fn late() -> Outcome {
    Outcome::Superseded { change: Change::default() }
}

fn theft(session: &Session, (now, _): At<'_>) -> Outcome {
    Outcome::Reuse { change: session.end(EndReason::ReuseDetected, now, None).unwrap() }
}

fn repeat(session: &Session) -> Outcome {
    Outcome::Issue { session: session.clone(), how: Issued::Repeat, change: Change::default() }
}
