//! Removing what is outdated, a few rows at a time.

use super::apply::Tx;
use crate::Swept;
use crate::sqlite::fail::Result;
use crate::sqlite::rows::session::{self, sql_limit};
use crate::sqlite::rows::{challenge, event, user};
use reseal_core::Timestamp;
use rusqlite::params;

/// What to sweep.
#[derive(Clone, Copy, Debug)]
pub(in crate::sqlite) struct Sweep {
    pub(in crate::sqlite) now: Timestamp,
    pub(in crate::sqlite) sessions_before: Timestamp,
    pub(in crate::sqlite) limit: usize,
}

/// Rows looked at in the day that is only partly outdated. Those left over go when the day has passed.
const LOOK_AT: usize = 1000;

impl Tx<'_> {
    pub(super) fn sweep(&mut self, sweep: &Sweep) -> Result<Swept> {
        self.savepoint(|tx| {
            let sessions = tx.sweep_sessions(sweep)?;
            user::forget_deleted(tx.conn, sweep.now, sweep.limit)?;
            Ok(Swept {
                sessions,
                challenges: challenge::sweep(tx.conn, sweep.now, sweep.limit)?,
                events: event::sweep(tx.conn, sweep.now, sweep.limit)?,
            })
        })
    }

    fn sweep_sessions(&mut self, sweep: &Sweep) -> Result<usize> {
        let day = session::day(sweep.sessions_before);
        const PAST_DAYS: &str = "SELECT n FROM sessions WHERE sweep_day < ?1 ORDER BY sweep_day LIMIT ?2";
        let mut outdated = self.numbers(PAST_DAYS, params![day, sql_limit(sweep.limit)])?;
        if outdated.len() < sweep.limit {
            const THIS_DAY: &str = "SELECT n FROM sessions WHERE n IN (
                    SELECT n FROM sessions WHERE sweep_day = ?1 LIMIT ?3)
                AND coalesce(ended_at, idle_expires_at) < ?2 LIMIT ?4";
            let left = sql_limit(sweep.limit - outdated.len());
            let before = sweep.sessions_before.millis();
            outdated.extend(self.numbers(THIS_DAY, params![day, before, sql_limit(LOOK_AT), left])?);
        }
        for n in &outdated {
            session::delete(self.conn, *n)?;
        }
        Ok(outdated.len())
    }

    fn numbers(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<i64>> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let numbers = statement.query_map(params, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(numbers)
    }
}
