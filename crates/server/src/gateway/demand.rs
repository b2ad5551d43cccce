//! How strongly and how lately a user must have been authenticated (RFC 9470).

use reseal_core::{Acr, Strength, Timestamp};
use std::time::Duration;

/// What is demanded; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// The least level.
    pub(super) acr: Option<Acr>,
    /// The greatest age of the authentication.
    pub(super) max_age: Option<Duration>,
}

impl Demand {
    /// Whether an authentication meets it. Ages count in whole seconds, as the tokens say them.
    pub(super) fn is_met(&self, strength: Strength, now: Timestamp) -> bool {
        self.acr.is_none_or(|acr| strength.acr >= acr)
            && self
                .max_age
                .is_none_or(|most| now.since(strength.authenticated_at).as_secs() <= most.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reseal_core::auth::Amr;

    #[test]
    fn level_and_age_are_demanded_each_on_its_own() {
        let at = Timestamp::from_secs(1000);
        let strength = |acr| Strength { acr, amr: Amr::PWD, authenticated_at: at };
        let met = |acr, max_age: Option<u64>, of, later: u64| {
            let demand = Demand { acr, max_age: max_age.map(Duration::from_secs) };
            demand.is_met(strength(of), at + Duration::from_millis(later))
        };
        assert!(met(None, None, Acr::Aal1, 1 << 40));
        assert!(met(Some(Acr::Aal1), None, Acr::Aal2, 0) && met(Some(Acr::Aal2), None, Acr::Aal2, 0));
        assert!(!met(Some(Acr::Aal2), None, Acr::Aal1, 0));
        assert!(met(None, Some(300), Acr::Aal1, 300_999) && !met(None, Some(300), Acr::Aal1, 301_000));
        assert!(met(None, Some(0), Acr::Aal1, 999) && !met(None, Some(0), Acr::Aal1, 1000));
        assert!(!met(Some(Acr::Aal2), Some(300), Acr::Aal2, 400_000));
    }
}
