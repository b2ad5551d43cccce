//! The worlds that are searched. `grace` is two seconds and the clock ticks once a second, so that each
//! boundary (at grace, just past it, at twice grace, just past it) is met.

use crate::world::{Adopt, Setting, Swap, Thief, time};
use reseal_core::credential::{KeyRing, RingKey};
use reseal_core::policy::PolicyConfig;
use reseal_core::refresh::{OnRollback, rotate};
use reseal_core::session::NewSession;
use reseal_core::{Acr, Amr, KeyId, Policy, Session, SessionId, Strength, UserId};

/// How large the worlds are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    is_long: bool,
}

impl Bounds {
    pub(crate) const SHORT: Self = Self { is_long: false };

    /// Larger with `RESEAL_LONG=1`.
    pub(crate) fn of_this_run() -> Self {
        Self { is_long: std::env::var_os("RESEAL_LONG").is_some_and(|v| v == "1") }
    }

    fn pick<T>(self, short: T, long: T) -> T {
        if self.is_long { long } else { short }
    }
}

/// P1: two tabs with one storage; packets are lost, copied, reordered, and late by up to `grace` (answers,
/// in the long run, by any time).
pub(crate) fn two_tabs(bounds: Bounds) -> Setting {
    Setting { horizon: bounds.pick(6, 7), answer_delay: bounds.pick(2, 7), ..base() }
}

/// P1, with tabs that renew many times within `grace`.
pub(crate) fn hasty_tabs(bounds: Bounds) -> Setting {
    Setting { horizon: bounds.pick(2, 3), numbers: bounds.pick(4, 5), answers: 1, ..base() }
}

/// P1, with workers that read, decide and commit one after the other, in any order, and crash.
pub(crate) fn racing_workers(bounds: Bounds) -> Setting {
    Setting { workers: 2, answers: 1, answer_delay: 1, horizon: bounds.pick(3, 4), numbers: 2, ..base() }
}

/// P1, on a store that falls back by up to two writes at any time.
pub(crate) fn forgetful_store(bounds: Bounds) -> Setting {
    Setting {
        on_rollback: OnRollback::Advance,
        forgets: 2,
        answers: 1,
        horizon: bounds.pick(4, 5),
        branches: 1,
        ..base()
    }
}

/// P2: a thief copies the storage; he and the victim act more than `grace` apart.
pub(crate) fn apart(bounds: Bounds) -> Setting {
    Setting {
        thief: Thief::Apart,
        requests: 1,
        answers: 1,
        request_delay: bounds.pick(1, 2),
        answer_delay: bounds.pick(1, 2),
        horizon: bounds.pick(10, 12),
        ..base()
    }
}

/// P3: a thief who renews at any rate.
pub(crate) fn hurry(bounds: Bounds) -> Setting {
    Setting {
        thief: Thief::Hurry,
        requests: 1,
        answers: 1,
        request_delay: 1,
        answer_delay: 1,
        horizon: bounds.pick(7, 8),
        numbers: bounds.pick(3, 4),
        branches: 1,
        ..base()
    }
}

/// P4: sign-out at any time, among racing workers, on a store that falls back.
pub(crate) fn endings(bounds: Bounds) -> Setting {
    Setting {
        sign_out: true,
        workers: bounds.pick(1, 2),
        on_rollback: OnRollback::Advance,
        forgets: 1,
        requests: bounds.pick(1, 2),
        answers: 1,
        request_delay: 1,
        answer_delay: 1,
        horizon: bounds.pick(3, 2),
        numbers: 2,
        branches: 1,
        ..base()
    }
}

/// P5: a session of a few seconds, under policies that are tightened and loosened at any time.
pub(crate) fn old_age(bounds: Bounds) -> Setting {
    let policies = vec![policy("2s", "3s", "6s"), policy("2s", "30s", "60s"), policy("1s", "2s", "4s")];
    Setting {
        requests: 1,
        answers: 1,
        request_delay: 1,
        answer_delay: 1,
        horizon: bounds.pick(9, 10),
        numbers: bounds.pick(4, 6),
        login: login(&policies[0]),
        policies,
        ..base()
    }
}

/// What all worlds start from.
fn base() -> Setting {
    let policies = vec![policy("1m", "1h", "1d")];
    Setting {
        rule: rotate,
        adopt: Adopt::Newer,
        swap: Swap::Compared,
        on_rollback: OnRollback::Theft,
        forgets: 0,
        ends_are_durable: true,
        requests: 2,
        answers: 2,
        request_delay: 2,
        answer_delay: 2,
        workers: 0,
        sign_out: false,
        thief: Thief::None,
        horizon: 0,
        numbers: 3,
        branches: 2,
        ring: KeyRing::new([(KeyId(1), RingKey::new(&[7; 32]))], KeyId(1)).unwrap(),
        login: login(&policies[0]),
        policies,
        rows: Default::default(),
    }
}

fn policy(access: &str, idle: &str, max: &str) -> Policy {
    let json = format!(
        r#"{{"kind": "refresh", "access_ttl": "{access}", "idle_ttl": "{idle}", "max_ttl": "{max}", "grace": "2s"}}"#
    );
    let config: PolicyConfig = serde_json::from_str(&json).unwrap();
    config.validate(&"app".parse().unwrap()).unwrap()
}

fn login(policy: &Policy) -> Session {
    let now = time(0);
    let new = NewSession {
        id: SessionId::from_bytes([1; 16]),
        nonce: [2; 16],
        user_id: UserId::from_bytes([3; 16]),
        client_id: "spa".parse().unwrap(),
        scope: Default::default(),
        key_id: KeyId(1),
        strength: Strength { acr: Acr::Aal1, amr: Amr::PWD, authenticated_at: now },
        user_agent: None,
        ip: None,
    };
    Session::start(new, policy, now).0
}
