//! The signature algorithms, and why others are refused.

use crate::excerpt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A signature algorithm that this library makes and verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256 (RFC 7518 §3.4).
    Es256,
    /// Ed25519 (RFC 8037 §3.1). Written `EdDSA`; its newer name `Ed25519` (RFC 9864) is read as well.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3).
    Rs256,
}

impl Algorithm {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The name in the `alg` of headers and keys.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    /// Reads an `alg`. Names are case-sensitive (RFC 7515 §4.1.1).
    fn from_str(name: &str) -> Result<Self, AlgorithmError> {
        match name {
            "ES256" => Ok(Self::Es256),
            "EdDSA" | "Ed25519" => Ok(Self::EdDsa),
            "RS256" => Ok(Self::Rs256),
            _ => Err(AlgorithmError::of(name)),
        }
    }
}

impl Serialize for Algorithm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why an `alg` is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AlgorithmError {
    /// `none`, in any spelling: no signature at all.
    #[error("the algorithm `none` means no signature, and is never accepted")]
    None,
    /// A MAC: whoever can verify it can forge it.
    #[error("{0} is symmetric: whoever can verify it can forge it. Supported are ES256, EdDSA and RS256")]
    Symmetric(String),
    /// Another algorithm, or no algorithm's name.
    #[error("the algorithm {0} is not supported. Supported are ES256, EdDSA and RS256")]
    Unsupported(String),
}

impl AlgorithmError {
    fn of(name: &str) -> Self {
        if name.trim().eq_ignore_ascii_case("none") {
            return Self::None;
        }
        match name {
            "HS256" | "HS384" | "HS512" => Self::Symmetric(name.to_owned()),
            _ => Self::Unsupported(excerpt(name)),
        }
    }
}
