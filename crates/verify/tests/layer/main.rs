//! The tower layer and the extractors, with real tokens and an authority that says what a test wants.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod admission;
mod extractors;
mod renewal;
mod support;
