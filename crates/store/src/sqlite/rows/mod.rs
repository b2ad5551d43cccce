//! How entities lie in the tables: one file per table, each with its SQL and its encoding.

pub(super) mod challenge;
pub(super) mod client;
pub(super) mod event;
pub(super) mod key;
pub(super) mod session;
pub(super) mod text;
pub(super) mod timeline;
pub(super) mod user;

use super::fail::{Fail, Result};
use reseal_core::{Acr, EndReason, Timestamp, UserId};
use rusqlite::Row;
use rusqlite::types::FromSql;
use std::net::IpAddr;

/// Reads the columns of a row in the order of its SELECT.
pub(super) struct Columns<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

impl<'r, 's> Columns<'r, 's> {
    pub(super) fn of(row: &'r Row<'s>) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn take<T: FromSql>(&mut self) -> Result<T> {
        self.next += 1;
        Ok(self.row.get(self.next - 1)?)
    }

    /// A text that names something, parsed without a copy.
    pub(super) fn parse<T: std::str::FromStr>(&mut self, what: &str) -> Result<T> {
        self.next += 1;
        let text = self.row.get_ref(self.next - 1)?;
        let text = text.as_str().map_err(|e| Fail::corrupt(format!("{what}: {e}")))?;
        text.parse().map_err(|_| Fail::corrupt(format!("no {what}: {text:?}")))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp> {
        Ok(Timestamp::from_millis(self.take()?))
    }

    pub(super) fn time_if_any(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.take::<Option<i64>>()?.map(Timestamp::from_millis))
    }

    /// SQLite's integers are signed; ours go round through the same 64 bits.
    pub(super) fn unsigned(&mut self) -> Result<u64> {
        Ok(self.take::<i64>()?.cast_unsigned())
    }

    pub(super) fn acr(&mut self) -> Result<Acr> {
        match self.take::<i64>()? {
            1 => Ok(Acr::Aal1),
            2 => Ok(Acr::Aal2),
            other => Err(Fail::corrupt(format!("no acr: {other}"))),
        }
    }

    pub(super) fn user_id(&mut self) -> Result<UserId> {
        Ok(UserId::from_bytes(self.take()?))
    }

    pub(super) fn ip(&mut self) -> Result<Option<IpAddr>> {
        self.next += 1;
        let value = self.row.get_ref(self.next - 1)?;
        let Some(bytes) = value.as_blob_or_null().map_err(|e| Fail::corrupt(format!("address: {e}")))? else {
            return Ok(None);
        };
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            return Ok(Some(v4.into()));
        }
        let v6 = <[u8; 16]>::try_from(bytes).map_err(|_| Fail::corrupt("no address"))?;
        Ok(Some(v6.into()))
    }

    pub(super) fn end_reason(&mut self) -> Result<Option<EndReason>> {
        let Some(text) = self.take::<Option<Box<str>>>()? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Fail::corrupt(format!("no end reason: {text:?}")))
    }
}

pub(super) const fn acr_number(acr: Acr) -> i64 {
    match acr {
        Acr::Aal1 => 1,
        Acr::Aal2 => 2,
    }
}

/// An address as its 4 or 16 bytes.
pub(super) enum IpBytes {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl IpBytes {
    pub(super) fn of(ip: Option<IpAddr>) -> Option<Self> {
        ip.map(|ip| match ip {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => Self::V6(ip.octets()),
        })
    }
}

impl rusqlite::ToSql for IpBytes {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        let bytes: &[u8] = match self {
            Self::V4(bytes) => bytes,
            Self::V6(bytes) => bytes,
        };
        Ok(bytes.into())
    }
}
