//! Why a request is refused: one type for each failure, all of them in [`Refusal`].

use crate::challenge::{Answer, Challenge};
use crate::error::VerifyError;
use http::StatusCode;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The `realm` of the challenges, if one was set.
pub(crate) type Realm = Option<Arc<str>>;

/// In the extensions of a request that went through a layer with a realm.
#[derive(Clone, Debug)]
pub(crate) struct InRealm(pub(crate) Realm);

impl InRealm {
    pub(crate) fn of(extensions: &http::Extensions) -> Realm {
        extensions.get::<Self>().and_then(|Self(realm)| realm.clone())
    }
}

/// Why a request is refused.
///
/// Each failure has a type of its own, which handlers can return by itself; this is all of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// 401 without an error code: no token was sent.
    MissingToken(MissingToken),
    /// 400 `invalid_request`: an `Authorization` header that cannot be read, or two of them.
    MalformedAuthorization(MalformedAuthorization),
    /// 401 `invalid_token`.
    InvalidToken(InvalidToken),
    /// 403 `insufficient_scope`.
    InsufficientScope(InsufficientScope),
    /// 401 `insufficient_user_authentication` (RFC 9470).
    InsufficientAuthentication(InsufficientAuthentication),
    /// 503 `temporarily_unavailable`: nobody can say now whether the token is good.
    TemporarilyUnavailable(TemporarilyUnavailable),
    /// 500 `server_error`: the token is good, and its claims are not what the handler's type says.
    UnfitClaims(UnfitClaims),
}

/// No access token was sent, or a kind of credential that is none of ours: 401 with a bare challenge
/// (RFC 6750 §3: no error code).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingToken {
    pub(crate) realm: Realm,
}

/// The `Authorization` header is not `Bearer` and one token, or there are several: 400 (RFC 6750 §3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MalformedAuthorization {
    pub(crate) realm: Realm,
}

/// The token is not good (any more): 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidToken {
    pub(crate) realm: Realm,
    description: Cow<'static, str>,
    reason: Option<Cow<'static, str>>,
}

/// The token does not grant what is needed: 403.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsufficientScope {
    pub(crate) realm: Realm,
    /// All that is needed, with spaces between.
    pub(crate) scope: String,
}

/// The user must authenticate again, or better: 401 (RFC 9470 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsufficientAuthentication {
    pub(crate) realm: Realm,
    /// Any of these is enough; empty: any at all.
    pub(crate) acr_values: Vec<String>,
    /// How old the login may be, in seconds.
    pub(crate) max_age: Option<u64>,
}

/// The token cannot be judged, or not be replaced, at this moment: 503. Never 401: a client must not sign
/// its user out because the authority is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemporarilyUnavailable {
    pub(crate) retry_after: u64,
}

/// The claims of a good token do not fit the type that a handler asked for: 500.
///
/// It is no 401: a new login would give the same claims, and a client that signs in again on 401 would do so
/// for ever. It is no 403 either, for the user did nothing wrong. The client's registration (`claims`) and the
/// handler's type contradict each other, and that is to be mended where they are written. Make optional what
/// not every client shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnfitClaims(());

impl UnfitClaims {
    /// Notes in the log that `C` did not fit. The message of serde may quote a value, so its kind is all that is
    /// logged.
    #[cfg(feature = "axum")]
    pub(crate) fn log<C>(error: &serde_json::Error) -> Self {
        tracing::error!(
            claims = std::any::type_name::<C>(),
            kind = ?error.classify(),
            column = error.column(),
            "the token's claims do not fit the handler's type; see the client's list of claims"
        );
        Self(())
    }
}

impl Refusal {
    /// Refused because of this error.
    pub(crate) fn of(error: &VerifyError, realm: Realm) -> Self {
        match error {
            VerifyError::Unavailable(_) => TemporarilyUnavailable { retry_after: 1 }.into(),
            _ => InvalidToken::of(error, realm).into(),
        }
    }

    /// What it looks like on the wire.
    pub fn answer(&self) -> Answer {
        match self {
            Self::MissingToken(refused) => refused.answer(),
            Self::MalformedAuthorization(refused) => refused.answer(),
            Self::InvalidToken(refused) => refused.answer(),
            Self::InsufficientScope(refused) => refused.answer(),
            Self::InsufficientAuthentication(refused) => refused.answer(),
            Self::TemporarilyUnavailable(refused) => refused.answer(),
            Self::UnfitClaims(refused) => refused.answer(),
        }
    }

    pub(crate) fn in_realm(mut self, of: &Realm) -> Self {
        match &mut self {
            Self::MissingToken(MissingToken { realm })
            | Self::MalformedAuthorization(MalformedAuthorization { realm })
            | Self::InvalidToken(InvalidToken { realm, .. })
            | Self::InsufficientScope(InsufficientScope { realm, .. })
            | Self::InsufficientAuthentication(InsufficientAuthentication { realm, .. }) => {
                realm.clone_from(of);
            }
            Self::TemporarilyUnavailable(_) | Self::UnfitClaims(_) => {}
        }
        self
    }
}

