//! base64url as RFC 7515 §2 has it: without padding, line breaks or a second spelling of the same bytes.

use base64::DecodeError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Why text is not the one base64url encoding of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Base64Error {
    /// It ends in `=`.
    #[error("it has `=` padding, which base64url in JOSE never has")]
    Padding,
    /// A character outside the alphabet, white space included.
    #[error("the character at offset {0} is not of the base64url alphabet (A-Z a-z 0-9 - _)")]
    Character(usize),
    /// No number of bytes encodes to this length.
    #[error("its length is impossible, so it was cut or joined")]
    Length,
    /// The unused bits of the last character are set, so that two texts would mean the same bytes.
    #[error("the unused bits of its last character are not zero")]
    TrailingBits,
}

/// Decodes, canonically or not at all.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, Base64Error> {
    URL_SAFE_NO_PAD.decode(text).map_err(|error| {
        if text.ends_with('=') {
            return Base64Error::Padding;
        }
        match (text.bytes().position(is_foreign), error) {
            (Some(at), _) => Base64Error::Character(at),
            (None, DecodeError::InvalidLength(_)) => Base64Error::Length,
            (None, _) => Base64Error::TrailingBits,
        }
    })
}

fn is_foreign(byte: u8) -> bool {
    !(byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Encodes.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Encodes to the end of `text`.
pub(crate) fn encode_onto(bytes: &[u8], text: &mut String) {
    URL_SAFE_NO_PAD.encode_string(bytes, text);
}
