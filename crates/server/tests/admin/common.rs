//! What the tests of administration share.

use crate::support::{Answer, Credential, SERVICE, SERVICE_SECRET, TestAuthority};
use http::StatusCode;
use reseal_core::event::EventKind;
use reseal_core::{EndReason, SessionId, UserId};

/// A token of the service client, of this scope or of all that it may have.
pub async fn service_token(authority: &TestAuthority, scope: Option<&str>) -> Credential {
    let mut pairs =
        vec![("grant_type", "client_credentials"), ("client_id", SERVICE), ("client_secret", SERVICE_SECRET)];
    pairs.extend(scope.map(|scope| ("scope", scope)));
    let answer = authority.form("/oauth/token", &pairs).await;
    answer.expect(StatusCode::OK);
    answer.credential()
}

pub async fn admin(authority: &TestAuthority) -> Credential {
    service_token(authority, None).await
}

/// All events of a kind of which `pick` makes something.
pub async fn events<T>(authority: &TestAuthority, pick: impl Fn(EventKind) -> Option<T>) -> Vec<T> {
    let events = authority.app.store.events_after(0, 1000).await.unwrap();
    events.into_iter().filter_map(|e| pick(e.event.kind)).collect()
}

pub async fn claims_changed(authority: &TestAuthority) -> Vec<u64> {
    events(authority, |kind| match kind {
        EventKind::ClaimsChanged { rev, .. } => Some(rev),
        _ => None,
    })
    .await
}

pub async fn clients_changed(authority: &TestAuthority) -> Vec<String> {
    events(authority, |kind| match kind {
        EventKind::ClientChanged { client_id, .. } => Some(client_id.to_string()),
        _ => None,
    })
    .await
}

pub async fn ended(authority: &TestAuthority) -> Vec<(SessionId, EndReason)> {
    events(authority, |kind| match kind {
        EventKind::SessionEnded { sid, reason } => Some((sid, reason)),
        _ => None,
    })
    .await
}

pub async fn show_session(authority: &TestAuthority, with: &Credential) -> Answer {
    authority.get("/v1/session", with).await
}

pub fn user_path(id: UserId) -> String {
    format!("/v1/admin/users/{id}")
}