impl MissingToken {
    /// What it looks like on the wire.
    pub fn answer(&self) -> Answer {
        let text = "Sign in first: send an access token as a Bearer token.";
        Answer::new(StatusCode::UNAUTHORIZED, "unauthorized", text)
            .challenge(Challenge::bearer(self.realm.as_deref()))
    }
}

impl MalformedAuthorization {
    /// What it looks like on the wire.
    pub fn answer(&self) -> Answer {
        let (code, text) = ("invalid_request", "The Authorization header must be `Bearer` and one token.");
        Answer::new(StatusCode::BAD_REQUEST, code, text)
            .challenge(Challenge::bearer(self.realm.as_deref()).error(code).description(text))
    }
}

impl InvalidToken {
    pub(crate) fn of(error: &VerifyError, realm: Realm) -> Self {
        let description = match error {
            VerifyError::Expired => "The access token has expired.".into(),
            VerifyError::SessionEnded(reason) => session_over(reason.as_str()),
            VerifyError::ClaimsChanged => {
                "The claims have changed since the access token was issued. Renew it and try again.".into()
            }
            error => format!("The access token is not valid here: {error}.").into(),
        };
        Self { realm, description, reason: error.reason().map(Cow::Borrowed) }
    }

    /// Refused by the authority, which told this reason.
    pub(crate) fn by_authority(reason: Option<&str>, realm: Realm) -> Self {
        let description =
            reason.map_or("The authority does not accept the access token.".into(), session_over);
        Self { realm, description, reason: reason.map(|r| Cow::Owned(r.to_owned())) }
    }

    /// The `reason` that its owner is told: `signed_out`, `claims_changed` and the like.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// What it looks like on the wire.
    pub fn answer(&self) -> Answer {
        let code = "invalid_token";
        let challenge = Challenge::bearer(self.realm.as_deref()).error(code).description(&self.description);
        let answer = Answer::new(StatusCode::UNAUTHORIZED, code, &self.description).challenge(challenge);
        match self.reason() {
            Some(reason) => answer.with("reason", reason),
            None => answer,
        }
    }
}

impl InsufficientScope {
    /// All that is needed, with spaces between.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// What it looks like on the wire.
    pub fn answer(&self) -> Answer {
        let code = "insufficient_scope";
        let text = format!("This needs the scope {}.", self.scope);
        let challenge = Challenge::bearer(self.realm.as_deref()).error(code).with("scope", &self.scope);
        Answer::new(StatusCode::FORBIDDEN, code, &text).challenge(challenge)
    }
}

impl InsufficientAuthentication {
    /// The authentication contexts of which one is needed; empty: any at all.
    pub fn acr_values(&self) -> &[String] {
        &self.acr_values
    }

    /// How old the login may be, in seconds.
    pub const fn max_age(&self) -> Option<u64> {
        self.max_age
    }

    /// What it looks like on the wire.
    pub fn answer(&self) -> Answer {
        let code = "insufficient_user_authentication";
        let text = match (self.acr_values.is_empty(), self.max_age) {
            (true, _) => "This needs a recent login.",
            (false, None) => "This needs a stronger login.",
            (false, Some(_)) => "This needs a stronger or more recent login.",
        };
        let mut answer = Answer::new(StatusCode::UNAUTHORIZED, code, text);
        let mut challenge = Challenge::bearer(self.realm.as_deref()).error(code);
        if !self.acr_values.is_empty() {
            let values = self.acr_values.join(" ");
            challenge = challenge.with("acr_values", &values);
            answer = answer.with("acr_values", values);
        }
        if let Some(seconds) = self.max_age {
            challenge = challenge.with("max_age", &seconds.to_string());
            answer = answer.with("max_age", seconds);
        }
        answer.challenge(challenge)
    }
}

impl TemporarilyUnavailable {
    /// When to try again, in seconds.
    pub const fn retry_after(&self) -> u64 {
        self.retry_after
    }

    /// What it looks like on the wire.
    pub fn answer(&self) -> Answer {
        let text = "The access token cannot be judged right now. Try again; keep your session.";
        Answer::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", text)
            .retry_after(self.retry_after)
    }
}

impl UnfitClaims {
    /// What it looks like on the wire.
    pub fn answer(&self) -> Answer {
        let text = "The claims of the access token are not what this service expects.";
        Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", text)
    }
}

fn session_over(reason: &str) -> Cow<'static, str> {
    format!("The session is over ({reason}). Sign in again.").into()
}

macro_rules! refusals {
    ($($failure:ident),+) => {$(
        impl From<$failure> for Refusal {
            fn from(refused: $failure) -> Self {
                Self::$failure(refused)
            }
        }

        impl fmt::Display for $failure {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                display(&self.answer(), f)
            }
        }

        impl std::error::Error for $failure {}
    )+};
}

refusals!(
    MissingToken,
    MalformedAuthorization,
    InvalidToken,
    InsufficientScope,
    InsufficientAuthentication,
    TemporarilyUnavailable,
    UnfitClaims
);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(&self.answer(), f)
    }
}

