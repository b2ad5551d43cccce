//! What the unit tests share: instants, the policies of the documentation, a session, a key ring.

use crate::auth::{Acr, Amr, Strength};
use crate::credential::{KeyRing, RingKey};
use crate::id::{KeyId, SessionId, UserId};
use crate::policy::{Policy, PolicyConfig};
use crate::session::{NewSession, Session};
use crate::time::Timestamp;

/// The instant `secs` after the tests' zero.
pub(crate) const fn at(secs: i64) -> Timestamp {
    at_millis(secs * 1000)
}

/// The instant `millis` after the tests' zero.
pub(crate) const fn at_millis(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

/// A policy named `test`, from JSON.
pub(crate) fn policy(json: &str) -> Policy {
    let config: PolicyConfig = serde_json::from_str(json).unwrap();
    config.validate(&"test".parse().unwrap()).unwrap()
}

pub(crate) fn sliding() -> Policy {
    policy(r#"{"kind": "sliding", "access_ttl": "20m", "max_ttl": "12h"}"#)
}

pub(crate) fn fixed() -> Policy {
    policy(r#"{"kind": "fixed", "access_ttl": "7d"}"#)
}

pub(crate) fn refresh() -> Policy {
    policy(r#"{"kind": "refresh", "access_ttl": "5m", "idle_ttl": "14d", "max_ttl": "90d"}"#)
}

pub(crate) fn cookie() -> Policy {
    policy(r#"{"kind": "cookie", "access_ttl": "5m", "idle_ttl": "14d", "max_ttl": "90d"}"#)
}

/// A login with a password at `now`.
pub(crate) fn password(now: Timestamp) -> Strength {
    Strength { acr: Acr::Aal1, amr: Amr::PWD, authenticated_at: now }
}

/// A login with both factors at `now`.
pub(crate) fn two_factors(now: Timestamp) -> Strength {
    let amr = Amr::PWD.union(Amr::SMS).union(Amr::MFA);
    Strength { acr: Acr::Aal2, amr, authenticated_at: now }
}

pub(crate) fn new_session(now: Timestamp) -> NewSession {
    NewSession {
        id: SessionId::from_bytes([1; 16]),
        nonce: [2; 16],
        user_id: UserId::from_bytes([3; 16]),
        client_id: "spa".parse().unwrap(),
        scope: "read write".parse().unwrap(),
        key_id: KeyId(1),
        strength: password(now),
        user_agent: Some("Firefox".to_owned()),
        ip: Some([192, 0, 2, 1].into()),
    }
}

/// A session that started at zero.
pub(crate) fn start(policy: &Policy) -> Session {
    Session::start(new_session(at(0)), policy, at(0)).0
}

/// A ring of one key, number 1.
pub(crate) fn ring() -> KeyRing {
    KeyRing::new([(KeyId(1), RingKey::new(&[7; 32]))], KeyId(1)).unwrap()
}
