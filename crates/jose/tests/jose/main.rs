//! What the library accepts and refuses, against published vectors, another library and by properties.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod keys;
mod oracle;
mod properties;
mod refusals;
mod rfc7520;
mod support;
mod wycheproof;
