//! What the database says.

use super::Findings;
use crate::folder::Folder;
use crate::words;
use reseal_core::Timestamp;
use reseal_core::policy::ended_by_change;
use reseal_store::Store as _;
use reseal_store::sqlite::SqliteStore;
use std::time::Duration;

/// A write-ahead log that grew beyond this is not being written back.
const LOG_WARN: u64 = 256 << 20;

/// The embedded database.
pub(super) fn check_file(store: &SqliteStore, quick: bool, findings: &mut Findings) {
    match store.stats() {
        Ok(stats) => {
            findings.ok(
                "database",
                format!(
                    "schema {}, {} and a log of {}; {}, {}, {} ({} open)",
                    stats.schema,
                    words::bytes(stats.database_bytes),
                    words::bytes(stats.log_bytes),
                    words::count(stats.users, "user"),
                    words::count(stats.clients, "client"),
                    words::count(stats.sessions, "session"),
                    words::grouped(stats.open_sessions),
                ),
            );
            if stats.log_bytes > LOG_WARN {
                let size = words::bytes(stats.log_bytes);
                findings.warn(
                    "write log",
                    format!("{size} are not written back: a backup or another long reader holds it, or no server runs; restart the server if it stays"),
                );
            }
        }
        Err(error) => findings.fail("database", error.to_string()),
    }
    if quick {
        return;
    }
    match store.quick_check() {
        Ok(found) if found.is_empty() => findings.ok("integrity", "no damage found"),
        Ok(found) => findings.fail(
            "integrity",
            format!("damaged: {}. Keep a copy of the folder, then restore the last backup", found.join("; ")),
        ),
        Err(error) => findings.fail("integrity", error.to_string()),
    }
}

/// The first day of the year in which this was written: no clock that is right shows less.
const PROGRAM_YEAR: Timestamp = Timestamp::from_secs(1_767_225_600);
/// Clocks that differ by more make trouble (design: nodes above it are not ready).
const SKEW: Duration = Duration::from_secs(30);

/// A clock that stands before what was written under it runs behind, or ran ahead.
pub(super) async fn check_clock(folder: &Folder, findings: &mut Findings) -> anyhow::Result<()> {
    let now = folder.now();
    let written = folder.store.keys().await?.iter().map(|k| k.created_at).max().unwrap_or(Timestamp::EPOCH);
    if now < PROGRAM_YEAR {
        findings.fail("clock", format!("it shows {}; set it (NTP)", words::exact(now)));
    } else if written > now + SKEW {
        let text = format!(
            "it shows {}, but a key was made {}: it runs behind, or ran ahead then; set it (NTP)",
            words::exact(now),
            words::both(written, now)
        );
        findings.fail("clock", text);
    } else {
        findings.ok("clock", words::exact(now));
    }
    Ok(())
}

pub(super) async fn check_policies(folder: &Folder, findings: &mut Findings) -> anyhow::Result<()> {
    let missing = folder.clients_without_policy().await?;
    let missing: Vec<_> =
        missing.iter().map(|c| format!("client {} needs policy {}", c.id, c.policy)).collect();
    if !missing.is_empty() {
        let text =
            format!("{}: add the policy to the configuration, or change the client", missing.join(", "));
        findings.fail("policies", text);
        return Ok(());
    }
    let now = folder.now();
    let page = folder.store.open_sessions(None, 1000).await?;
    let is_over = |s: &&reseal_core::Session| {
        now < s.idle_expires_at && now < s.expires_at && ended_by_change(s, &folder.policies, now).is_some()
    };
    if page.iter().any(|s| is_over(&s)) {
        findings.warn("policies", "they would end live sessions; `reseal policies check` counts them");
    } else {
        findings.ok("policies", format!("{} in force", folder.policies.iter().count()));
    }
    Ok(())
}

/// The hosted pages need a client that is there and fits.
pub(super) async fn check_gateway(folder: &Folder, findings: &mut Findings) -> anyhow::Result<()> {
    let Some(id) = &folder.config.gateway.client_id else { return Ok(()) };
    let client = folder.store.client(id).await?;
    match reseal_server::gateway::unusable(client.as_ref(), &folder.policies) {
        None => findings.ok("gateway", format!("client {id} signs users in on the hosted pages")),
        Some(why) => findings.warn(
            "gateway",
            format!("the client {id} of [gateway] {why}: there is no sign-in page until that is changed"),
        ),
    }
    Ok(())
}
