//! The bytes of a hot row: at most 300, of one version, compared by their first 21.
//!
//! ```text
//! 0  format 1 · version 4 · base 4 · used 8 · branch 4          the head, which a compare-and-swap compares
//! 21 used_nonce 16 · window_at 8 · window_from 8 · prev_window_at 8 · prev_window_from 8
//! 69 renewed_at 8 · idle_expires_at 8 · expires_at 8 · saved 8
//! 101 user 16 · key_id 4 · started_at 8 · strength 13 · flags 1
//!     cookie 26? · binding 32? · ip 4|16? · client · policy · scope · user agent?
//! ```
//! Numbers are little-endian, times milliseconds. A text of up to 16 bytes lies there as it is; of a longer one
//! 16 bytes of its SHA-256 do, and whoever does not know it reads it in the backing store.

use super::backing::Renewed;
use super::texts::{self, TextHash};
use crate::StoreError;
use reseal_core::auth::Strength;
use reseal_core::session::{CookieState, Rotation};
use reseal_core::{Acr, Amr, KeyId, Session, SessionId, Timestamp, UserId};
use std::net::IpAddr;

/// Bytes that tell one state of a row from any other.
pub(super) const HEAD: usize = 21;
/// Bytes of the longest row.
#[cfg(test)]
pub(super) const MAX: usize = 300;
const FORMAT: u8 = 1;
const COLD: usize = 101;
/// Texts up to this length lie in the row.
const INLINE: usize = 16;
const HASHED: u8 = 0xff;

const COOKIE: u8 = 1;
const CONFIRMED: u8 = 2;
const BINDING: u8 = 4;
const IP_V4: u8 = 8;
const IP_V6: u8 = 16;
const USER_AGENT: u8 = 32;

/// The part of a row that renewals write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hot {
    /// The session's version, raised by every write.
    pub(super) version: u32,
    /// The version of the row in the backing store whose privilege this one has.
    pub(super) base: u32,
    pub(super) rotation: Rotation,
    pub(super) renewed_at: Timestamp,
    pub(super) idle_expires_at: Timestamp,
    pub(super) expires_at: Timestamp,
    /// The idle deadline that the backing store has, as far as is known.
    pub(super) saved: Timestamp,
}

/// Why bytes are no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A later version of Reseal wrote it.
    Newer(u8),
    /// It is damaged.
    Damaged,
    /// It has a text that is not known here.
    Text,
}

impl From<Unreadable> for StoreError {
    fn from(unreadable: Unreadable) -> Self {
        Self::Corrupt(match unreadable {
            Unreadable::Newer(format) => format!("a row in Redis has format {format}"),
            Unreadable::Damaged | Unreadable::Text => "a row in Redis is damaged".to_owned(),
        })
    }
}

impl Hot {
    /// The hot part of a session whose privilege is that of `base`.
    pub(super) fn of(session: &Session, base: u32, saved: Timestamp) -> Self {
        Self {
            version: session.version,
            base,
            rotation: session.rotation,
            renewed_at: session.renewed_at,
            idle_expires_at: session.idle_expires_at,
            expires_at: session.expires_at,
            saved,
        }
    }

    /// Reads the first part of a row.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut r = Reader(bytes);
        match r.take::<1>()? {
            [FORMAT] => {}
            [newer] if newer > FORMAT => return Err(Unreadable::Newer(newer)),
            _ => return Err(Unreadable::Damaged),
        }
        let (version, base, used, branch) = (r.u32()?, r.u32()?, r.u64()?, r.u32()?);
        let rotation = Rotation {
            used,
            branch,
            used_nonce: r.take()?,
            window_at: r.time()?,
            window_from: r.u64()?,
            prev_window_at: r.time()?,
            prev_window_from: r.u64()?,
        };
        Ok(Self {
            version,
            base,
            rotation,
            renewed_at: r.time()?,
            idle_expires_at: r.time()?,
            expires_at: r.time()?,
            saved: r.time()?,
        })
    }

    /// Whether this is a later use of the session than `other`.
    pub(super) fn is_later_than(&self, other: &Self) -> bool {
        let order = |hot: &Self| Renewed::order(&hot.rotation, hot.renewed_at);
        order(self) > order(other)
    }

    /// The session of that privilege with this use of it.
    pub(super) fn on(&self, privilege: &Session) -> Session {
        Session {
            version: self.version,
            rotation: self.rotation,
            renewed_at: self.renewed_at,
            idle_expires_at: self.idle_expires_at,
            expires_at: self.expires_at,
            ..privilege.clone()
        }
    }
}

