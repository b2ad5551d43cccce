//! What an operator asks for: figures, and how the server is set.

use super::PostgresStore;
use super::rows::Columns;
use crate::StoreError;

/// Figures of a database. Counts of large tables are the server's own estimates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresStats {
    /// The schema's version.
    pub schema: u32,
    /// Bytes of the whole database, indexes included.
    pub database_bytes: u64,
    /// Bytes of the sessions, without their indexes.
    pub session_bytes: u64,
    /// Bytes of the indexes of the sessions.
    pub session_index_bytes: u64,
    /// Sessions, ended ones included; about.
    pub sessions: u64,
    /// Sessions that have not ended; about. They may have run out.
    pub open_sessions: u64,
    /// Lines of all timelines; about.
    pub timeline_lines: u64,
    /// Users; about.
    pub users: u64,
    /// Clients.
    pub clients: u64,
    /// Challenges.
    pub challenges: u64,
    /// Keys.
    pub keys: u64,
    /// Events in the log.
    pub events: u64,
    /// The number of the newest event ever logged.
    pub last_event: u64,
    /// Rows of the sessions that are dead and not yet cleaned up; about.
    pub dead_sessions: u64,
}

/// How a server is set. `None`: it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Its version.
    pub version: String,
    /// Whether it is a standby.
    pub in_recovery: Option<bool>,
    /// Whether commits reach the disk at all.
    pub fsync: Option<bool>,
    /// Whether a torn page can be mended.
    pub full_page_writes: Option<bool>,
    /// For what a commit waits, as it is set for everybody; this engine never goes below `on`.
    pub synchronous_commit: Option<String>,
    /// Which standbys must have a commit; empty: none.
    pub synchronous_standby_names: Option<String>,
    /// How many connections it takes.
    pub max_connections: Option<u32>,
    /// Whether the connection is encrypted.
    pub encrypted: Option<bool>,
}

impl PostgresStore {
    /// Counts; large tables by estimate, so that it takes milliseconds however large they are.
    pub async fn stats(&self) -> Result<PostgresStats, StoreError> {
        self.list_with(|c| {
            Box::pin(async move {
                // An estimate says nothing about a table that was never looked at: then it is small enough.
                const ABOUT: &str = "SELECT
                    (SELECT version FROM reseal_schema WHERE one = 1)::bigint,
                    pg_database_size(current_database()),
                    pg_relation_size('sessions'), pg_indexes_size('sessions'),
                    (SELECT reltuples::bigint FROM pg_class WHERE oid = 'sessions'::regclass),
                    (SELECT reltuples::bigint FROM pg_class WHERE oid = 'timeline'::regclass),
                    (SELECT reltuples::bigint FROM pg_class WHERE oid = 'users'::regclass),
                    (SELECT count(*) FROM clients), (SELECT count(*) FROM challenges),
                    (SELECT count(*) FROM keys), (SELECT count(*) FROM events),
                    (SELECT seq FROM log_head WHERE one = 1),
                    coalesce((SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'sessions'::regclass), 0)";
                let rows = c.query(ABOUT, &[]).await?;
                let Some(row) = rows.first() else { return Ok(PostgresStats::default()) };
                let mut figures = Columns::of(row);
                let mut stats = PostgresStats {
                    schema: u32::try_from(figures.take::<i64>()?).unwrap_or(0),
                    database_bytes: figures.u64()?,
                    session_bytes: figures.u64()?,
                    session_index_bytes: figures.u64()?,
                    ..PostgresStats::default()
                };
                let estimates: [i64; 3] = [figures.take()?, figures.take()?, figures.take()?];
                stats.clients = figures.u64()?;
                stats.challenges = figures.u64()?;
                stats.keys = figures.u64()?;
                stats.events = figures.u64()?;
                stats.last_event = figures.u64()?;
                stats.dead_sessions = figures.u64()?;
                const SMALL: i64 = 100_000;
                let count = |estimate: i64, sql: &'static str| async move {
                    if estimate > SMALL {
                        return Ok(estimate.unsigned_abs());
                    }
                    let row = c.query_opt(sql, &[]).await?;
                    row.map_or(Ok(0), |row| Columns::of(&row).u64())
                };
                stats.sessions = count(estimates[0], "SELECT count(*) FROM sessions").await?;
                stats.timeline_lines = count(estimates[1], "SELECT count(*) FROM timeline").await?;
                stats.users = count(estimates[2], "SELECT count(*) FROM users WHERE version IS NOT NULL").await?;
                stats.open_sessions = if estimates[0] > SMALL {
                    // Among the most common values of the last look at the table.
                    const SHARE: &str = "SELECT coalesce((SELECT (most_common_freqs)[array_position(
                            most_common_vals::text::boolean[], false)] FROM pg_stats
                        WHERE schemaname = current_schema() AND tablename = 'sessions' AND attname = 'ended'), 1)::float8";
                    let row = c.query_opt(SHARE, &[]).await?;
                    let share: f64 = row.map_or(Ok(1.0), |row| Columns::of(&row).take())?;
                    let permille = (share.clamp(0.0, 1.0) * 1000.0).round();
                    // Between 0 and 1000.
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
                    let permille = permille as u64;
                    stats.sessions / 1000 * permille
                } else {
                    count(0, "SELECT count(*) FROM sessions WHERE NOT ended").await?
                };
                Ok(stats)
            })
        })
        .await
    }

    /// Reads how the server is set.
    pub async fn server_info(&self) -> Result<ServerInfo, StoreError> {
        self.read_with(|c| {
            Box::pin(async move {
                const INFO: &str = "SELECT current_setting('server_version'), pg_is_in_recovery(),
                    current_setting('fsync', true), current_setting('full_page_writes', true),
                    (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),
                    current_setting('synchronous_standby_names', true),
                    current_setting('max_connections', true),
                    (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())";
                let rows = c.query(INFO, &[]).await?;
                let Some(row) = rows.first() else { return Ok(ServerInfo::default()) };
                let mut columns = Columns::of(row);
                let on = |text: Option<&str>| text.map(|text| text == "on");
                Ok(ServerInfo {
                    version: columns.take()?,
                    in_recovery: columns.take()?,
                    fsync: on(columns.take()?),
                    full_page_writes: on(columns.take()?),
                    synchronous_commit: columns.take()?,
                    synchronous_standby_names: columns.take()?,
                    max_connections: columns.take::<Option<&str>>()?.and_then(|text| text.parse().ok()),
                    encrypted: columns.take()?,
                })
            })
        })
        .await
    }
}
