//! Policies: the lifetimes and rules of a client's sessions (design §3).

use crate::id::PolicyName;
use crate::session::{Ended, Session, Status};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How a session is kept alive, hence which credential its client holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyKind {
    /// A short access token that renews itself while it is used.
    Sliding,
    /// One long access token, then a new login.
    Fixed,
    /// Access and refresh tokens (RFC 6749).
    Refresh,
    /// An opaque cookie; the state is on the server.
    Cookie,
}

impl PolicyKind {
    /// The value on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sliding => "sliding",
            Self::Fixed => "fixed",
            Self::Refresh => "refresh",
            Self::Cookie => "cookie",
        }
    }
}

/// For how long a refresh token whose answer was lost may be presented again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LostResponse {
    /// Until its successor is used, however late.
    #[default]
    UntilUsed,
    /// Only within `grace`; later it counts as stolen.
    GraceOnly,
}

/// A policy that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// How its sessions are kept alive.
    pub kind: PolicyKind,
    /// Life of one access token.
    pub access_ttl: Duration,
    /// Earliest renewal, as a fraction of the life.
    pub renew_after: f64,
    /// The session ends after this long without renewal; `None`: no idle time.
    pub idle_ttl: Option<Duration>,
    /// The session ends at this age in any case.
    pub max_ttl: Duration,
    /// Window in which a replayed refresh token gets the same successor.
    pub grace: Duration,
    /// What a replay after `grace` is.
    pub lost_response: LostResponse,
}

/// A policy as it is written in the configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// sliding, fixed, refresh or cookie.
    pub kind: PolicyKind,
    /// Life of one access token, e.g. "5m". Required but for cookie, where it is that of the tokens the gateway mints (default "5m").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_ttl: Option<Ttl>,
    /// Earliest renewal as a fraction of the life: of access_ttl for sliding, of idle_ttl for cookie. Default 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_after: Option<f64>,
    /// The session ends after this long without renewal. Default for sliding: access_ttl. Required for refresh and cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ttl: Option<Ttl>,
    /// The session ends at this age in any case. Required but for fixed, where it is access_ttl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<Ttl>,
    /// Window in which a replayed refresh token gets the same successor. Default "10s"; "0s" closes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Ttl>,
    /// "until-used" (default) or "grace-only".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_response: Option<LostResponse>,
}

/// Why a policy contradicts itself: the key to look at, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy {policy}: {key}: {reason}")]
pub struct PolicyError {
    /// The policy's name.
    pub policy: String,
    /// The key at fault.
    pub key: &'static str,
    /// The reason.
    pub reason: String,
}

