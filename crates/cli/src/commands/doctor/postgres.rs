//! What PostgreSQL says: of itself, of its settings that could lose what was answered, of who else uses it.

use super::{Findings, latency};
use crate::folder::Folder;
use crate::words;
use reseal_store::StoreError;
use reseal_store::postgres::{Neighbours, PostgresStore, ServerInfo};

pub(super) async fn check(folder: &Folder, store: &PostgresStore, findings: &mut Findings) {
    if let Err(error) = ask(folder, store, findings).await {
        findings.fail("database", error.to_string());
    }
}

async fn ask(folder: &Folder, store: &PostgresStore, findings: &mut Findings) -> Result<(), StoreError> {
    let stats = store.stats().await?;
    findings.ok(
        "database",
        format!(
            "{}: schema {}, {}; about {}, {}, {} ({} open)",
            store.shown(),
            stats.schema,
            words::bytes(stats.database_bytes),
            words::count(stats.users, "user"),
            words::count(stats.clients, "client"),
            words::count(stats.sessions, "session"),
            words::grouped(stats.open_sessions),
        ),
    );
    if stats.dead_sessions > 100_000 && stats.dead_sessions > stats.sessions {
        let dead = words::grouped(stats.dead_sessions);
        findings.warn(
            "vacuum",
            format!("{dead} dead rows beside the sessions: autovacuum does not keep up; see that it is on"),
        );
    }
    let info = store.server_info().await?;
    let neighbours = store.neighbours().await?;
    server(&info, &neighbours, findings);
    settings(&info, findings);
    connections(&info, &neighbours, folder.config.store.connections, findings);
    latency::check(store, "latency", findings).await?;
    Ok(())
}

/// Its version, its part, and how it is talked to.
fn server(info: &ServerInfo, neighbours: &Neighbours, findings: &mut Findings) {
    let version = &info.version;
    if info.in_recovery == Some(true) {
        findings.fail(
            "server",
            format!("PostgreSQL {version}, a standby, which takes no writes: name the primary, or all hosts and target_session_attrs=read-write"),
        );
    } else {
        let authorities = match neighbours.authorities {
            0 => "no authority is connected".to_owned(),
            n => format!("{} of authorities", words::count(n, "connection")),
        };
        findings.ok("server", format!("PostgreSQL {version}; {authorities}"));
    }
    match info.encrypted {
        Some(false) if !neighbours.is_local => findings.warn(
            "encryption",
            "the connection is not encrypted, and everybody's records go over it: use sslmode=verify-full",
        ),
        Some(true) => findings.ok("encryption", "the connection is encrypted"),
        _ => {}
    }
}

/// Settings that could lose what was answered.
fn settings(info: &ServerInfo, findings: &mut Findings) {
    let mut sound = true;
    if info.fsync == Some(false) {
        sound = false;
        findings.fail(
            "durability",
            "fsync is off: a crash of the machine may lose or damage everything. Set fsync = on",
        );
    }
    if info.full_page_writes == Some(false) {
        sound = false;
        findings.fail(
            "durability",
            "full_page_writes is off: a crash of the machine may damage the database. Set full_page_writes = on",
        );
    }
    // Of the server's synchronous_commit only what is stricter counts: the engine asks for at least `on`.
    let commit = info.synchronous_commit.as_deref().unwrap_or("on");
    if matches!(commit, "off" | "local") {
        sound = false;
        findings.warn(
            "durability",
            format!("synchronous_commit is {commit} for everybody else here; Reseal asks for `on` itself"),
        );
    }
    if sound {
        findings.ok("durability", "what was answered is on disk");
    }
    match info.synchronous_standby_names.as_deref() {
        Some("") => findings.ok(
            "standby",
            "none must have a commit before it is answered: if the primary is lost, so is what its standby did not have yet",
        ),
        Some(names) => findings.ok("standby", format!("every commit waits for {names}")),
        None => {}
    }
}

/// Whether there is room for this node's connections.
fn connections(info: &ServerInfo, neighbours: &Neighbours, wanted: usize, findings: &mut Findings) {
    let Some(most) = info.max_connections.map(u64::from) else { return };
    let room = most.saturating_sub(neighbours.reserved);
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let used = neighbours.connections;
    let text = format!("{used} of {room} in use; a node takes up to {wanted} (store.connections)");
    if wanted >= room {
        findings.fail("connections", format!("{text}: raise max_connections, or lower store.connections"));
    } else if used.saturating_add(wanted) > room {
        findings.warn("connections", format!("{text}: another node may find none; raise max_connections"));
    } else {
        findings.ok("connections", text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn levels(look: impl FnOnce(&mut Findings)) -> Vec<(&'static str, Level)> {
        let mut findings = Findings::default();
        look(&mut findings);
        findings.0.iter().map(|finding| (finding.check, finding.level)).collect()
    }

    fn info(change: impl FnOnce(&mut ServerInfo)) -> ServerInfo {
        let mut info = ServerInfo::default();
        info.fsync = Some(true);
        info.full_page_writes = Some(true);
        info.synchronous_commit = Some("on".to_owned());
        info.max_connections = Some(100);
        change(&mut info);
        info
    }

    #[test]
    fn settings_that_lose_what_was_answered_are_faults() {
        assert_eq!(levels(|f| settings(&info(|_| {}), f)), [("durability", Level::Ok)]);
        for broken in [info(|i| i.fsync = Some(false)), info(|i| i.full_page_writes = Some(false))] {
            assert_eq!(levels(|f| settings(&broken, f)), [("durability", Level::Fail)]);
        }
        let lax = info(|i| i.synchronous_commit = Some("off".to_owned()));
        assert_eq!(levels(|f| settings(&lax, f)), [("durability", Level::Warn)]);
        let alone = info(|i| i.synchronous_standby_names = Some(String::new()));
        assert_eq!(levels(|f| settings(&alone, f))[1], ("standby", Level::Ok));
    }

    #[test]
    fn there_must_be_room_for_a_node() {
        let found = |used, wanted| {
            let mut neighbours = Neighbours::default();
            (neighbours.connections, neighbours.reserved) = (used, 3);
            levels(|f| connections(&info(|_| {}), &neighbours, wanted, f))[0].1
        };
        assert_eq!(found(10, 8), Level::Ok);
        assert_eq!(found(89, 8), Level::Ok);
        assert_eq!(found(90, 8), Level::Warn);
        assert_eq!(found(1, 97), Level::Fail);
    }

    #[test]
    fn a_standby_and_a_plain_connection_are_told() {
        let plain = info(|i| i.encrypted = Some(false));
        let mut here = Neighbours::default();
        here.is_local = true;
        assert_eq!(levels(|f| server(&plain, &here, f)), [("server", Level::Ok)]);
        let elsewhere = Neighbours::default();
        assert_eq!(levels(|f| server(&plain, &elsewhere, f))[1], ("encryption", Level::Warn));
        let standby = info(|i| i.in_recovery = Some(true));
        assert_eq!(levels(|f| server(&standby, &here, f)), [("server", Level::Fail)]);
    }
}
