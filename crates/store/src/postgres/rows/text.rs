//! Texts that many sessions share, by number.

use super::{Columns, sql_limit};
use crate::postgres::fail::{Fail, Result};
use crate::postgres::known::Held;
use crate::postgres::pool::Client;
use std::collections::HashMap;

/// How much longer than asked for a text is held, so that it need not be held anew at every login.
const AHEAD_DAYS: i32 = 30;

/// The number of the text, which stays at least until that day (user agents) or for good.
pub(in crate::postgres) async fn hold(
    client: &Client,
    text: &str,
    (agent, until): (bool, i32),
) -> Result<Held> {
    const FIND: &str = "SELECT n, until_day FROM texts WHERE text = $1 AND user_agent = $2";
    const HOLD: &str = "INSERT INTO texts (text, user_agent, until_day) VALUES ($1, $2, $3)
        ON CONFLICT (text, user_agent) DO UPDATE SET until_day = greatest(texts.until_day, excluded.until_day)
        RETURNING n, until_day";
    let read = |row: &tokio_postgres::Row| {
        let mut c = Columns::of(row);
        Ok::<_, Fail>(Held { n: c.take()?, until_day: c.take()? })
    };
    let found = client.query_opt(FIND, &[&text, &agent]).await?;
    if let Some(held) = found.as_ref().map(read).transpose()?
        && (!agent || held.until_day >= until)
    {
        return Ok(held);
    }
    let row = client.query_opt(HOLD, &[&text, &agent, &until.saturating_add(AHEAD_DAYS)]).await?;
    row.as_ref().map(read).ok_or_else(|| Fail::corrupt("a text got no number"))?
}

pub(in crate::postgres) async fn by_numbers(
    client: &Client,
    numbers: &[i32],
) -> Result<HashMap<i32, Box<str>>> {
    let rows = client.query("SELECT n, text FROM texts WHERE n = ANY ($1)", &[&numbers]).await?;
    let read = |row| {
        let mut c = Columns::of(row);
        Ok((c.take::<i32>()?, c.take::<&str>()?.into()))
    };
    rows.iter().map(read).collect()
}

/// The number of the text, if there is one.
pub(in crate::postgres) async fn number(client: &Client, text: &str) -> Result<Option<i32>> {
    const FIND: &str = "SELECT n FROM texts WHERE text = $1 AND NOT user_agent";
    let row = client.query_opt(FIND, &[&text]).await?;
    row.map(|row| Columns::of(&row).take()).transpose()
}

/// Forgets user agents that no session can have any more: all that could were outdated before that day.
pub(in crate::postgres) async fn sweep(client: &Client, before_day: i32, limit: usize) -> Result<u64> {
    const SWEEP: &str = "DELETE FROM texts WHERE n IN (
            SELECT n FROM texts WHERE user_agent AND until_day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
        AND NOT EXISTS (SELECT 1 FROM sessions WHERE sweep_day < $1)";
    client.execute(SWEEP, &[&before_day, &sql_limit(limit)]).await
}
