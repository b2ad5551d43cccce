//! Extractors for axum.

use crate::bearer::bearer;
use crate::refusal::{
    InRealm, InsufficientAuthentication, InsufficientScope, InvalidToken, MalformedAuthorization,
    MissingToken, Refusal, TemporarilyUnavailable, UnfitClaims,
};
use crate::requirements::Requirements;
use crate::token::Token;
use crate::verified::{StandardClaims, Verified};
use crate::verifier::Verifier;
use ::axum::extract::{FromRef, FromRequestParts, OptionalFromRequestParts};
use ::axum::response::{IntoResponse, Response};
use http::request::Parts;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The user of a request, and his claims as a type of yours.
///
/// The state has a [`Verifier`] (it is one, or has one by [`FromRef`]). Behind a
/// [`VerifyLayer`](crate::VerifyLayer) the extractor takes what the layer has verified, and maybe renewed. Where there
/// is no layer it verifies the token itself: a layer that was forgotten opens nothing. Then nothing is renewed, since an extractor
/// cannot add to the answer, and a stale token is 401 `claims_changed`.
///
/// `Option<Authenticated<C>>` is `None` for a request without a token; a bad token is refused all the same.
///
/// Claims that do not fit `C` are 500, see [`UnfitClaims`].
///
/// ```
/// use axum::{Router, routing::get};
/// use reseal_verify::{Authenticated, Refusal, Verifier};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Claims {
///     name: Option<String>,
/// }
///
/// async fn hello(user: Authenticated<Claims>) -> Result<String, Refusal> {
///     user.require_scope("profile")?;
///     let name = user.claims.name.as_deref().unwrap_or("whoever you are");
///     Ok(format!("Hello {name}, your id is {}", user.token().subject()))
/// }
///
/// fn app(verifier: Verifier) -> Router {
///     Router::new().route("/", get(hello)).with_state(verifier)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Authenticated<C = StandardClaims> {
    /// What the token says of its user.
    pub claims: C,
    verified: Verified,
}

impl<C> Authenticated<C> {
    /// The token.
    pub const fn token(&self) -> &Arc<Token> {
        self.verified.token()
    }

    /// The same without the claims.
    pub const fn verified(&self) -> &Verified {
        &self.verified
    }

    /// See [`Verified::require_scope`].
    ///
    /// # Errors
    /// [`Refusal::InsufficientScope`].
    pub fn require_scope(&self, scope: &str) -> Result<(), Refusal> {
        self.verified.require_scope(scope)
    }

    /// See [`Verified::require_acr`].
    ///
    /// # Errors
    /// [`Refusal::InsufficientAuthentication`].
    pub fn require_acr(&self, acr: &str) -> Result<(), Refusal> {
        self.verified.require_acr(acr)
    }

    /// See [`Verified::require_max_age`].
    ///
    /// # Errors
    /// [`Refusal::InsufficientAuthentication`].
    pub fn require_max_age(&self, seconds: u64) -> Result<(), Refusal> {
        self.verified.require_max_age(seconds)
    }

    /// See [`Verified::require`].
    ///
    /// # Errors
    /// [`Refusal::InsufficientScope`] or [`Refusal::InsufficientAuthentication`].
    pub fn require(&self, requirements: &Requirements) -> Result<(), Refusal> {
        self.verified.require(requirements)
    }
}

impl<S, C> FromRequestParts<S> for Authenticated<C>
where
    S: Send + Sync,
    Verifier: FromRef<S>,
    C: DeserializeOwned,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let found = verified(parts, state).await?.ok_or_else(|| missing(parts))?;
        with_claims(found)
    }
}

impl<S, C> OptionalFromRequestParts<S> for Authenticated<C>
where
    S: Send + Sync,
    Verifier: FromRef<S>,
    C: DeserializeOwned,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Refusal> {
        verified(parts, state).await?.map(with_claims).transpose()
    }
}

/// What the layer has verified, whatever the state. Without a layer, and without a token, 401.
impl<S: Send + Sync> FromRequestParts<S> for Verified {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| missing(parts))
    }
}

/// What the layer has verified, if anything.
impl<S: Send + Sync> OptionalFromRequestParts<S> for Verified {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

async fn verified<S>(parts: &mut Parts, state: &S) -> Result<Option<Verified>, Refusal>
where
    Verifier: FromRef<S>,
{
    if let Some(verified) = parts.extensions.get::<Verified>() {
        return Ok(Some(verified.clone()));
    }
    let realm = InRealm::of(&parts.extensions);
    let Some(text) = bearer(&parts.headers).map_err(|e| Refusal::from(e).in_realm(&realm))? else {
        return Ok(None);
    };
    let verifier = Verifier::from_ref(state);
    let token = verifier.verify(text).await.map_err(|e| Refusal::of(&e, realm.clone()))?;
    let verified = Verified::new(token, verifier, realm);
    // For the other extractors of this request.
    parts.extensions.insert(verified.clone());
    Ok(Some(verified))
}

fn with_claims<C: DeserializeOwned>(verified: Verified) -> Result<Authenticated<C>, Refusal> {
    match verified.claims() {
        Ok(claims) => Ok(Authenticated { claims, verified }),
        Err(error) => Err(UnfitClaims::log::<C>(&error).into()),
    }
}

fn missing(parts: &Parts) -> Refusal {
    Refusal::from(MissingToken::default()).in_realm(&InRealm::of(&parts.extensions))
}

macro_rules! responses {
    ($($refusal:ident),+) => {$(
        impl IntoResponse for $refusal {
            fn into_response(self) -> Response {
                self.answer().into_response()
            }
        }
    )+};
}

responses!(
    Refusal,
    MissingToken,
    MalformedAuthorization,
    InvalidToken,
    InsufficientScope,
    InsufficientAuthentication,
    TemporarilyUnavailable,
    UnfitClaims
);
