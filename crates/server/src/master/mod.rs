//! The master key: under it lie all keys of the store.
//!
//! It comes from the environment variable RESEAL_MASTER_KEY or from a file that only its owner can read.
//! It is never used itself: what seals and what is compared are subkeys of it (HKDF, RFC 5869).

mod file;

use crate::random::Random;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The environment variable that has precedence over the file.
pub const VARIABLE: &str = "RESEAL_MASTER_KEY";

/// The master key, ready to seal and open.
pub struct MasterKey {
    sealing: RandomizedNonceKey,
    fingerprint: [u8; 32],
    naming: hmac::Key,
}

/// Why there is no master key. Each says what to do; none shows the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyError {
    /// The variable holds something else.
    #[error(
        "{VARIABLE} is not a master key: it must be 32 bytes as base64url (43 characters) or hexadecimal (64 \
         characters). Make one with `openssl rand -hex 32`, or unset the variable to use the file"
    )]
    MalformedVariable,
    /// The file holds something else.
    #[error(
        "{path}: this is not a master key (32 bytes as base64url or hexadecimal). Put the right file back from your \
         backup, or give the key in {VARIABLE}",
        path = .0.display()
    )]
    MalformedFile(PathBuf),
    /// There is no file, though keys were sealed with what it held.
    #[error(
        "{path}: the master key file is missing, and the keys in the store cannot be opened without it. Put it back from \
         your backup, copy it from another node, or give the key in {VARIABLE}; if it is lost, `reseal keys reset --end-all-sessions` makes new keys \
         and signs everybody out",
        path = .0.display()
    )]
    Missing(PathBuf),
    /// Others can read the file.
    #[error(
        "{path}: the master key file must be readable by its owner only, but its mode is {mode:04o}. Run \
         `chmod 600 {path}`",
        path = path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file cannot be read or made.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// Something that cannot be opened: sealed under another key or context, or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was sealed under another key or for another purpose, or is damaged")]
pub struct Unsealable;

/// The master key itself.
type Secret = Zeroizing<[u8; 32]>;

impl MasterKey {
    /// The key of the environment, or else of the file, which must be there.
    pub fn load(path: &Path) -> Result<Self, MasterKeyError> {
        Self::from(variable(), || file::read(path))
    }

    /// The same, but where there is neither, a new key is made and written to the file. Only for a store
    /// that has never seen a key: for any other the right key is lost, and a new one opens nothing.
    pub fn load_or_create(path: &Path, random: &Random) -> Result<Self, MasterKeyError> {
        Self::from(variable(), || match file::read(path) {
            Err(MasterKeyError::Missing(_)) => file::create(path, random),
            read => read,
        })
    }

    fn from(
        variable: Option<Zeroizing<Vec<u8>>>,
        file: impl FnOnce() -> Result<Secret, MasterKeyError>,
    ) -> Result<Self, MasterKeyError> {
        let secret = match variable {
            Some(text) => parse(&text).ok_or(MasterKeyError::MalformedVariable)?,
            None => file()?,
        };
        Ok(Self::new(&secret))
    }

    fn new(secret: &Secret) -> Self {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"reseal master key v1").extract(secret.as_slice());
        let subkey = |purpose: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            let info = [purpose];
            prk.expand(&info, hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(key.as_mut_slice()))
                .expect("32 bytes are within HKDF's limit");
            key
        };
        let sealing = RandomizedNonceKey::new(&AES_256_GCM, subkey(b"seal aes-256-gcm").as_slice())
            .expect("32 bytes are an AES-256 key");
        let naming = hmac::Key::new(hmac::HMAC_SHA256, subkey(b"names hmac sha-256").as_slice());
        Self { sealing, fingerprint: *subkey(b"fingerprint"), naming }
    }

    /// Tells one master key from another and nothing more; it may be stored in the clear.
    pub const fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Names things in a store that nobody should find there in the clear: the same on every node.
    pub fn naming(&self) -> hmac::Key {
        self.naming.clone()
    }

    /// Encrypts a secret for the context: it can be opened with the same context only.
    ///
    /// The nonce is random, which AES-GCM allows for 2^32 secrets under one key; a store has dozens.
    pub fn seal(&self, context: &[u8], secret: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let mut body = Zeroizing::new(Vec::with_capacity(secret.len() + TAG_LEN));
        body.extend_from_slice(secret);
        let aad = Aad::from(context);
        let nonce = self.sealing.seal_in_place_append_tag(aad, &mut *body).map_err(|_| Unsealable)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Decrypts what [`seal`](Self::seal) made.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let (&FORMAT, rest) = sealed.split_first().ok_or(Unsealable)? else { return Err(Unsealable) };
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(Unsealable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unsealable)?;
        let mut body = Zeroizing::new(body.to_vec());
        let secret =
            self.sealing.open_in_place(nonce, Aad::from(context), &mut body).map_err(|_| Unsealable)?;
        Ok(secret.to_vec())
    }
}

