//! A session as this command shows it.

use crate::folder::Folder;
use crate::output::{Out, shown};
use crate::words;
use reseal_core::policy::ended_by_change;
use reseal_core::session::{Deadlines, Ended};
use reseal_core::{EndReason, PolicyKind, Session, TimelineEntry, TimelineKind, Timestamp};
use serde::Serialize;

/// A session at one moment.
pub(super) struct View<'a> {
    pub(super) session: &'a Session,
    pub(super) username: Option<String>,
    kind: Option<PolicyKind>,
    deadlines: Deadlines,
    has_idle_time: bool,
    ended: Option<Ended>,
    now: Timestamp,
}

/// The session with the names that the HTTP API uses. Times are Unix seconds.
#[derive(Serialize)]
struct Record<'a> {
    id: String,
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    client_id: &'a str,
    policy: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    scope: String,
    used: u64,
    started_at: i64,
    authenticated_at: i64,
    renewed_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_expires_at: Option<i64>,
    expires_at: i64,
    acr: &'static str,
    amr: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Vec<Line>>,
}

#[derive(Serialize)]
struct Line {
    at: i64,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
}

impl<'a> View<'a> {
    /// The columns of a list.
    pub(super) const HEADER: [&'static str; 8] =
        ["session", "user", "client", "policy", "signed in", "last used", "state", "from"];

    /// The session as it stands at `now` under the policies of the folder.
    pub(super) fn new(folder: &Folder, session: &'a Session, now: Timestamp) -> Self {
        let policy = folder.policies.find(&session.policy);
        let stored = Deadlines { idle: session.idle_expires_at, absolute: session.expires_at };
        Self {
            session,
            username: None,
            kind: policy.map(|p| p.kind),
            deadlines: policy.map_or(stored, |policy| session.deadlines(policy)),
            has_idle_time: policy.is_none_or(|p| p.idle_ttl.is_some()),
            ended: session.ended.or_else(|| ended_by_change(session, &folder.policies, now)),
            now,
        }
    }

    /// Whether it has neither ended nor run out.
    pub(super) const fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    /// One row of a list.
    pub(super) fn row(&self) -> Vec<String> {
        let user = self.username.as_deref().map_or_else(|| self.session.user_id.to_string(), shown);
        let state = match self.ended {
            Some(ended) => format!("{} {}", ended.reason, words::relative(ended.at, self.now)),
            None => format!("ends {}", words::relative(self.deadlines.idle, self.now)),
        };
        vec![
            self.session.id.to_string(),
            user,
            self.session.client_id.to_string(),
            self.session.policy.to_string(),
            words::relative(self.session.started_at, self.now),
            words::relative(self.session.renewed_at, self.now),
            state,
            self.session.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string()),
        ]
    }

    /// Writes it as one line of JSON.
    pub(super) fn json(&self, out: &mut Out, timeline: Option<&[TimelineEntry]>) -> anyhow::Result<()> {
        let session = self.session;
        out.json(&Record {
            id: session.id.to_string(),
            user_id: session.user_id.to_string(),
            username: self.username.as_deref(),
            client_id: session.client_id.as_str(),
            policy: session.policy.as_str(),
            kind: self.kind.map(PolicyKind::as_str),
            scope: session.scope.to_string(),
            used: session.rotation.used,
            started_at: session.started_at.secs(),
            authenticated_at: session.strength.authenticated_at.secs(),
            renewed_at: session.renewed_at.secs(),
            idle_expires_at: self.has_idle_time.then(|| self.deadlines.idle.secs()),
            expires_at: self.deadlines.absolute.secs(),
            acr: session.strength.acr.as_str(),
            amr: session.strength.amr.names().collect(),
            user_agent: session.user_agent.as_deref(),
            ip: session.ip.map(|ip| ip.to_string()),
            ended_at: self.ended.map(|e| e.at.secs()),
            end_reason: self.ended.map(|e| e.reason.as_str()),
            timeline: timeline.map(|lines| lines.iter().map(Line::from).collect()),
        })
    }

