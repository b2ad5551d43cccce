//! Faults on purpose, for the conformance suite: what a bad day does to the file, done to the connection.

use super::fail::Result;
use crate::conformance::Fault;
use rusqlite::Connection;

pub(super) fn inject(conn: &mut Connection, fault: Fault) -> Result<()> {
    // SQLite never lets the bound fall below the pages there are.
    let max_pages: i64 = if fault == Fault::DiskFull { 1 } else { 0xffff_fffe };
    conn.query_row(&format!("PRAGMA max_page_count = {max_pages}"), [], |_| Ok(()))?;
    conn.execute_batch(if fault == Fault::ReadOnly {
        "PRAGMA query_only = 1"
    } else {
        "PRAGMA query_only = 0"
    })?;
    let refuse = (fault == Fault::CommitFails).then_some(|| true);
    conn.commit_hook(refuse)?;
    Ok(())
}
