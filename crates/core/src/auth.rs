//! How a user was authenticated: `acr`, `amr` and `auth_time`.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Authentication context class: the NIST SP 800-63B assurance level that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acr {
    /// One factor.
    #[default]
    Aal1,
    /// Two factors.
    Aal2,
}

impl Acr {
    /// The value on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aal1 => "aal1",
            Self::Aal2 => "aal2",
        }
    }
}

impl fmt::Display for Acr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Acr {
    type Err = crate::id::InvalidId;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "aal1" => Ok(Self::Aal1),
            "aal2" => Ok(Self::Aal2),
            _ => Err(crate::id::InvalidId("acr (aal1 or aal2)")),
        }
    }
}

/// The registered authentication method references (RFC 8176 §2), in the order of their bits.
const METHODS: [&str; 21] = [
    "pwd", "sms", "mfa", "otp", "face", "fpt", "geo", "hwk", "iris", "kba", "mca", "pin", "pop", "rba",
    "retina", "sc", "swk", "tel", "user", "vbm", "wia",
];

/// A set of authentication method references (RFC 8176).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amr(u32);

impl Amr {
    /// A password.
    pub const PWD: Self = Self(1);
    /// A code sent by text message.
    pub const SMS: Self = Self(1 << 1);
    /// More than one factor.
    pub const MFA: Self = Self(1 << 2);
    /// A one-time password; here a recovery code.
    pub const OTP: Self = Self(1 << 3);

    /// From the bits a store kept; unknown bits are dropped.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & ((1 << METHODS.len()) - 1))
    }

    /// The bits, for a store to keep.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The methods both have.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The methods either has.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names, as on the wire.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        METHODS.iter().enumerate().filter(move |(i, _)| self.0 & (1 << i) != 0).map(|(_, n)| *n)
    }

    /// From names as on the wire; `None` when one is not registered.
    pub fn from_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Option<Self> {
        let mut bits = 0;
        for name in names {
            bits |= 1 << METHODS.iter().position(|m| *m == name.as_ref())?;
        }
        Some(Self(bits))
    }
}

impl fmt::Debug for Amr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Serialize for Amr {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for Amr {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(d)?;
        Self::from_names(names).ok_or_else(|| serde::de::Error::custom("amr: not registered by RFC 8176"))
    }
}

/// How strongly and when the user was authenticated, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Strength {
    /// The level reached.
    pub acr: Acr,
    /// The methods used.
    pub amr: Amr,
    /// When the user last authenticated (`auth_time`).
    pub authenticated_at: Timestamp,
}

impl Strength {
    /// What both vouch for. A renewed token carries the weaker of the session's and its
    /// predecessor's strength, so a stolen older token gains nothing from the owner's step-up.
    #[must_use]
    pub fn weaker(self, other: Self) -> Self {
        Self {
            acr: self.acr.min(other.acr),
            amr: self.amr.intersection(other.amr),
            authenticated_at: self.authenticated_at.min(other.authenticated_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_agree() {
        let amr = Amr::PWD.union(Amr::SMS).union(Amr::MFA);
        assert_eq!(amr.names().collect::<Vec<_>>(), ["pwd", "sms", "mfa"]);
        assert_eq!(Amr::from_names(["mfa", "pwd", "sms"]), Some(amr));
        assert_eq!(Amr::from_names(["magic"]), None);
        assert_eq!(Amr::from_bits(u32::MAX).names().count(), 21);
    }

    #[test]
    fn the_weaker_of_two_strengths_has_nothing_that_either_lacks() {
        let strength = |acr, amr, secs| Strength { acr, amr, authenticated_at: Timestamp::from_secs(secs) };
        let strong = strength(Acr::Aal2, Amr::PWD.union(Amr::SMS).union(Amr::MFA), 50);
        let recent = strength(Acr::Aal1, Amr::PWD.union(Amr::OTP), 90);
        assert_eq!(strong.weaker(recent), strength(Acr::Aal1, Amr::PWD, 50));
        assert_eq!(strong.weaker(recent), recent.weaker(strong));
        assert_eq!(strong.weaker(strong), strong);
    }

    #[test]
    fn levels_and_methods_read_back_from_the_wire() {
        for acr in [Acr::Aal1, Acr::Aal2] {
            assert_eq!(acr.as_str().parse(), Ok(acr));
        }
        assert!("aal3".parse::<Acr>().is_err());
        assert!(Acr::Aal1 < Acr::Aal2);
        let amr = Amr::PWD.union(Amr::MFA);
        assert_eq!(serde_json::to_string(&amr).unwrap(), r#"["pwd","mfa"]"#);
        assert_eq!(serde_json::from_str::<Amr>(r#"["mfa","pwd","pwd"]"#).unwrap(), amr);
        assert!(serde_json::from_str::<Amr>(r#"["magic"]"#).is_err());
        assert_eq!(Amr::from_bits(amr.bits()), amr);
    }
}
