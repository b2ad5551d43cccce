//! The protected header of a token.

use crate::algorithm::Algorithm;
use crate::excerpt;
use crate::jws::JwsError;
use crate::members::{Members, MembersFault, Object, Text};
use serde::de::{IgnoredAny, MapAccess};

/// Longest header that is read, in characters of the token.
pub const MAX_HEADER_LEN: usize = 8 * 1024;

/// The members of a token's header that mean something here. It is authentic once the token is verified.
///
/// Members that point to keys (`jwk`, `jku`, `x5c`, `x5u`, `x5t`) are ignored: a token must not choose the
/// key that it is verified with. So are unknown members (RFC 7515 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The algorithm. It must be the key's own.
    pub alg: Algorithm,
    /// Which key signed it.
    pub kid: Option<String>,
    /// What kind of token it is, such as `at+jwt`.
    pub typ: Option<String>,
    /// What kind of payload it has.
    pub cty: Option<String>,
}

impl Header {
    /// Reads the decoded header of a compact JWS.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, JwsError> {
        let object: Object<RawHeader> = serde_json::from_slice(json)
            .map_err(|error| JwsError::HeaderJson(excerpt(&error.to_string())))?;
        let raw = object.accept().map_err(|fault| match fault {
            MembersFault::Duplicate(name) => JwsError::DuplicateMember(name),
            MembersFault::TooMany => JwsError::TooManyMembers,
        })?;
        if raw.critical {
            return Err(JwsError::Critical);
        }
        if raw.unencoded {
            return Err(JwsError::UnencodedPayload);
        }
        let alg = raw.alg.ok_or(JwsError::MissingAlgorithm)??;
        Ok(Self { alg, kid: raw.kid, typ: raw.typ, cty: raw.cty })
    }
}

#[derive(Default)]
struct RawHeader {
    alg: Option<Result<Algorithm, crate::AlgorithmError>>,
    kid: Option<String>,
    typ: Option<String>,
    cty: Option<String>,
    critical: bool,
    unencoded: bool,
}

impl Members for RawHeader {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "alg" => self.alg = Some(map.next_value::<Text<'de>>()?.0.parse()),
            "kid" => self.kid = Some(map.next_value()?),
            "typ" => self.typ = Some(map.next_value()?),
            "cty" => self.cty = Some(map.next_value()?),
            "crit" => {
                map.next_value::<IgnoredAny>()?;
                self.critical = true;
            }
            "b64" => {
                map.next_value::<IgnoredAny>()?;
                self.unencoded = true;
            }
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
