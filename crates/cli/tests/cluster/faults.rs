//! One round: a fault under load, its end, and what must hold afterwards.

use crate::load::Load;
use crate::nodes::Nodes;
use std::time::{Duration, Instant};

/// Longest time from the end of a fault to the last error it caused, on a slow and loaded machine.
const RECOVERY: Duration = Duration::from_secs(60);
/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(120);
/// Renewals of every client without one error, before and after a fault.
const CALM: u64 = 5;

/// Causes a fault and ends it, under load; returns after the last error. `fault` returns when it is over.
pub(crate) fn round(nodes: &Nodes, load: &Load, name: &str, fault: impl FnOnce()) {
    calm(nodes, load, name);
    let (errors, renewals) = (load.errors(), load.renewals());
    let began = Instant::now();
    fault();
    let over = Instant::now();
    // It has recovered when every client renews and no one meets an error meanwhile.
    loop {
        let before = load.errors();
        load.until_all_renewed(CALM, PATIENCE);
        if load.errors() == before {
            break;
        }
        assert!(over.elapsed() < PATIENCE, "{name}: errors go on: {:?}\n{}", load.last_error(), nodes.logs());
    }
    let last = load.last_error().filter(|(at, _)| *at > over);
    let recovery = last.map_or(Duration::ZERO, |(at, _)| at - over);
    assert!(recovery < RECOVERY, "{name}: recovery took {recovery:?}\n{}", nodes.logs());
    load.check_ledger(nodes);
    calm(nodes, load, name);
    println!(
        "{name}: fault {:?}, {} errors, recovered {recovery:?} after it; {} renewals",
        over - began,
        load.errors() - errors,
        load.renewals() - renewals
    );
}

/// No error at all while every client renews.
pub(crate) fn calm(nodes: &Nodes, load: &Load, when: &str) {
    let before = load.errors();
    load.until_all_renewed(CALM, PATIENCE);
    assert_eq!(load.errors(), before, "{when}: without a fault: {:?}\n{}", load.last_error(), nodes.logs());
}

/// `short` rounds, or `long` ones when the full counts are asked for.
pub(crate) fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("RESEAL_LONG").is_some() { long } else { short }
}
