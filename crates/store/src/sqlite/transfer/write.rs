//! Records on their way into the tables.

use crate::sqlite::rows::{challenge, client, event, key, session, timeline, user};
use crate::transfer::{Batch, Item, SessionRecord, TransferError, UserRecord, key_name};
use reseal_core::client::SecretHash;
use rusqlite::{Connection, params};

/// Children first.
pub(super) const CLEAR: &str = "
DELETE FROM timeline; DELETE FROM sessions; DELETE FROM texts; DELETE FROM user_secrets; DELETE FROM users;
DELETE FROM clients; DELETE FROM challenges; DELETE FROM keys; DELETE FROM events; DELETE FROM meta;
DELETE FROM sqlite_sequence WHERE name = 'events';
";

/// Writes a batch: first what is gone, children before parents, then what is there, parents first.
pub(super) fn write(conn: &Connection, batch: &Batch) -> Result<(), TransferError> {
    for item in &batch.gone {
        remove(conn, item)?;
    }
    for (name, value) in &batch.meta {
        put_meta(conn, name, value)?;
    }
    for record in &batch.clients {
        client::delete(conn, &record.id)?;
        client::insert(conn, record)?;
    }
    for record in &batch.keys {
        key::delete(conn, &record.key_use)?;
        key::put(conn, record)?;
    }
    for record in &batch.users {
        match record {
            UserRecord::Live(record, secrets) => user::put(conn, record, secrets)?,
            UserRecord::Deleted(deleted) => user::put_deleted(conn, deleted)?,
        }
    }
    for record in &batch.sessions {
        put_session(conn, record)?;
    }
    for record in &batch.challenges {
        challenge::remove(conn, &record.id)?;
        challenge::insert(conn, record)?;
    }
    for record in &batch.events {
        event::put(conn, record)?;
    }
    Ok(())
}

fn put_session(conn: &Connection, record: &SessionRecord) -> Result<(), TransferError> {
    let id = record.session.user_id;
    let user_n = match user::number(conn, id)? {
        Some(n) => n,
        None => {
            // A user who came while users were copied: the note of that follows, and fills the row.
            conn.prepare_cached("INSERT INTO users (id) VALUES (?1)")?.execute([id.as_bytes()])?;
            conn.last_insert_rowid()
        }
    };
    session::put(conn, user_n, &record.session)?;
    if let Some(place) = session::place(conn, record.session.id)? {
        timeline::replace(conn, place.n, &record.timeline)?;
    }
    Ok(())
}

fn remove(conn: &Connection, item: &Item) -> Result<(), TransferError> {
    match item {
        Item::Meta(name) => {
            conn.prepare_cached("DELETE FROM meta WHERE name = ?1")?.execute([name])?;
        }
        Item::Client(id) => client::delete(conn, id)?,
        Item::Key(key_use) => {
            conn.prepare_cached("DELETE FROM keys WHERE name = ?1")?.execute([key_name(key_use)])?;
        }
        Item::User(id) => {
            let Some(n) = user::number(conn, *id)? else { return Ok(()) };
            let sessions = conn
                .prepare_cached("SELECT n FROM sessions WHERE user = ?1")?
                .query_map([n], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<i64>>>()?;
            sessions.into_iter().try_for_each(|n| session::delete(conn, n))?;
            user::remove(conn, n)?;
        }
        Item::Session(id) => {
            if let Some(place) = session::place(conn, *id)? {
                session::delete(conn, place.n)?;
            }
        }
        Item::Challenge(id) => challenge::remove(conn, &SecretHash(*id))?,
        Item::Event(seq) => {
            conn.prepare_cached("DELETE FROM events WHERE seq = ?1")?.execute([seq.cast_signed()])?;
        }
    }
    Ok(())
}

pub(super) fn put_meta(conn: &Connection, name: &str, value: &[u8]) -> Result<(), TransferError> {
    const PUT: &str = "INSERT INTO meta (name, value) VALUES (?1, ?2)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    conn.prepare_cached(PUT)?.execute(params![name, value])?;
    Ok(())
}
