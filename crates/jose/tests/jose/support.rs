//! Keys, hand-made tokens and test vectors.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reseal_jose::{Algorithm, Jwk, SigningKey, VerifyingKey};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Once};

static KEYS: LazyLock<[SigningKey; 3]> =
    LazyLock::new(|| Algorithm::ALL.map(|algorithm| SigningKey::generate(algorithm, &random()).unwrap()));

/// One key of the algorithm, the same in all tests.
pub(crate) fn key(algorithm: Algorithm) -> &'static SigningKey {
    KEYS.iter().find(|key| key.algorithm() == algorithm).unwrap()
}

#[allow(clippy::disallowed_methods, reason = "a test is an edge, too")]
pub(crate) fn random() -> SystemRandom {
    SystemRandom::new()
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Makes tokens that the library would not make: with any header, and a true signature.
pub(crate) struct Forge(Ed25519KeyPair);

impl Forge {
    pub(crate) fn new() -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap())
    }

    pub(crate) fn sign(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        self.sign_encoded(&b64(header), &b64(payload))
    }

    pub(crate) fn sign_encoded(&self, header: &str, payload: &str) -> String {
        let signed = format!("{header}.{payload}");
        let signature = b64(self.0.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Its public key, with other members over the usual ones.
    pub(crate) fn jwk(&self, more: Value) -> Value {
        let mut jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": b64(self.0.public_key())});
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    }

    pub(crate) fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey::from_jwk(&jwk(&self.jwk(json!({})))).unwrap()
    }
}

pub(crate) fn jwk(value: &Value) -> Jwk {
    Jwk::parse(value.to_string().as_bytes()).unwrap()
}

/// A folder of published test vectors, or `None` after saying that tests are skipped.
pub(crate) fn vectors(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("RESEAL_VECTORS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"), PathBuf::from);
    let folder = root.join(folder);
    if folder.is_dir() {
        return Some(folder);
    }
    static TOLD: Once = Once::new();
    // Past the test harness, which shows nothing of tests that pass: these prove nothing.
    TOLD.call_once(|| {
        let line = format!("skipped: no test vectors in {}; set RESEAL_VECTORS\n", root.display());
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    });
    None
}

pub(crate) fn read_json(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}
