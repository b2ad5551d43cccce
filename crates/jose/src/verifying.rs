//! Public keys, checked and parsed once.

use crate::algorithm::Algorithm;
use crate::base64url::{self, Base64Error};
use crate::jwk::{Jwk, KeyMaterial};
use crate::{excerpt, rsa};
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self, ParsedPublicKey};
use std::fmt;

/// A public key with the one algorithm that it verifies.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    kid: Option<String>,
    thumbprint: String,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    /// Checks a JWK and parses it: its type, curve and size, and that its `alg`, `use` and `key_ops`
    /// allow it to verify signatures.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        let algorithm = algorithm_of(jwk)?;
        check_purpose(jwk)?;
        let key = match &jwk.material {
            KeyMaterial::Ec { x, y, .. } => parse_p256(x, y)?,
            KeyMaterial::Okp { x, .. } => parse_ed25519(x)?,
            KeyMaterial::Rsa { n, e } => parse_rsa(n, e)?,
            KeyMaterial::Other { kty } => return Err(KeyError::of_type(kty)),
        };
        Ok(Self { algorithm, kid: jwk.kid.clone(), thumbprint: jwk.thumbprint()?, key })
    }

    /// The one algorithm that it is for.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The name that it was published under.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Its SHA-256 thumbprint (RFC 7638).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

impl TryFrom<&Jwk> for VerifyingKey {
    type Error = KeyError;

    fn try_from(jwk: &Jwk) -> Result<Self, KeyError> {
        Self::from_jwk(jwk)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .field("thumbprint", &self.thumbprint)
            .finish_non_exhaustive()
    }
}

/// The algorithm that follows from the type of the key, if its `alg` does not say otherwise.
fn algorithm_of(jwk: &Jwk) -> Result<Algorithm, KeyError> {
    let algorithm = match &jwk.material {
        KeyMaterial::Ec { crv, .. } if crv == "P-256" => Algorithm::Es256,
        KeyMaterial::Okp { crv, .. } if crv == "Ed25519" => Algorithm::EdDsa,
        KeyMaterial::Rsa { .. } => Algorithm::Rs256,
        KeyMaterial::Ec { crv, .. } | KeyMaterial::Okp { crv, .. } => {
            return Err(KeyError::UnsupportedCurve(excerpt(crv)));
        }
        KeyMaterial::Other { kty } => return Err(KeyError::of_type(kty)),
    };
    match &jwk.alg {
        Some(alg) if alg.parse() != Ok(algorithm) => {
            Err(KeyError::OtherAlgorithm { alg: excerpt(alg), supported: algorithm })
        }
        _ => Ok(algorithm),
    }
}

fn check_purpose(jwk: &Jwk) -> Result<(), KeyError> {
    if let Some(key_use) = &jwk.key_use
        && key_use != "sig"
    {
        return Err(KeyError::OtherUse(excerpt(key_use)));
    }
    if let Some(operations) = &jwk.key_ops
        && !operations.iter().any(|operation| operation == "verify")
    {
        return Err(KeyError::OtherOperations);
    }
    Ok(())
}

fn parse_p256(x: &str, y: &str) -> Result<ParsedPublicKey, KeyError> {
    let (x, y) = (decode_fixed(x, "x")?, decode_fixed(y, "y")?);
    let mut point = Vec::with_capacity(1 + x.len() + y.len());
    point.push(4); // uncompressed (SEC 1 §2.3.3)
    point.extend_from_slice(&x);
    point.extend_from_slice(&y);
    ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &point).map_err(|_| KeyError::NotOnCurve)
}

fn parse_ed25519(x: &str) -> Result<ParsedPublicKey, KeyError> {
    ParsedPublicKey::new(&signature::ED25519, decode_fixed(x, "x")?).map_err(|_| KeyError::NotOnCurve)
}

fn parse_rsa(n: &str, e: &str) -> Result<ParsedPublicKey, KeyError> {
    let (n, e) = (decode_integer(n, "n")?, decode_integer(e, "e")?);
    rsa::check(&n, &e)?;
    PublicKeyComponents { n: &n, e: &e }
        .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)
        .map_err(|_| KeyError::WeakRsaModulus)
}

