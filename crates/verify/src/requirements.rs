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
    /// An empty text is granted by no token: a setting that was forgotten closes the route.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.scope.extend(words(scope));
        self
    }

    /// The user must have authenticated like this. Called again: or like that.
    ///
    /// The values have no order here: who accepts `aal2` and `aal3` names both. An empty text is met by none.
    #[must_use]
    pub fn acr(mut self, acr: &str) -> Self {
        self.acr.extend(words(acr));
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
        let is_named = |acr: &str| !acr.is_empty() && self.acr.iter().any(|a| a == acr);
        let strong = self.acr.is_empty() || token.acr().is_some_and(is_named);
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

/// The words of a setting; of an empty one a word that no token has, or it would ask for nothing.
fn words(text: &str) -> Vec<String> {
    let words: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
    if words.is_empty() { vec![String::new()] } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Registered;

    #[test]
    fn an_empty_setting_closes_the_route() {
        let token = Token {
            registered: Registered {
                scope: vec!["read".to_owned()],
                acr: Some(String::new()),
                ..Registered::default()
            },
            kid: None,
            key: "".into(),
            payload: "{}".into(),
            session_id: None,
            user_id: None,
        };
        assert!(Requirements::new().check(&token, 0).is_ok());
        assert!(Requirements::new().scope("read").check(&token, 0).is_ok());
        for empty in ["", " "] {
            assert!(Requirements::new().scope(empty).check(&token, 0).is_err());
            assert!(Requirements::new().acr(empty).check(&token, 0).is_err());
        }
    }
}
