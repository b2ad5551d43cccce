//! A session's timeline: rare events that its owner and administrators may read. Renewals are only
//! counted (by `used`), never listed.

use crate::event::EndReason;
use crate::id::SessionId;
use crate::time::Timestamp;
use std::net::IpAddr;

/// What happened to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimelineKind {
    /// It started.
    Started,
    /// A second factor was passed.
    FactorPassed,
    /// Its credential was issued anew because the claims changed.
    Resealed,
    /// A lost answer was mended with a new branch of the refresh token.
    Branch,
    /// A refresh token that had just been replaced arrived late and was refused.
    Late,
    /// The same refresh token was repeated, within grace, from another address or user agent.
    RepeatElsewhere,
    /// A refresh token was newer than the store, which had lost writes.
    Ahead,
    /// It ended.
    Ended(EndReason),
}

impl TimelineKind {
    /// The name on the wire and in the stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::FactorPassed => "factor_passed",
            Self::Resealed => "resealed",
            Self::Branch => "branch",
            Self::Late => "late",
            Self::RepeatElsewhere => "repeat_elsewhere",
            Self::Ahead => "ahead",
            Self::Ended(_) => "ended",
        }
    }

    /// From what a store kept: the name, and the reason where the session ended.
    pub fn from_parts(name: &str, reason: Option<EndReason>) -> Option<Self> {
        Some(match name {
            "started" => Self::Started,
            "factor_passed" => Self::FactorPassed,
            "resealed" => Self::Resealed,
            "branch" => Self::Branch,
            "late" => Self::Late,
            "repeat_elsewhere" => Self::RepeatElsewhere,
            "ahead" => Self::Ahead,
            "ended" => Self::Ended(reason?),
            _ => return None,
        })
    }

    /// The reason, where the session ended.
    pub const fn reason(self) -> Option<EndReason> {
        match self {
            Self::Ended(reason) => Some(reason),
            _ => None,
        }
    }
}

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    /// The session.
    pub session_id: SessionId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: TimelineKind,
    /// From which address, where known.
    pub ip: Option<IpAddr>,
}

/// Entries kept per session; past that only the end is still recorded, so that nobody can make a
/// timeline grow by repeating himself.
pub const TIMELINE_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_from_its_parts() {
        let plain = [
            TimelineKind::Started,
            TimelineKind::FactorPassed,
            TimelineKind::Resealed,
            TimelineKind::Branch,
            TimelineKind::Late,
            TimelineKind::RepeatElsewhere,
            TimelineKind::Ahead,
        ];
        for kind in plain.into_iter().chain(EndReason::ALL.map(TimelineKind::Ended)) {
            assert_eq!(TimelineKind::from_parts(kind.as_str(), kind.reason()), Some(kind));
        }
        assert_eq!(TimelineKind::from_parts("ended", None), None, "an end has a reason");
        assert_eq!(TimelineKind::from_parts("renewed", None), None, "renewals are counted, not listed");
    }
}