/// Both our curves have numbers of 32 bytes, and RFC 7518 §6.2.1.2 wants all of them written.
fn decode_fixed(text: &str, member: &'static str) -> Result<[u8; 32], KeyError> {
    let bytes = decode(text, member)?;
    bytes.as_slice().try_into().map_err(|_| KeyError::CoordinateLength { member, length: bytes.len() })
}

/// A number without leading zeros (RFC 7518 §2, Base64urlUInt).
fn decode_integer(text: &str, member: &'static str) -> Result<Vec<u8>, KeyError> {
    let bytes = decode(text, member)?;
    if bytes.first() == Some(&0) { Err(KeyError::LeadingZero { member }) } else { Ok(bytes) }
}

fn decode(text: &str, member: &'static str) -> Result<Vec<u8>, KeyError> {
    base64url::decode(text).map_err(|fault| KeyError::Base64 { member, fault })
}

/// Why a key is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a JWK.
    #[error("this is not a JSON Web Key: {0}")]
    Malformed(String),
    /// `"kty": "oct"`.
    #[error("this is a symmetric key: whoever can verify with it can forge")]
    Symmetric,
    /// An unknown `kty`.
    #[error("keys of the type {0} are not supported; EC, OKP and RSA are")]
    UnsupportedType(String),
    /// An unknown `crv`.
    #[error("keys on the curve {0} are not supported; P-256 and Ed25519 are")]
    UnsupportedCurve(String),
    /// `alg` names an algorithm that this key is not for, or that is not supported.
    #[error("its `alg` is {alg}; a key of this type is only used for {supported}")]
    OtherAlgorithm {
        /// Its `alg`.
        alg: String,
        /// What such a key is used for here.
        supported: Algorithm,
    },
    /// `use` is not `sig`.
    #[error("its `use` is {0}; it is not for signatures")]
    OtherUse(String),
    /// `key_ops` does not list `verify`.
    #[error("its `key_ops` does not list `verify`")]
    OtherOperations,
    /// A member is not canonical base64url.
    #[error("its `{member}` is not base64url: {fault}")]
    Base64 {
        /// Which.
        member: &'static str,
        /// What is wrong.
        fault: Base64Error,
    },
    /// A coordinate of the wrong length.
    #[error("its `{member}` has {length} bytes; on this curve it must have 32")]
    CoordinateLength {
        /// Which.
        member: &'static str,
        /// Bytes that it has.
        length: usize,
    },
    /// The point is not on the curve.
    #[error("its point is not on the curve")]
    NotOnCurve,
    /// A number that begins with a zero byte, so that one key could be written in several ways.
    #[error("its `{member}` begins with a zero byte (RFC 7518 wants the shortest form)")]
    LeadingZero {
        /// Which.
        member: &'static str,
    },
    /// An RSA modulus that is too short, or longer than is sensible.
    #[error("its RSA modulus has {bits} bits; 2048 to 4096 are allowed")]
    RsaModulusLength {
        /// How many it has.
        bits: usize,
    },
    /// An RSA exponent that is small, even or too large.
    #[error("its RSA exponent must be odd, at least 65537 and below 2^33")]
    RsaExponent,
    /// An RSA modulus that can be factored: even, or of the generator behind ROCA.
    #[error("its RSA modulus is even or was made by a broken generator (ROCA, CVE-2017-15361)")]
    WeakRsaModulus,
    /// Other keys in the set have the same `kid` and algorithm.
    #[error("another key in the set has the same `kid` and algorithm")]
    DuplicateKid,
    /// Not a PKCS #8 private key for the algorithm.
    #[error("this is not a PKCS #8 private key for {0}")]
    Pkcs8(Algorithm),
    /// The cryptographic library could not make the key.
    #[error("the cryptographic library could not make a key for {0}")]
    Generate(Algorithm),
}

impl KeyError {
    pub(crate) fn of_type(kty: &str) -> Self {
        if kty == "oct" { Self::Symmetric } else { Self::UnsupportedType(excerpt(kty)) }
    }
}
