//! What hot sessions write back.

use super::apply::Tx;
use crate::redis::Renewed;
use crate::sqlite::fail::Result;
use crate::sqlite::rows::session;
use reseal_core::Session;

impl Tx<'_> {
    pub(super) fn write_back(&mut self, rows: &[Renewed]) -> Result<()> {
        self.savepoint(|tx| {
            for row in rows {
                let Some(found) = session::by_id(tx.conn, tx.caches, row.id)? else { continue };
                let last = &found.session;
                let is_due = last.version == row.version
                    && last.ended.is_none()
                    && Renewed::order(&last.rotation, last.renewed_at)
                        < Renewed::order(&row.rotation, row.renewed_at);
                if is_due {
                    let next = Session {
                        rotation: row.rotation,
                        renewed_at: row.renewed_at,
                        idle_expires_at: row.idle_expires_at,
                        expires_at: row.expires_at,
                        ..last.clone()
                    };
                    session::replace(tx.conn, (found.place, last), &next)?;
                }
            }
            Ok(())
        })
    }

    pub(super) fn remove(&mut self, sessions: &[Session]) -> Result<usize> {
        self.savepoint(|tx| {
            let mut removed = 0;
            for read in sessions {
                let Some(found) = session::by_id(tx.conn, tx.caches, read.id)? else { continue };
                let same = found.session.version == read.version
                    && found.session.idle_expires_at == read.idle_expires_at;
                if same {
                    session::remove(tx.conn, found.place)?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
    }
}
