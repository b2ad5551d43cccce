//! Whether it is really the user: what changes how he logs in needs a recent login or his password
//! (ASVS 6.2.3, 7.5.1).

use crate::authority::Authority;
use crate::http::caller::{Caller, Origin, Presented, superseded};
use crate::http::error::{ApiError, ApiResult};
use crate::limits::LimitError;
use crate::password::{Password, StoredHash};
use crate::session::login::busy;
use reseal_core::user::{UserSecrets, username_key};
use std::net::IpAddr;

/// Refuses a caller who neither logged in a short while ago nor gives the current password.
pub(super) async fn confirm(
    app: &Authority,
    caller: &Caller,
    origin: &Origin,
    password: Option<Password>,
) -> ApiResult<()> {
    require_newest_cookie(caller)?;
    match password {
        Some(password) => check_password(app, caller, origin, password).await.map(drop),
        None => caller.require_recent_login(app.config.users.recent_login.0),
    }
}

/// Refuses a cookie that was replaced more than a moment ago. It may still look around for a while, but
/// a change of privilege makes a new value, and its holder would not get that one (design §5).
pub(super) fn require_newest_cookie(caller: &Caller) -> ApiResult<()> {
    match caller.presented {
        Presented::Cookie { generation, send: false }
            if caller.session.cookie.is_none_or(|c| c.generation != generation) =>
        {
            Err(superseded())
        }
        _ => Ok(()),
    }
}

/// Checks the current password, under the limits of logins, and returns the secrets it was found in.
///
/// A wrong one is 403, not 401: the caller's session is good, and a client that signs out on every 401
/// must not do so because of a typing error.
pub(super) async fn check_password(
    app: &Authority,
    caller: &Caller,
    origin: &Origin,
    password: Password,
) -> ApiResult<UserSecrets> {
    let (now, sub, sid) = (caller.now.millis(), caller.user.id, caller.session.id);
    let account = username_key(&caller.user.username);
    let address = origin.ip.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let limited = |error: LimitError| match error {
        LimitError::TooMany(wait) => {
            tracing::warn!(%sub, %sid, "password check limited");
            ApiError::too_many_requests(wait.0, "Too many wrong passwords. Wait, then try again.")
        }
        LimitError::Store(error) => error.into(),
    };
    let attempt = app.login_limits.check(now, &account, address).await.map_err(limited)?;
    let secrets = app.store.user_secrets(sub).await?.map(|(_, secrets)| secrets).unwrap_or_default();
    let stored = secrets.password.as_deref().and_then(|hash| StoredHash::parse(hash).ok());
    let known = stored.is_some();
    let verdict =
        app.hasher.verify(password, stored.unwrap_or_else(StoredHash::dummy)).await.map_err(busy)?;
    if known && verdict.ok {
        app.login_limits.success(now, attempt).await.map_err(limited)?;
        Ok(secrets)
    } else {
        app.login_limits.failure(now, attempt).await.map_err(limited)?;
        tracing::warn!(%sub, %sid, "wrong current password");
        Err(ApiError::forbidden(
            "invalid_credentials",
            "The current password is wrong. You are still signed in.",
        ))
    }
}