/// The first byte of what is sealed, so that another way of sealing can come later.
const FORMAT: u8 = 1;
const TAG_LEN: usize = 16;

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

fn variable() -> Option<Zeroizing<Vec<u8>>> {
    std::env::var_os(VARIABLE).map(|value| Zeroizing::new(value.into_encoded_bytes()))
}

/// Reads a key as people and tools write it: base64url with or without padding, or hexadecimal.
fn parse(text: &[u8]) -> Option<Secret> {
    let text = text.trim_ascii();
    let mut secret = Secret::default();
    if text.len() == 64 {
        for (byte, pair) in secret.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        return Some(secret);
    }
    let text = text.strip_suffix(b"=").unwrap_or(text);
    // The decoder wants room for a whole group more than there is.
    let mut decoded = Zeroizing::new([0; 36]);
    let length = URL_SAFE_NO_PAD.decode_slice(text, decoded.as_mut_slice()).ok()?;
    let bytes = decoded.get(..length).filter(|b| b.len() == secret.len())?;
    secret.copy_from_slice(bytes);
    Some(secret)
}

/// The form in which a key is written to the file.
fn encode(secret: &Secret) -> Zeroizing<String> {
    Zeroizing::new(URL_SAFE_NO_PAD.encode(secret.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::new(&Zeroizing::new([byte; 32]))
    }

    #[test]
    fn what_is_sealed_can_be_opened() {
        let sealed = key(1).seal(b"context", b"secret").unwrap();
        assert_eq!(key(1).open(b"context", &sealed).unwrap(), b"secret");
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_ne!(key(1).seal(b"context", b"secret").unwrap(), sealed, "each has its own nonce");
    }

    #[test]
    fn another_key_context_or_a_changed_byte_opens_nothing() {
        let sealed = key(1).seal(b"context", b"secret").unwrap();
        assert_eq!(key(2).open(b"context", &sealed), Err(Unsealable));
        assert_eq!(key(1).open(b"contexT", &sealed), Err(Unsealable));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key(1).open(b"context", &changed), Err(Unsealable), "byte {at}");
            assert_eq!(key(1).open(b"context", &sealed[..at]), Err(Unsealable), "cut at {at}");
        }
    }

    #[test]
    fn the_empty_secret_is_one() {
        let sealed = key(1).seal(b"", b"").unwrap();
        assert_eq!(key(1).open(b"", &sealed).unwrap(), b"");
    }

    #[test]
    fn a_fingerprint_tells_keys_apart_and_is_no_key() {
        assert_eq!(key(1).fingerprint(), key(1).fingerprint());
        assert_ne!(key(1).fingerprint(), key(2).fingerprint());
        assert_ne!(key(1).fingerprint(), [1; 32]);
    }

    #[test]
    fn a_key_is_read_as_hexadecimal_and_base64url() {
        let secret = Zeroizing::new(std::array::from_fn(|n| u8::try_from(n * 7).unwrap()));
        let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        let base64 = encode(&secret);
        let forms = [
            hex.clone(),
            hex.to_uppercase(),
            base64.to_string(),
            format!("{}=", &*base64),
            format!(" {hex}\n"),
        ];
        for text in forms {
            assert_eq!(parse(text.as_bytes()), Some(secret.clone()), "{text}");
        }
        let wrong = [
            String::new(),
            hex[..62].to_owned(),
            format!("{hex}00"),
            format!("{}A", &*base64),
            "z".repeat(64),
        ];
        for text in wrong {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_variable_has_precedence_and_is_not_quoted_when_malformed() {
        let variable = |text: &str| Some(Zeroizing::new(text.as_bytes().to_vec()));
        let other = || Ok(Zeroizing::new([9; 32]));
        let loaded = MasterKey::from(variable(&"01".repeat(32)), other).unwrap();
        assert_eq!(loaded.fingerprint(), key(1).fingerprint());
        let loaded = MasterKey::from(None, other).unwrap();
        assert_eq!(loaded.fingerprint(), key(9).fingerprint());
        for malformed in ["", "hunter2"] {
            let error = MasterKey::from(variable(malformed), other).unwrap_err();
            assert!(matches!(error, MasterKeyError::MalformedVariable));
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn a_key_hides_from_debug() {
        assert_eq!(format!("{:?}", key(1)), "MasterKey(…)");
    }
}
