//! `PUT /v1/me/password`.

use super::commit::{ATTEMPTS, Update, commit, read_again, too_busy};
use super::confirm::{check_password, require_newest_cookie};
use crate::authority::{App, Authority};
use crate::http::answer::{CredentialAnswer, CredentialBody};
use crate::http::body::JsonBody;
use crate::http::caller::{Caller, Origin, ShownIp};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::password::{Password, WeakPassword};
use crate::session::login::busy;
use axum::extract::State;
use http::StatusCode;
use reseal_core::User;
use reseal_core::event::EndReason;
use reseal_core::session::Change;
use reseal_core::user::UserSecrets;
use reseal_store::{EndFilter, EndSessions, Write};
use serde::Deserialize;
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// A new password.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordRequest {
    /// The password so far.
    #[schema(value_type = String, max_length = 1024)]
    current_password: Password,
    /// The new one, exactly as typed.
    #[schema(value_type = String, max_length = 1024)]
    new_password: Password,
}

/// The route.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(change))
}

/// Change my password. Every other session of mine ends in the same moment.
///
/// A wrong current password is 403 `invalid_credentials`, not 401: the caller's own session is good.
#[utoipa::path(
    put, path = "/v1/me/password", tag = "me",
    request_body = PasswordRequest,
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "It is changed; the caller's credential, issued anew", body = CredentialBody),
        (status = 400, description = "Malformed, or `weak_password` with `reason`", body = ErrorBody),
        (status = 401, description = "No live session; `reason` says why it ended", body = ErrorBody),
        (status = 403, description = "`invalid_credentials` (wrong password; the session stays), a client's own token, or a cross-site request with the cookie", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 429, description = "Too many wrong passwords; see Retry-After", body = ErrorBody),
        (status = 503, description = "Try again; see Retry-After", body = ErrorBody),
    )
)]
async fn change(
    State(app): State<App>,
    mut caller: Caller,
    origin: Origin,
    JsonBody(body): JsonBody<PasswordRequest>,
) -> ApiResult<CredentialAnswer> {
    require_newest_cookie(&caller)?;
    let mut checked = check_password(&app, &caller, &origin, body.current_password.clone()).await?;
    app.check_new_password(&body.new_password, &caller.user).await?;
    let hash = app.hasher.hash(body.new_password).await.map_err(busy)?.to_string();
    for _ in 0..ATTEMPTS {
        let now = read_again(&app, &mut caller).await?;
        let found = app.store.user_secrets(now.user.id).await?.ok_or_else(too_busy)?;
        let (user, secrets) = found;
        if secrets.password != checked.password {
            // Changed by somebody else since, or only rehashed: the password given must be the one there.
            checked = check_password(&app, &caller, &origin, body.current_password.clone()).await?;
            continue;
        }
        let new = user.with_new_secret(caller.now);
        let others = EndSessions {
            filter: EndFilter::User { user: user.id, except: Some(caller.session.id) },
            reason: EndReason::PasswordChanged,
            now: caller.now,
            ip: origin.ip,
            event_until: app.event_until(caller.now),
        };
        let session = now.session.change_privilege(caller.now);
        let update = Update {
            old: &user,
            new: new.clone(),
            secrets: Some(UserSecrets { password: Some(hash.clone()), ..secrets }),
            session: Change { session: Some(session.clone()), ..Change::default() },
            extra: vec![Write::EndSessions(others)],
        };
        if commit(&app, &caller, update).await? {
            tracing::warn!(sub = %user.id, sid = %caller.session.id, ip = %ShownIp(origin.ip), "password changed; other sessions ended");
            app.metrics.session_ended(EndReason::PasswordChanged.as_str());
            return app.reseal(&caller, (&session, &new), caller.strength);
        }
    }
    Err(too_busy())
}

impl Authority {
    /// Refuses a password that may not become this user's: 400 `weak_password` with the reason.
    pub async fn check_new_password(&self, password: &Password, user: &User) -> ApiResult<()> {
        let Err(weak) = self.password_policy.check(password, &user.username).await else { return Ok(()) };
        let reason = match &weak {
            WeakPassword::TooShort => "too_short",
            WeakPassword::TooLong => "too_long",
            WeakPassword::Common => "common",
            WeakPassword::Username => "username",
            WeakPassword::Breached => "breached",
            WeakPassword::Unchecked(error) => {
                tracing::error!(%error, "a new password could not be checked");
                return Err(ApiError::unavailable(Duration::from_secs(60)));
            }
        };
        Err(ApiError::new(StatusCode::BAD_REQUEST, "weak_password", weak.to_string()).reason(reason))
    }
}
