//! What a route asks of a token beyond being good.

use crate::refusal::{InsufficientAuthentication, InsufficientScope, Refusal};
use crate::token::Token;

/// What a route asks of a token beyond being good: scopes, and how and when its user authenticated.
///
/// ```
/// use reseal_verify::Requirements;
///
/// // All these scopes, a second factor, and a login at most five minutes old.
/// let to_delete_all = Requirements::new().scope("notes:write").acr("aal2").max_age(300);
/// # let _ = to_delete_all;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    scope: Vec<String>,
    acr: Vec<String>,
    max_age: Option<u64>,
}

impl Requirements {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { scope: Vec::new(), acr: Vec::new(), max_age: None }
    }

    /// The token must grant this scope (or all of these, with spaces between). Called again: that one too.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.scope.extend(scope.split_ascii_whitespace().map(str::to_owned));
        self
    }

    /// The user must have authenticated like this. Called again: or like that.
    ///
    /// The values have no order here: who accepts `aal2` and `aal3` names both.
    #[must_use]
    pub fn acr(mut self, acr: &str) -> Self {
        self.acr.extend(acr.split_ascii_whitespace().map(str::to_owned));
        self
    }

    /// The user must have authenticated within this many seconds.
    #[must_use]
    pub const fn max_age(mut self, seconds: u64) -> Self {
        self.max_age = Some(seconds);
        self
    }

    /// Whether the token has it all at `now` (Unix seconds).
    ///
    /// The scope comes first: no login would help who may not do it. A login that is not enough is told all
    /// that is asked of it, so that one new login does.
    pub fn check(&self, token: &Token, now: i64) -> Result<(), Refusal> {
        if !self.scope.iter().all(|scope| token.has_scope(scope)) {
            return Err(InsufficientScope { realm: None, scope: self.scope.join(" ") }.into());
        }
        let strong = self.acr.is_empty() || token.acr().is_some_and(|acr| self.acr.iter().any(|a| a == acr));
        let recent = self.max_age.is_none_or(|max_age| {
            // A token that does not say when counts as old.
            let max_age = i64::try_from(max_age).unwrap_or(i64::MAX);
            token.authenticated_at().is_some_and(|at| now.saturating_sub(at) <= max_age)
        });
        if strong && recent {
            return Ok(());
        }
        let (acr_values, max_age) = (self.acr.clone(), self.max_age);
        Err(InsufficientAuthentication { realm: None, acr_values, max_age }.into())
    }
}
