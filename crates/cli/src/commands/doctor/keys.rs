//! The master key, and the keys under it.

use super::Findings;
use crate::folder::Folder;
use crate::words;
use reseal_core::keys::{KeyRecord, KeyState, KeyUse, active_key};
use reseal_store::Store as _;
use std::collections::BTreeSet;

pub(super) async fn check(folder: &Folder, findings: &mut Findings) -> anyhow::Result<()> {
    let now = folder.now();
    let records = folder.store.keys().await?;
    if records.is_empty() {
        findings.ok("keys", "none yet; the first start of `reseal serve` makes them");
        return Ok(());
    }
    match folder.key_set(now).await {
        Ok(_) => findings.ok("master key", "opens all keys"),
        Err(error) => findings.fail("master key", format!("{error:#}")),
    }
    let mut wanted: BTreeSet<String> = BTreeSet::from(["ES256".to_owned()]);
    let mut after = None;
    loop {
        let page = folder.store.clients(after.as_ref(), 200).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        wanted.extend(page.into_iter().map(|c| c.algorithm));
    }
    let of = |purpose: Option<&str>| -> Vec<KeyRecord> {
        let is_of = |k: &&KeyRecord| match &k.key_use {
            KeyUse::Signing { algorithm, .. } => purpose == Some(algorithm),
            KeyUse::Ring { .. } => purpose.is_none(),
        };
        records.iter().filter(is_of).cloned().collect()
    };
    for purpose in wanted.iter().map(|a| Some(a.as_str())).chain([None]) {
        let name = purpose.map_or("ring".to_owned(), |a| format!("signing {a}"));
        let keys = of(purpose);
        let Some(active) = active_key(&keys, now) else {
            findings.warn(
                "keys",
                format!("{name}: none is active; the running server makes one within a minute"),
            );
            continue;
        };
        let due = active.active_from + folder.config.keys.rotate_every.0;
        let next = keys.iter().find(|k| k.state(now) == KeyState::Next);
        match next {
            Some(next) => findings.ok(
                "keys",
                format!("{name}: active; the next takes over {}", words::both(next.active_from, now)),
            ),
            None if now > due => findings.warn(
                "keys",
                format!(
                    "{name}: its rotation was due {}; start `reseal serve`, which does it",
                    words::both(due, now)
                ),
            ),
            None => findings.ok("keys", format!("{name}: active; rotates {}", words::both(due, now))),
        }
    }
    Ok(())
}
