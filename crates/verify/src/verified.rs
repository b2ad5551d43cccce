//! What a request's extensions hold once its token was verified.

use crate::refusal::{Realm, Refusal};
use crate::requirements::Requirements;
use crate::token::Token;
use crate::verifier::Verifier;
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;

/// The verified token of a request: what [`VerifyLayer`](crate::VerifyLayer) puts into its extensions.
///
/// If the token was renewed on the way, this is the newer one.
#[derive(Clone)]
pub struct Verified {
    token: Arc<Token>,
    verifier: Verifier,
    realm: Realm,
}

impl Verified {
    pub(crate) const fn new(token: Arc<Token>, verifier: Verifier, realm: Realm) -> Self {
        Self { token, verifier, realm }
    }

    /// The token.
    pub const fn token(&self) -> &Arc<Token> {
        &self.token
    }

    /// Its claims as a type of yours; borrowed where it borrows.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn claims<'a, C: Deserialize<'a>>(&'a self) -> Result<C, serde_json::Error> {
        self.token.claims()
    }

    /// Refuses a token that does not grant this scope: 403 `insufficient_scope`.
    ///
    /// # Errors
    /// [`Refusal::InsufficientScope`].
    pub fn require_scope(&self, scope: &str) -> Result<(), Refusal> {
        self.require(&Requirements::new().scope(scope))
    }

    /// Refuses a user who did not authenticate like this (`aal2`, or `aal2 aal3` for either): 401
    /// `insufficient_user_authentication` (RFC 9470).
    ///
    /// # Errors
    /// [`Refusal::InsufficientAuthentication`].
    pub fn require_acr(&self, acr: &str) -> Result<(), Refusal> {
        self.require(&Requirements::new().acr(acr))
    }

    /// Refuses a user whose login is older than this many seconds: 401 `insufficient_user_authentication` (RFC 9470).
    ///
    /// # Errors
    /// [`Refusal::InsufficientAuthentication`].
    pub fn require_max_age(&self, seconds: u64) -> Result<(), Refusal> {
        self.require(&Requirements::new().max_age(seconds))
    }

    /// Refuses a token that has not all of this.
    ///
    /// # Errors
    /// [`Refusal::InsufficientScope`] or [`Refusal::InsufficientAuthentication`].
    pub fn require(&self, requirements: &Requirements) -> Result<(), Refusal> {
        let checked = requirements.check(&self.token, self.verifier.now());
        checked.map_err(|refusal| refusal.in_realm(&self.realm))
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("token", &self.token).finish_non_exhaustive()
    }
}

/// The claims that Reseal's clients usually show. All of them may be missing: it is for the client's
/// registration to say which are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct StandardClaims {
    /// Full name.
    #[serde(default)]
    pub name: Option<String>,
    /// E-mail address.
    #[serde(default)]
    pub email: Option<String>,
    /// Phone number; null until there is one.
    #[serde(default)]
    pub phone_number: Option<String>,
    /// Whether it was proved to be the user's.
    #[serde(default)]
    pub phone_number_verified: bool,
    /// Roles.
    #[serde(default)]
    pub roles: Vec<String>,
}

impl StandardClaims {
    /// Whether the user has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|r| r == role)
    }
}