impl std::error::Error for Refusal {}

fn display(answer: &Answer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = answer.body().get("error_description").and_then(serde_json::Value::as_str);
    f.write_str(text.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Unavailable;
    use reseal_core::event::EndReason;

    /// Status, challenge, body and `Retry-After` of a refusal.
    fn seen(refusal: impl Into<Refusal>) -> (u16, Option<String>, String, Option<u64>) {
        let answer = refusal.into().answer();
        let body = serde_json::to_string(answer.body()).unwrap();
        let challenge = answer.www_authenticate().map(str::to_owned);
        (answer.status().as_u16(), challenge, body, answer.retry_after_seconds())
    }

    fn challenge(refusal: impl Into<Refusal>) -> String {
        seen(refusal).1.unwrap()
    }

    #[test]
    fn no_token_is_a_bare_challenge() {
        assert_eq!(challenge(MissingToken::default()), "Bearer");
        let in_realm = Refusal::from(MissingToken::default()).in_realm(&Some("notes".into()));
        let (status, challenge, body, _) = seen(in_realm);
        assert_eq!((status, challenge.as_deref()), (401, Some("Bearer realm=\"notes\"")));
        assert!(body.contains("\"error\":\"unauthorized\""), "{body}");
    }

    #[test]
    fn a_malformed_header_is_400() {
        let (status, challenge, ..) = seen(MalformedAuthorization::default());
        assert_eq!(status, 400);
        assert_eq!(
            challenge.unwrap(),
            "Bearer error=\"invalid_request\", \
             error_description=\"The Authorization header must be `Bearer` and one token.\""
        );
    }

    #[test]
    fn a_bad_token_is_401_with_its_reason() {
        let expired = Refusal::of(&VerifyError::Expired, None);
        let (status, challenge, body, _) = seen(expired);
        assert_eq!(status, 401);
        assert_eq!(
            challenge.unwrap(),
            "Bearer error=\"invalid_token\", error_description=\"The access token has expired.\""
        );
        assert_eq!(body, r#"{"error":"invalid_token","error_description":"The access token has expired."}"#);
        let (_, challenge, body, _) =
            seen(Refusal::of(&VerifyError::SessionEnded(EndReason::SignedOut), None));
        assert_eq!(
            challenge.unwrap(),
            "Bearer error=\"invalid_token\", error_description=\"The session is over (signed_out). Sign in again.\""
        );
        assert!(body.ends_with(r#""reason":"signed_out"}"#), "{body}");
        let (_, _, body, _) = seen(Refusal::of(&VerifyError::ClaimsChanged, None));
        assert!(body.ends_with(r#""reason":"claims_changed"}"#), "{body}");
    }

    #[test]
    fn what_an_error_quotes_stays_in_its_place() {
        let quoting = VerifyError::Claims("\"x\"\r\nSet-Cookie: a=b".to_owned());
        let challenge = challenge(Refusal::of(&quoting, None));
        assert!(challenge.contains("'x'??Set-Cookie: a=b"), "{challenge}");
    }

    #[test]
    fn a_missing_scope_is_403_and_named() {
        let refused = InsufficientScope { realm: None, scope: "notes:read notes:write".to_owned() };
        assert_eq!(
            challenge(refused.clone()),
            "Bearer error=\"insufficient_scope\", scope=\"notes:read notes:write\""
        );
        assert_eq!(seen(refused).0, 403);
    }

    #[test]
    fn a_weak_or_old_login_is_told_what_would_do() {
        let refused = |acr: &[&str], max_age| InsufficientAuthentication {
            realm: None,
            acr_values: acr.iter().map(|a| (*a).to_owned()).collect(),
            max_age,
        };
        let code = "Bearer error=\"insufficient_user_authentication\"";
        let (status, both, body, _) = seen(refused(&["aal2"], Some(300)));
        assert_eq!(status, 401);
        assert_eq!(both.unwrap(), format!("{code}, acr_values=\"aal2\", max_age=\"300\""));
        assert!(body.contains("\"max_age\":300") && body.contains("\"acr_values\":\"aal2\""), "{body}");
        assert_eq!(challenge(refused(&["aal2", "aal3"], None)), format!("{code}, acr_values=\"aal2 aal3\""));
        assert_eq!(challenge(refused(&[], Some(0))), format!("{code}, max_age=\"0\""));
    }

    #[test]
    fn unavailable_is_503_and_challenges_nobody() {
        for why in [Unavailable::Keys, Unavailable::Feed, Unavailable::Introspection] {
            let (status, challenge, body, retry_after) =
                seen(Refusal::of(&VerifyError::Unavailable(why), Some("notes".into())));
            assert_eq!((status, challenge, retry_after), (503, None, Some(1)));
            assert!(body.contains("temporarily_unavailable"), "{body}");
        }
    }

    #[test]
    fn every_answer_is_json_that_nobody_stores() {
        let response: http::Response<bytes::Bytes> = MissingToken::default().answer().into_response();
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(serde_json::from_slice::<serde_json::Value>(response.body()).is_ok());
    }
}
