//! How entities lie in the tables: one file per table, each with its SQL and its encoding.

pub(super) mod advance;
pub(super) mod challenge;
pub(super) mod client;
pub(super) mod event;
pub(super) mod hot;
pub(super) mod key;
pub(super) mod session;
pub(super) mod text;
pub(super) mod timeline;
pub(super) mod user;

use super::fail::{Fail, Result};
use reseal_core::{Acr, EndReason, Timestamp, UserId};
use std::net::IpAddr;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

/// Reads the columns of a row in the order of its SELECT.
pub(super) struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(super) const fn of(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn take<T: FromSql<'r>>(&mut self) -> Result<T> {
        self.next += 1;
        Ok(self.row.try_get(self.next - 1)?)
    }

    /// A text that names something, parsed without a copy.
    pub(super) fn parse<T: std::str::FromStr>(&mut self, what: &str) -> Result<T> {
        let text: &str = self.take()?;
        text.parse().map_err(|_| Fail::corrupt(format!("no {what}: {text:?}")))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp> {
        Ok(Timestamp::from_millis(self.take()?))
    }

    pub(super) fn time_if_any(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.take::<Option<i64>>()?.map(Timestamp::from_millis))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(self.take::<i64>()?.cast_unsigned())
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(self.take::<i32>()?.cast_unsigned())
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        u8::try_from(self.take::<i16>()?).map_err(|_| Fail::corrupt("no small number"))
    }

    pub(super) fn bytes16(&mut self) -> Result<[u8; 16]> {
        Ok(self.take::<Uuid>()?.into_bytes())
    }

    pub(super) fn bytes16_if_any(&mut self) -> Result<Option<[u8; 16]>> {
        Ok(self.take::<Option<Uuid>>()?.map(Uuid::into_bytes))
    }

    pub(super) fn bytes32_if_any(&mut self) -> Result<Option<[u8; 32]>> {
        let bytes: Option<&[u8]> = self.take()?;
        bytes.map(|b| b.try_into().map_err(|_| Fail::corrupt("no 32 bytes"))).transpose()
    }

    pub(super) fn bytes32(&mut self) -> Result<[u8; 32]> {
        self.bytes32_if_any()?.ok_or_else(|| Fail::corrupt("no 32 bytes"))
    }

    pub(super) fn acr(&mut self) -> Result<Acr> {
        match self.take::<i16>()? {
            1 => Ok(Acr::Aal1),
            2 => Ok(Acr::Aal2),
            other => Err(Fail::corrupt(format!("no acr: {other}"))),
        }
    }

    pub(super) fn user_id(&mut self) -> Result<UserId> {
        Ok(UserId::from_bytes(self.bytes16()?))
    }

    pub(super) fn ip(&mut self) -> Result<Option<IpAddr>> {
        let Some(bytes) = self.take::<Option<&[u8]>>()? else { return Ok(None) };
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            return Ok(Some(v4.into()));
        }
        let v6 = <[u8; 16]>::try_from(bytes).map_err(|_| Fail::corrupt("no address"))?;
        Ok(Some(v6.into()))
    }

    pub(super) fn end_reason(&mut self) -> Result<Option<EndReason>> {
        let Some(text) = self.take::<Option<&str>>()? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Fail::corrupt(format!("no end reason: {text:?}")))
    }
}

pub(super) const fn acr_number(acr: Acr) -> i16 {
    match acr {
        Acr::Aal1 => 1,
        Acr::Aal2 => 2,
    }
}

/// An address as its 4 or 16 bytes.
pub(super) fn ip_bytes(ip: Option<IpAddr>) -> Option<Vec<u8>> {
    ip.map(|ip| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    })
}

pub(super) const fn uuid(bytes: [u8; 16]) -> Uuid {
    Uuid::from_bytes(bytes)
}

pub(super) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
