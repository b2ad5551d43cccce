//! The one place where the authority draws random bytes (ASVS 11.5.1).

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// The system's cryptographic random source.
#[derive(Debug)]
pub struct Random(SystemRandom);

impl Random {
    /// The system's source.
    #[expect(clippy::new_without_default, reason = "randomness should be asked for by name")]
    #[allow(clippy::disallowed_methods, reason = "this is the edge where randomness comes in")]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }

    /// `N` random bytes.
    ///
    /// # Panics
    /// When the operating system has no randomness; nothing safe can be done then.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes).expect("the operating system has a random source");
        bytes
    }

    /// A secret of 256 random bits as base64url, behind a prefix.
    pub fn secret_text(&self, prefix: &str) -> String {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.bytes::<32>());
        format!("{prefix}{encoded}")
    }

    /// For signatures.
    pub fn source(&self) -> &dyn SecureRandom {
        &self.0
    }
}