impl PolicyConfig {
    /// Checks the policy and fills in its defaults.
    pub fn validate(&self, name: &PolicyName) -> Result<Policy, PolicyError> {
        let fail =
            |key, reason: &str| PolicyError { policy: name.to_string(), key, reason: reason.to_owned() };
        let required = |key, value: Option<Ttl>| {
            let kind = self.kind.as_str();
            value.map(|t| t.0).ok_or_else(|| fail(key, &format!("a {kind} policy needs it")))
        };
        let unused = |key, present: bool| {
            let kind = self.kind.as_str();
            if present {
                Err(fail(key, &format!("has no meaning for a {kind} policy; remove it")))
            } else {
                Ok(())
            }
        };
        if self.kind != PolicyKind::Refresh {
            unused("grace", self.grace.is_some())?;
            unused("lost_response", self.lost_response.is_some())?;
        }
        if matches!(self.kind, PolicyKind::Refresh | PolicyKind::Fixed) {
            unused("renew_after", self.renew_after.is_some())?;
        }
        let (access_ttl, idle_ttl, max_ttl) = match self.kind {
            PolicyKind::Sliding => {
                let access = required("access_ttl", self.access_ttl)?;
                (access, Some(self.idle_ttl.map_or(access, |t| t.0)), required("max_ttl", self.max_ttl)?)
            }
            PolicyKind::Fixed => {
                let access = required("access_ttl", self.access_ttl)?;
                unused("idle_ttl", self.idle_ttl.is_some())?;
                unused("max_ttl", self.max_ttl.is_some_and(|t| t.0 != access))?;
                (access, None, access)
            }
            PolicyKind::Refresh => {
                let max = required("max_ttl", self.max_ttl)?;
                let idle = required("idle_ttl", self.idle_ttl)?;
                (required("access_ttl", self.access_ttl)?, Some(idle), max)
            }
            PolicyKind::Cookie => {
                let max = required("max_ttl", self.max_ttl)?;
                let idle = required("idle_ttl", self.idle_ttl)?;
                let access = self.access_ttl.map_or(DEFAULT_GATEWAY_TTL.min(idle), |t| t.0);
                (access, Some(idle), max)
            }
        };
        for (key, value) in
            [("access_ttl", Some(access_ttl)), ("idle_ttl", idle_ttl), ("max_ttl", Some(max_ttl))]
        {
            if value.is_some_and(|v| v < Duration::from_secs(1)) {
                return Err(fail(key, "must be at least one second"));
            }
            if value.is_some_and(|v| v > MAX_TTL) {
                return Err(fail(key, "must be at most 3650 days"));
            }
        }
        // First, because a sliding policy's idle time may be its access_ttl, and then no line has idle_ttl.
        if access_ttl > max_ttl {
            return Err(fail("access_ttl", "is longer than max_ttl: the token would outlive its session"));
        }
        if idle_ttl.is_some_and(|idle| idle > max_ttl) {
            return Err(fail(
                "idle_ttl",
                "is longer than max_ttl: the session would end before it could be idle",
            ));
        }
        if idle_ttl.is_some_and(|idle| access_ttl > idle) {
            return Err(fail("access_ttl", "is longer than idle_ttl: the token would outlive its session"));
        }
        let grace = self.grace.map_or(DEFAULT_GRACE, |t| t.0);
        if self.kind == PolicyKind::Refresh && grace > MAX_GRACE {
            return Err(fail(
                "grace",
                "must be at most 5 minutes: it is the time a stolen token stays unseen",
            ));
        }
        let renew_after = self.renew_after.unwrap_or(0.5);
        if !(renew_after > 0.0 && renew_after < 1.0) {
            return Err(fail("renew_after", "must lie between 0 and 1, for example 0.5"));
        }
        Ok(Policy {
            name: name.clone(),
            kind: self.kind,
            access_ttl,
            renew_after,
            idle_ttl,
            max_ttl,
            grace,
            lost_response: self.lost_response.unwrap_or_default(),
        })
    }
}

const DEFAULT_GRACE: Duration = Duration::from_secs(10);
const MAX_GRACE: Duration = Duration::from_secs(300);
const DEFAULT_GATEWAY_TTL: Duration = Duration::from_secs(300);
const MAX_TTL: Duration = Duration::from_secs(3650 * 86_400);

impl Policy {
    /// The earliest time between two touches of the row.
    pub fn half_life(&self) -> Duration {
        let base = match self.kind {
            PolicyKind::Cookie => self.idle_ttl.unwrap_or(self.max_ttl),
            _ => self.access_ttl,
        };
        base.mul_f64(self.renew_after)
    }

    /// From when a token issued at `iat` that expires at `exp` may be renewed (all in seconds): after
    /// half its own life, rounded down so that a life of one second can be renewed at all.
    pub fn renew_at(&self, iat: i64, exp: i64) -> i64 {
        let life = Duration::from_secs(u64::try_from(exp.saturating_sub(iat)).unwrap_or(0));
        iat.saturating_add(i64::try_from(life.mul_f64(self.renew_after).as_secs()).unwrap_or(0))
    }
}

/// The policies in force, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Policies(BTreeMap<PolicyName, Policy>);

impl Policies {
    /// The built-in policies, each replaced whole by the configured one of the same name.
    pub fn new<'a>(
        configured: impl IntoIterator<Item = (&'a PolicyName, &'a PolicyConfig)>,
    ) -> Result<Self, PolicyError> {
        let mut all: BTreeMap<PolicyName, Policy> = BTreeMap::new();
        for (name, config) in built_in() {
            let policy = config.validate(&name)?;
            all.insert(name, policy);
        }
        for (name, config) in configured {
            all.insert(name.clone(), config.validate(name)?);
        }
        Ok(Self(all))
    }

    /// The policy of that name.
    pub fn find(&self, name: &PolicyName) -> Option<&Policy> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.0.values()
    }

    /// The longest life of an access token that these policies allow.
    pub fn longest_access_ttl(&self) -> Duration {
        self.iter().map(|p| p.access_ttl).max().unwrap_or_default()
    }

    /// The longest life of a session that these policies allow.
    pub fn longest_max_ttl(&self) -> Duration {
        self.iter().map(|p| p.max_ttl).max().unwrap_or_default()
    }
}