/// The bytes of a session that has not ended.
pub(super) fn encode(session: &Session, base: u32, saved: Timestamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let r = &session.rotation;
    out.push(FORMAT);
    out.extend(session.version.to_le_bytes());
    out.extend(base.to_le_bytes());
    out.extend(r.used.to_le_bytes());
    out.extend(r.branch.to_le_bytes());
    out.extend(r.used_nonce);
    out.extend(r.window_at.millis().to_le_bytes());
    out.extend(r.window_from.to_le_bytes());
    out.extend(r.prev_window_at.millis().to_le_bytes());
    out.extend(r.prev_window_from.to_le_bytes());
    for at in [session.renewed_at, session.idle_expires_at, session.expires_at, saved] {
        out.extend(at.millis().to_le_bytes());
    }
    out.extend(session.user_id.as_bytes());
    out.extend(session.key_id.0.to_le_bytes());
    out.extend(session.started_at.millis().to_le_bytes());
    put_strength(&mut out, session.strength);
    out.push(flags(session));
    if let Some(cookie) = &session.cookie {
        out.extend(cookie.generation.to_le_bytes());
        out.extend(cookie.raised_at.millis().to_le_bytes());
        put_strength(&mut out, cookie.previous);
    }
    out.extend(session.binding.iter().flatten());
    match session.ip {
        Some(IpAddr::V4(ip)) => out.extend(ip.octets()),
        Some(IpAddr::V6(ip)) => out.extend(ip.octets()),
        None => {}
    }
    put_text(&mut out, session.client_id.as_str());
    put_text(&mut out, session.policy.as_str());
    put_text(&mut out, &session.scope.to_string());
    session.user_agent.iter().for_each(|user_agent| put_text(&mut out, user_agent));
    out
}

/// Reads a row of that session; `known` knows long texts.
pub(super) fn decode(
    id: SessionId,
    bytes: &[u8],
    known: impl FnMut(TextHash) -> Option<std::sync::Arc<str>>,
) -> Result<(Session, Hot), Unreadable> {
    let hot = Hot::decode(bytes)?;
    let mut r = Reader(bytes.get(COLD..).ok_or(Unreadable::Damaged)?);
    let (user_id, key_id, started_at) = (UserId::from_bytes(r.take()?), KeyId(r.u32()?), r.time()?);
    let strength = r.strength()?;
    let [flags] = r.take()?;
    let cookie = if flags & COOKIE == 0 {
        None
    } else {
        let (generation, raised_at, previous) = (r.u32()?, r.time()?, r.strength()?);
        Some(CookieState { generation, raised_at, confirmed: flags & CONFIRMED != 0, previous })
    };
    let binding = if flags & BINDING == 0 { None } else { Some(r.take()?) };
    let ip = match flags & (IP_V4 | IP_V6) {
        0 => None,
        IP_V4 => Some(IpAddr::from(r.take::<4>()?)),
        IP_V6 => Some(IpAddr::from(r.take::<16>()?)),
        _ => return Err(Unreadable::Damaged),
    };
    let mut texts = Texts { r, known };
    let (client_id, policy, scope) = (texts.parse()?, texts.parse()?, texts.parse()?);
    let user_agent = if flags & USER_AGENT == 0 { None } else { Some(texts.text()?.to_string()) };
    if !texts.r.0.is_empty() {
        return Err(Unreadable::Damaged);
    }
    let session = Session {
        id,
        user_id,
        client_id,
        policy,
        scope,
        version: hot.version,
        rotation: hot.rotation,
        key_id,
        renewed_at: hot.renewed_at,
        started_at,
        idle_expires_at: hot.idle_expires_at,
        expires_at: hot.expires_at,
        strength,
        cookie,
        binding,
        user_agent,
        ip,
        ended: None,
    };
    Ok((session, hot))
}

/// Whether `next` differs from `last` only in what renewals write. Taken apart, so that a new member cannot
/// be forgotten.
pub(super) fn is_renewal(last: &Session, next: &Session) -> bool {
    let Session {
        id,
        user_id,
        client_id,
        policy,
        scope,
        version: _,
        rotation: _,
        key_id,
        renewed_at: _,
        started_at,
        idle_expires_at: _,
        expires_at: _,
        strength,
        cookie,
        binding,
        user_agent,
        ip,
        ended,
    } = next;
    (id, user_id, key_id, started_at) == (&last.id, &last.user_id, &last.key_id, &last.started_at)
        && (strength, cookie, binding, ip, ended)
            == (&last.strength, &last.cookie, &last.binding, &last.ip, &last.ended)
        && (client_id, policy, scope, user_agent)
            == (&last.client_id, &last.policy, &last.scope, &last.user_agent)
}

fn flags(session: &Session) -> u8 {
    let mut flags = 0;
    if let Some(cookie) = &session.cookie {
        flags |= COOKIE | if cookie.confirmed { CONFIRMED } else { 0 };
    }
    if session.binding.is_some() {
        flags |= BINDING;
    }
    flags |= match session.ip {
        Some(IpAddr::V4(_)) => IP_V4,
        Some(IpAddr::V6(_)) => IP_V6,
        None => 0,
    };
    if session.user_agent.is_some() {
        flags |= USER_AGENT;
    }
    flags
}

