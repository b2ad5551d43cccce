//! What must always hold, and what must be able to happen so that it says something.

use crate::world::{Setting, Thief, World};
use reseal_core::EndReason;
use reseal_core::refresh::Outcome;
use stateright::Property;

pub(crate) const P1: &str = "P1: no honest client is ever logged out";
pub(crate) const P2: &str = "P2: thief and victim who act apart never both renew twice";
pub(crate) const P3: &str = "P3: a try later than twice grace after one was overtaken ends the session";
pub(crate) const P4: &str = "P4: an ended session never lives again";
pub(crate) const P5: &str = "P5: no session outlives max_ttl";

/// The properties that this world is about.
pub(crate) fn of(setting: &Setting) -> Vec<Property<Setting>> {
    let mut properties = vec![Property::always(P4, stays_ended), Property::always(P5, stays_in_max_ttl)];
    let lives_long_enough = setting.policies.len() == 1;
    match setting.thief {
        Thief::None if !setting.sign_out && lives_long_enough => {
            properties.push(Property::always(P1, honest_client_is_in));
            properties.push(Property::sometimes("the last number is used", |s: &Setting, w: &World| {
                w.row.rotation.used == s.numbers
            }));
        }
        Thief::None => {}
        Thief::Apart => {
            properties.push(Property::always(P2, not_both_renewed_twice));
            properties.push(Property::sometimes("the victim renews twice", |_, w| progress(w)[0] >= 2));
            properties.push(Property::sometimes("the thief renews twice", |_, w| progress(w)[1] >= 2));
            properties.push(Property::sometimes("both renew", |_, w| progress(w).iter().all(|n| *n >= 1)));
            properties.push(Property::sometimes("theft is seen", theft_is_seen));
        }
        Thief::Hurry => {
            properties.push(Property::always(P3, nobody_escapes));
            properties.push(Property::sometimes("the victim is overtaken", |_, w: &World| {
                w.storage.number < w.row.rotation.used
            }));
            properties.push(Property::sometimes("theft is seen", theft_is_seen));
        }
    }
    if setting.sign_out {
        properties.push(Property::sometimes("the user signs out", |_, w: &World| w.seen.ended));
    }
    properties
}

/// The session lives, and the token in storage renews it right now.
fn honest_client_is_in(setting: &Setting, world: &World) -> bool {
    world.row.ended.is_none() && matches!(setting.decide(world, &world.storage), Outcome::Issue { .. })
}

/// How far the victim and the thief came since the theft: the numbers of their newest tokens. (One who
/// merely has a lost answer replaced has not renewed once more.)
fn progress(world: &World) -> [u64; 2] {
    world.booty.as_ref().map_or([0; 2], |booty| {
        let newest = booty.tokens.last().map_or(booty.stolen, |t| t.number);
        [world.storage.number - booty.stolen, newest - booty.stolen]
    })
}

fn not_both_renewed_twice(_: &Setting, world: &World) -> bool {
    progress(world).iter().any(|n| *n < 2)
}

fn nobody_escapes(_: &Setting, world: &World) -> bool {
    !world.seen.escaped
}

fn theft_is_seen(_: &Setting, world: &World) -> bool {
    world.row.ended.is_some_and(|ended| ended.reason == EndReason::ReuseDetected)
}

fn stays_ended(_: &Setting, world: &World) -> bool {
    !world.seen.revived && (!world.seen.ended || world.row.ended.is_some())
}

fn stays_in_max_ttl(_: &Setting, world: &World) -> bool {
    !world.seen.outlived
}
