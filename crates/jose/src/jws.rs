//! Compact JWS: parse strictly, then verify.

use crate::algorithm::{Algorithm, AlgorithmError};
use crate::base64url::{self, Base64Error};
use crate::header::{Header, MAX_HEADER_LEN};
use crate::members::MAX_MEMBERS;
use crate::verifying::VerifyingKey;
use std::fmt;

/// Longest token that is read or made, in characters.
pub const MAX_TOKEN_LEN: usize = 16 * 1024;

/// A well-formed compact JWS whose signature is still to be checked.
#[derive(Clone)]
pub struct Jws<'a> {
    header: Header,
    /// `header.payload`, the text that was signed.
    signed: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Parses the compact serialization (RFC 7515 §7.1). Says nothing about who made it.
    pub fn parse(token: &'a str) -> Result<Self, JwsError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(JwsError::TooLong { length: token.len() });
        }
        if token.trim_start().starts_with('{') {
            return Err(JwsError::JsonSerialization);
        }
        let (header, payload, signature) = split(token)?;
        if header.len() > MAX_HEADER_LEN {
            return Err(JwsError::HeaderTooLong { length: header.len() });
        }
        let signed = &token[..header.len() + 1 + payload.len()];
        let decode = |text, part| base64url::decode(text).map_err(|fault| JwsError::Base64 { part, fault });
        let header = Header::parse(&decode(header, Part::Header)?)?;
        let payload = decode(payload, Part::Payload)?;
        let signature = decode(signature, Part::Signature)?;
        Ok(Self { header, signed, payload, signature })
    }

    /// The header. What it says is only known to be true after [`Jws::verify`].
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Checks the signature and returns the payload.
    ///
    /// The algorithm is the key's; a header that names another one is an error. Whether the key is the one
    /// of the header's `kid` is up to the caller, or see [`VerifyingKeys::verify`](crate::VerifyingKeys::verify).
    pub fn verify(&self, key: &VerifyingKey) -> Result<&[u8], JwsError> {
        if self.header.alg != key.algorithm() {
            return Err(JwsError::AlgorithmMismatch { token: self.header.alg, key: key.algorithm() });
        }
        if key.verifies(self.signed.as_bytes(), &self.signature) {
            Ok(&self.payload)
        } else {
            Err(JwsError::BadSignature)
        }
    }

    /// The payload, whoever wrote it. Decide nothing by it.
    pub fn dangerous_unverified_payload(&self) -> &[u8] {
        &self.payload
    }
}

/// Shows the header only: a token in a log is a token lost.
impl fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jws").field("header", &self.header).finish_non_exhaustive()
    }
}

fn split(token: &str) -> Result<(&str, &str, &str), JwsError> {
    let wrong = || JwsError::Parts { found: token.split('.').count() };
    let (header, rest) = token.split_once('.').ok_or_else(wrong)?;
    let (payload, signature) = rest.split_once('.').ok_or_else(wrong)?;
    if signature.contains('.') { Err(wrong()) } else { Ok((header, payload, signature)) }
}

/// One of the three parts of a compact JWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first.
    Header,
    /// The second.
    Payload,
    /// The third.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwsError {
    /// Longer than [`MAX_TOKEN_LEN`].
    #[error("the token has {length} characters; more than {MAX_TOKEN_LEN} are not read")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The JSON serialization (RFC 7515 §7.2).
    #[error("this is a JWS in JSON serialization; only the compact one (header.payload.signature) is read")]
    JsonSerialization,
    /// Not three parts.
    #[error(
        "a compact JWS has three parts with a `.` between them, this has {found}{hint}",
        hint = if *found == 5 { " (five make an encrypted token, a JWE)" } else { "" }
    )]
    Parts {
        /// How many there are.
        found: usize,
    },
    /// A part is not canonical base64url.
    #[error("the {part} is not base64url: {fault}")]
    Base64 {
        /// Which part.
        part: Part,
        /// What is wrong with it.
        fault: Base64Error,
    },
    /// The header is longer than [`MAX_HEADER_LEN`].
    #[error("the header has {length} characters; more than {MAX_HEADER_LEN} are not read")]
    HeaderTooLong {
        /// Its length.
        length: usize,
    },
    /// The header is no JSON object, or a member of it has the wrong type.
    #[error("the header is not a JSON object as RFC 7515 has it: {0}")]
    HeaderJson(String),
    /// A member of the header is there twice (RFC 7515 §4).
    #[error("the header has the member {0} twice")]
    DuplicateMember(String),
    /// The header has too many members.
    #[error("the header has more than {MAX_MEMBERS} members")]
    TooManyMembers,
    /// The header has `crit` (RFC 7515 §4.1.11).
    #[error("the header has `crit`: the token requires extensions to be understood, and none are")]
    Critical,
    /// The header has `b64` (RFC 7797).
    #[error("the header has `b64`: tokens with an unencoded payload (RFC 7797) are not read")]
    UnencodedPayload,
    /// The header has no `alg`.
    #[error("the header has no `alg`")]
    MissingAlgorithm,
    /// `alg` is none of ours.
    #[error(transparent)]
    Algorithm(#[from] AlgorithmError),
    /// The key is for another algorithm.
    #[error("the token says {token}, but its key is for {key} only")]
    AlgorithmMismatch {
        /// The header's.
        token: Algorithm,
        /// The key's.
        key: Algorithm,
    },
    /// The signature does not verify: the token was changed, or another key signed it.
    #[error("the signature is wrong: the token was changed, or signed with another key")]
    BadSignature,
    /// No usable key has the token's `kid`.
    #[error("no usable key has the `kid` {0}")]
    UnknownKey(String),
    /// The token has no `kid`, and no usable key is for its algorithm.
    #[error("the token has no `kid`, and no usable key is for {0}")]
    NoCandidate(Algorithm),
    /// The token has no `kid`, and trying all keys of its algorithm would cost too much.
    #[error(
        "the token has no `kid`, and {found} keys are for its algorithm; no more than {} are tried",
        crate::MAX_CANDIDATES
    )]
    TooManyCandidates {
        /// How many keys are for its algorithm.
        found: usize,
    },
}
