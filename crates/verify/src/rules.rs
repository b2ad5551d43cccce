//! What a token must say to be accepted. Pure: `now` is an argument.

use crate::error::VerifyError;
use crate::token::Registered;
use reseal_jose::{Algorithm, Header};

/// The settings that tokens are checked against.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// `iss` must be exactly this.
    pub(crate) issuer: String,
    /// `aud` must have one of these.
    pub(crate) audience: Vec<String>,
    /// The header's `alg` must be one of these.
    pub(crate) algorithms: Vec<Algorithm>,
    /// The header's `typ` must be one of these, as [`media_type`] has them; `None`: any, or none.
    pub(crate) types: Option<Vec<String>>,
    /// Allowed difference of the clocks, in seconds.
    pub(crate) leeway: i64,
}

impl Rules {
    /// The algorithm and the type (RFC 8725 §3.1 and §3.11; RFC 9068 §4).
    pub(crate) fn check_header(&self, header: &Header) -> Result<(), VerifyError> {
        if !self.algorithms.contains(&header.alg) {
            return Err(VerifyError::Algorithm(header.alg));
        }
        let Some(types) = &self.types else { return Ok(()) };
        let is_one = header.typ.as_deref().is_some_and(|typ| types.iter().any(|t| is_type(typ, t)));
        if is_one { Ok(()) } else { Err(VerifyError::Type) }
    }

    /// Issuer and audience (RFC 9068 §4).
    pub(crate) fn check_parties(&self, claims: &Registered) -> Result<(), VerifyError> {
        if claims.iss != self.issuer {
            return Err(VerifyError::Issuer);
        }
        if claims.aud.iter().any(|aud| self.audience.contains(aud)) {
            Ok(())
        } else {
            Err(VerifyError::Audience)
        }
    }

    /// `exp` and `nbf` (RFC 7519 §4.1.4 and §4.1.5): dead from `exp + leeway` on, valid from `nbf - leeway` on.
    pub(crate) fn check_time(&self, claims: &Registered, now: i64) -> Result<(), VerifyError> {
        if now >= claims.exp.saturating_add(self.leeway) {
            return Err(VerifyError::Expired);
        }
        match claims.nbf {
            Some(nbf) if now < nbf.saturating_sub(self.leeway) => Err(VerifyError::NotYetValid),
            _ => Ok(()),
        }
    }
}

const APPLICATION: &str = "application/";

/// A media type as it is compared: lower case, without `application/` where no other slash follows
/// (RFC 7515 §4.1.9).
pub(crate) fn media_type(typ: &str) -> String {
    without_application(typ).to_ascii_lowercase()
}

fn is_type(typ: &str, wanted: &str) -> bool {
    without_application(typ).eq_ignore_ascii_case(wanted)
}

fn without_application(typ: &str) -> &str {
    match typ.split_at_checked(APPLICATION.len()) {
        Some((head, tail)) if head.eq_ignore_ascii_case(APPLICATION) && !tail.contains('/') => tail,
        _ => typ,
    }
}

#[cfg(test)]
mod tests;
