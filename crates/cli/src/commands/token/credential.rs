//! Refresh tokens, session cookies and client secrets, recognised by their prefix.

use super::inspect::{Report, describe_session};
use crate::folder::Folder;
use reseal_core::credential::{
    RefreshToken, SessionCookie, Unauthentic, UnverifiedRefreshToken, UnverifiedSessionCookie,
};
use reseal_core::{KeyId, Session, SessionId, Timestamp};
use reseal_store::Store as _;

/// Looks at what begins with `rsl_`; `None` for anything else.
pub(super) async fn inspect(
    token: &str,
    folder: Option<&Folder>,
    now: Timestamp,
) -> anyhow::Result<Option<Report>> {
    if token.starts_with("rsl_rt_") {
        let parsed = UnverifiedRefreshToken::parse(token).ok();
        let mut report = begin("refresh token", parsed.as_ref().map(UnverifiedRefreshToken::key_id));
        if let (Some(parsed), Some(folder)) = (parsed, folder) {
            let ring = &folder.key_set(now).await?.ring;
            match ring.authenticate_refresh_token(parsed) {
                Ok(token) => refresh_token(folder, token, now, &mut report).await?,
                Err(fault) => unauthentic(fault, &mut report),
            }
        }
        return Ok(Some(report));
    }
    if token.starts_with("rsl_sc_") {
        let parsed = UnverifiedSessionCookie::parse(token).ok();
        let mut report = begin("session cookie", parsed.as_ref().map(UnverifiedSessionCookie::key_id));
        if let (Some(parsed), Some(folder)) = (parsed, folder) {
            let ring = &folder.key_set(now).await?.ring;
            match ring.authenticate_session_cookie(parsed) {
                Ok(cookie) => session_cookie(folder, cookie, now, &mut report).await?,
                Err(fault) => unauthentic(fault, &mut report),
            }
        }
        return Ok(Some(report));
    }
    Ok(token.starts_with("rsl_").then(|| {
        let kind = if token.starts_with("rsl_cs_") { "client secret" } else { "secret of Reseal" };
        let mut report = Report { kind: kind.to_owned(), beyond_proof: true, ..Report::default() };
        report.facts.push(("means", "no token: it proves who somebody is. Tell nobody".to_owned()));
        report
    }))
}

fn begin(kind: &str, key: Option<KeyId>) -> Report {
    let mut report = Report { kind: format!("{kind} of Reseal"), ..Report::default() };
    match key {
        Some(KeyId(id)) => {
            report.facts.push(("made with", format!("ring key {id}, as it says")));
            report.facts.push(("means", "a bearer secret: whoever has it holds the session".to_owned()));
        }
        None => {
            report.authentic = Some(false);
            report.faults.push("it is cut off or changed: its form is wrong".to_owned());
        }
    }
    report
}

fn unauthentic(fault: Unauthentic, report: &mut Report) {
    report.authentic = Some(false);
    report.faults.push(match fault {
        Unauthentic::UnknownKey(KeyId(id)) => {
            format!("this authority has no ring key {id}: it is of another one, or older than its key")
        }
        Unauthentic::Forged => "it is forged: its tag is wrong".to_owned(),
    });
}

async fn refresh_token(
    folder: &Folder,
    token: RefreshToken,
    now: Timestamp,
    report: &mut Report,
) -> anyhow::Result<()> {
    let number = token.number;
    let Some(session) = session_of(folder, token.session_id, now, report).await? else { return Ok(()) };
    if !token.is_of(&session) {
        report.faults.push("it was made with another key than this session's: it opens nothing".to_owned());
        return Ok(());
    }
    let row = &session.rotation;
    let used = row.used;
    let place = match number {
        _ if number == used + 1 => "the newest: its use brings the next one".to_owned(),
        _ if number == used && token.nonce == row.used_nonce => {
            "used already, its successor is not: using it again repeats the answer, or mends a lost one"
                .to_owned()
        }
        _ if number > used => format!("ahead of the store, which knows of {used}: the store lost writes"),
        _ => {
            report.faults.push(format!(
                "it is stale: number {number}, but {used} is in use. Using it ends the session \
                 (reuse_detected), unless it was replaced just now"
            ));
            return Ok(());
        }
    };
    report.facts.push(("number", format!("{number}, {place}")));
    Ok(())
}

async fn session_cookie(
    folder: &Folder,
    cookie: SessionCookie,
    now: Timestamp,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(session) = session_of(folder, cookie.session_id, now, report).await? else { return Ok(()) };
    let current = session.cookie.map(|c| c.generation);
    report.facts.push(("generation", cookie.generation.to_string()));
    match current {
        Some(current) if cookie.is_of(&session) && cookie.generation <= current => {
            if cookie.generation < current {
                report.faults.push(format!("it is replaced: the session's cookie has generation {current}"));
            }
        }
        _ => report.faults.push("it does not fit the session".to_owned()),
    }
    Ok(())
}

async fn session_of(
    folder: &Folder,
    id: SessionId,
    now: Timestamp,
    report: &mut Report,
) -> anyhow::Result<Option<Session>> {
    report.authentic = Some(true);
    report.facts.push(("session", id.to_string()));
    let Some(snapshot) = folder.store.session(id).await? else {
        report.faults.push("its session is not known any more".to_owned());
        return Ok(None);
    };
    report.facts.push(("user", crate::output::shown(&snapshot.user.username)));
    report.facts.push(("client", snapshot.session.client_id.to_string()));
    describe_session(folder, &snapshot.session, now, report);
    Ok(Some(snapshot.session))
}