fn put_strength(out: &mut Vec<u8>, strength: Strength) {
    out.push(match strength.acr {
        Acr::Aal1 => 1,
        Acr::Aal2 => 2,
    });
    out.extend(strength.amr.bits().to_le_bytes());
    out.extend(strength.authenticated_at.millis().to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(len) if usize::from(len) <= INLINE => {
            out.push(len);
            out.extend(text.as_bytes());
        }
        _ => {
            out.push(HASHED);
            out.extend(texts::hash(text));
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Unreadable::Damaged)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, Unreadable> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Unreadable> {
        self.take().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Result<Timestamp, Unreadable> {
        Ok(Timestamp::from_millis(i64::from_le_bytes(self.take()?)))
    }

    fn strength(&mut self) -> Result<Strength, Unreadable> {
        let acr = match self.take()? {
            [1] => Acr::Aal1,
            [2] => Acr::Aal2,
            _ => return Err(Unreadable::Damaged),
        };
        Ok(Strength { acr, amr: Amr::from_bits(self.u32()?), authenticated_at: self.time()? })
    }
}

struct Texts<'a, F> {
    r: Reader<'a>,
    known: F,
}

impl<F: FnMut(TextHash) -> Option<std::sync::Arc<str>>> Texts<'_, F> {
    fn text(&mut self) -> Result<std::sync::Arc<str>, Unreadable> {
        let [len] = self.r.take()?;
        if len == HASHED {
            return (self.known)(self.r.take()?).ok_or(Unreadable::Text);
        }
        let (text, rest) = self.r.0.split_at_checked(usize::from(len)).ok_or(Unreadable::Damaged)?;
        self.r.0 = rest;
        std::str::from_utf8(text).map(Into::into).map_err(|_| Unreadable::Damaged)
    }

    fn parse<T: std::str::FromStr>(&mut self) -> Result<T, Unreadable> {
        self.text()?.parse().map_err(|_| Unreadable::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{any_session, sample, user_id};
    use proptest::prelude::*;

    fn known(session: &Session) -> texts::Known {
        let mut known = texts::Known::new(10_000);
        known.learn(session);
        known
    }

    #[test]
    fn a_row_reads_back_and_stays_within_its_bound() {
        for (i, session) in sample(any_session(user_id(1)), 2000).into_iter().enumerate() {
            let session = Session { ended: None, ..session };
            let saved = Timestamp::from_millis(i64::try_from(i).unwrap());
            let bytes = encode(&session, 77, saved);
            assert!(bytes.len() <= MAX, "{} bytes", bytes.len());
            let mut known = known(&session);
            let (back, hot) = decode(session.id, &bytes, |hash| known.find(hash)).unwrap();
            assert_eq!(back, session);
            assert_eq!(hot, Hot::of(&session, 77, saved));
            assert_eq!(hot.on(&session), session);
            let mut newer = bytes.clone();
            newer[0] = 2;
            assert_eq!(Hot::decode(&newer), Err(Unreadable::Newer(2)));
            for cut in 0..bytes.len() {
                let read = decode(session.id, &bytes[..cut], |hash| known.find(hash));
                assert_eq!(read.map(|_| ()), Err(Unreadable::Damaged), "cut at {cut}");
            }
        }
    }

    #[test]
    fn the_longest_row_is_within_its_bound() {
        let long = "x".repeat(64);
        let session = sample(any_session(user_id(1)), 1).pop().unwrap();
        let strength = session.strength;
        let longest = Session {
            client_id: long.parse().unwrap(),
            policy: "sixteen-letters-".parse().unwrap(),
            scope: long.parse().unwrap(),
            user_agent: Some("ü".repeat(200)),
            ip: Some("2001:db8::1".parse().unwrap()),
            binding: Some([1; 32]),
            cookie: Some(CookieState {
                generation: u32::MAX,
                raised_at: Timestamp::EPOCH,
                confirmed: true,
                previous: strength,
            }),
            ended: None,
            ..session
        };
        assert!(encode(&longest, 0, Timestamp::EPOCH).len() <= MAX);
    }

    #[test]
    fn the_head_tells_every_two_states_of_a_session_apart() {
        let session = Session { ended: None, ..sample(any_session(user_id(1)), 1).pop().unwrap() };
        let head = |session: &Session, base| encode(session, base, Timestamp::EPOCH)[..HEAD].to_vec();
        let next = Session { version: session.version.wrapping_add(1), ..session.clone() };
        assert_ne!(head(&session, 1), head(&next, 1));
        assert_ne!(head(&session, 1), head(&session, 2));
    }

    #[test]
    fn an_unknown_text_is_told_from_damage() {
        let session = Session {
            user_agent: Some("a text of more than sixteen bytes".to_owned()),
            ended: None,
            ..sample(any_session(user_id(1)), 1).pop().unwrap()
        };
        let bytes = encode(&session, 1, Timestamp::EPOCH);
        let nothing = decode(session.id, &bytes, |_| None).map(|_| ());
        assert_eq!(nothing, Err(Unreadable::Text));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..320), format in 0u8..3) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = format;
            }
            let _ = decode(SessionId::from_bytes([0; 16]), &bytes, |_| Some("text".into()));
        }
    }
}
