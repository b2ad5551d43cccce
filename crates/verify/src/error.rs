//! Why a token is refused, or could not be judged.

use reseal_core::event::EndReason;
use reseal_jose::JwsError;

/// Why a token is refused, or could not be judged.
///
/// All but [`VerifyError::Unavailable`] are the token's fault: 401 `invalid_token` (RFC 6750 §3.1).
/// `Unavailable` is ours: 503, never 401, since a client must not sign out because the authority is away.
/// No message holds any part of a token's payload or signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Not a compact JWS as `reseal-jose` has it, of an unknown key, or the signature is wrong.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// Signed with an algorithm that is not on the list.
    #[error("tokens signed with {0} are not accepted here")]
    Algorithm(reseal_jose::Algorithm),
    /// Another kind of token (RFC 8725 §3.11).
    #[error("this is not an access token: its `typ` is another one")]
    Type,
    /// The payload is no JSON object, or a claim is missing or of the wrong type.
    #[error("the claims are not those of an access token: {0}")]
    Claims(String),
    /// Of another issuer.
    #[error("the token is of another issuer")]
    Issuer,
    /// For somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come yet.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Its session has ended.
    #[error("the session has ended")]
    SessionEnded(EndReason),
    /// The user or the client has changed since it was issued; a newer token would say something else.
    #[error("the claims have changed since the token was issued")]
    ClaimsChanged,
    /// Its key was withdrawn.
    #[error("the key that signed the token was withdrawn")]
    KeyWithdrawn,
    /// The authority says that it is not active (RFC 7662).
    #[error("the token is not active")]
    Inactive,
    /// It cannot be judged now.
    #[error("the token cannot be judged now: {0}")]
    Unavailable(Unavailable),
}

/// What is missing to judge a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The keys of the issuer could not be fetched.
    #[error("the issuer's keys could not be fetched")]
    Keys,
    /// The feed is lost, and the setting is to refuse.
    #[error("the feed is lost")]
    Feed,
    /// The authority did not answer the introspection.
    #[error("the authority did not answer")]
    Introspection,
}

impl VerifyError {
    /// The `reason` to tell the client (design §7 and §8), where there is one.
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::SessionEnded(reason) => Some(reason.as_str()),
            Self::ClaimsChanged => Some("claims_changed"),
            _ => None,
        }
    }
}