/// What a changed configuration does to a session that lives under the old one.
///
/// `Some` when the session is over at `now` under `policies`: its policy is gone, no longer is about the
/// credential that its client holds (cookie or tokens), or was tightened past what the session has lived.
pub fn ended_by_change(session: &Session, policies: &Policies, now: Timestamp) -> Option<Ended> {
    use crate::event::EndReason;
    let Some(policy) = policies.find(&session.policy) else {
        return Some(Ended { at: now, reason: EndReason::Revoked });
    };
    if (policy.kind == PolicyKind::Cookie) != session.cookie.is_some() {
        return Some(Ended { at: now, reason: EndReason::Revoked });
    }
    match session.status(policy, now) {
        Status::Over(ended) => Some(ended),
        Status::Live(_) => None,
    }
}

/// The policies that ship with Reseal: one per kind, and the session limits of NIST SP 800-63B-4 §2.
pub fn built_in() -> Vec<(PolicyName, PolicyConfig)> {
    let entry = |name: &str, kind, [access, idle, max]: [&str; 3]| {
        let ttl = |text: &str| text.parse().ok();
        let config = PolicyConfig {
            kind,
            access_ttl: ttl(access),
            renew_after: None,
            idle_ttl: ttl(idle),
            max_ttl: ttl(max),
            grace: None,
            lost_response: None,
        };
        (name.parse().expect("built-in names are valid"), config)
    };
    vec![
        entry("web", PolicyKind::Sliding, ["20m", "20m", "12h"]),
        entry("remember", PolicyKind::Fixed, ["7d", "", ""]),
        entry("app", PolicyKind::Refresh, ["5m", "14d", "90d"]),
        entry("browser", PolicyKind::Cookie, ["5m", "14d", "90d"]),
        // NIST SP 800-63B-4: reauthentication at least every 30 d (AAL1); 24 h or after 1 h idle
        // (AAL2); 12 h or after 15 min idle (AAL3). AAL1 has no idle limit: idle equals max.
        entry("nist-aal1", PolicyKind::Refresh, ["5m", "30d", "30d"]),
        entry("nist-aal2", PolicyKind::Refresh, ["5m", "1h", "24h"]),
        entry("nist-aal3", PolicyKind::Refresh, ["5m", "15m", "12h"]),
    ]
}

/// A length of time in whole seconds, written like "90s", "20m", "12h" or "7d".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(pub Duration);

/// A text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time; write a whole number and s, m, h or d, for example \"20m\"")]
pub struct InvalidTtl(String);

impl std::str::FromStr for Ttl {
    type Err = InvalidTtl;

    fn from_str(s: &str) -> Result<Self, InvalidTtl> {
        let fail = || InvalidTtl(s.chars().take(40).collect());
        let unit = s.chars().next_back().ok_or_else(fail)?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(fail()),
        };
        let digits = &s[..s.len() - 1];
        if digits.is_empty() || digits.len() > 12 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fail());
        }
        let number: u64 = digits.parse().map_err(|_| fail())?;
        number.checked_mul(factor).map(|secs| Self(Duration::from_secs(secs))).ok_or_else(fail)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs();
        let (number, unit) = [(86_400, 'd'), (3600, 'h'), (60, 'm')]
            .into_iter()
            .find(|(n, _)| secs > 0 && secs.is_multiple_of(*n))
            .map_or((secs, 's'), |(n, unit)| (secs / n, unit));
        write!(f, "{number}{unit}")
    }
}

impl Serialize for Ttl {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Ttl {
    fn schema_name() -> Cow<'static, str> {
        "Ttl".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]{1,12}[smhd]$",
            "description": "A whole number and s, m, h or d, for example \"20m\"."
        })
    }
}

#[cfg(test)]
mod tests;