    /// Prints it whole, with its timeline.
    pub(super) fn print(&self, timeline: &[TimelineEntry]) -> anyhow::Result<()> {
        let session = self.session;
        let mut out = Out::new();
        let both = |at| words::both(at, self.now);
        let user = match &self.username {
            Some(name) => format!("{} ({})", shown(name), session.user_id),
            None => session.user_id.to_string(),
        };
        let kind = self.kind.map_or("not configured any more", PolicyKind::as_str);
        let methods: Vec<&str> = session.strength.amr.names().collect();
        let mut lines = vec![
            ("session", session.id.to_string()),
            ("user", user),
            ("client", session.client_id.to_string()),
            ("policy", format!("{} ({kind})", session.policy)),
            ("scope", if session.scope.is_empty() { "-".to_owned() } else { session.scope.to_string() }),
            ("signed in", both(session.started_at)),
            (
                "proved by",
                format!(
                    "{} ({}) {}",
                    methods.join(", "),
                    session.acr(),
                    both(session.strength.authenticated_at)
                ),
            ),
            ("last used", both(session.renewed_at)),
        ];
        match self.ended {
            Some(ended) => lines.push(("ended", format!("{}: {}", both(ended.at), in_words(ended.reason)))),
            None => {
                if self.has_idle_time {
                    lines.push(("if unused", format!("ends {}", both(self.deadlines.idle))));
                }
                lines.push(("in any case", format!("ends {}", both(self.deadlines.absolute))));
            }
        }
        lines.push(("from", session.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string())));
        lines.push(("user agent", shown(session.user_agent.as_deref().unwrap_or("-"))));
        for (name, value) in lines {
            out.line(format_args!("{name:13}{value}"))?;
        }
        out.line("\ntimeline")?;
        for entry in timeline {
            let from = entry.ip.map(|ip| format!(" (from {ip})")).unwrap_or_default();
            out.line(format_args!("  {}  {}{from}", words::exact(entry.at), event_in_words(entry.kind)))?;
        }
        out.finish()
    }
}

impl From<&TimelineEntry> for Line {
    fn from(entry: &TimelineEntry) -> Self {
        Self {
            at: entry.at.secs(),
            event: entry.kind.as_str(),
            reason: entry.kind.reason().map(EndReason::as_str),
            ip: entry.ip.map(|ip| ip.to_string()),
        }
    }
}

/// Why a session ended, for people; the name scripts know comes first.
fn in_words(reason: EndReason) -> String {
    let why = match reason {
        EndReason::IdleTimeout => "not used for longer than its policy allows",
        EndReason::MaxLifetime => "as old as its policy allows",
        EndReason::SignedOut => "the user signed out",
        EndReason::Revoked => "an administrator, another device or the client ended it",
        EndReason::PasswordChanged => "the password was changed elsewhere",
        EndReason::ReuseDetected => "a used refresh token came back: two parties held it",
        EndReason::UserDisabled => "the user was disabled or deleted",
        _ => return reason.to_string(),
    };
    format!("{reason}, {why}")
}

fn event_in_words(kind: TimelineKind) -> String {
    let what = match kind {
        TimelineKind::Started => "signed in",
        TimelineKind::FactorPassed => "passed the second factor",
        TimelineKind::Resealed => "got new claims",
        TimelineKind::Branch => "a lost answer was mended with a new branch",
        TimelineKind::Late => "a refresh token that had just been replaced arrived late and was refused",
        TimelineKind::RepeatElsewhere => "the same refresh token came again from elsewhere",
        TimelineKind::Ahead => "a refresh token was ahead of the store, which had lost writes",
        TimelineKind::Ended(reason) => return format!("ended: {}", in_words(reason)),
        other => other.as_str(),
    };
    what.to_owned()
}
