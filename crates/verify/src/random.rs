//! The one place where the verifier draws randomness: for waits, not for secrets.

/// Any number.
#[expect(clippy::disallowed_methods, reason = "this is the edge where randomness comes in")]
pub(crate) fn chance() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness waits are all alike, and that is no reason to stop.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u16::from_be_bytes(bytes)
}
