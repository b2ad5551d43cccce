//! Private keys, and making tokens with them.

use crate::algorithm::Algorithm;
use crate::base64url;
use crate::jwk::{Jwk, KeyMaterial};
use crate::jws::MAX_TOKEN_LEN;
use crate::verifying::{KeyError, VerifyingKey};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use std::fmt;
use zeroize::Zeroizing;

/// A private key with the one algorithm that it signs for, named by its thumbprint (RFC 7638).
pub struct SigningKey {
    private: Private,
    public_jwk: Jwk,
    verifying: VerifyingKey,
    header: EncodedHeader,
}

impl SigningKey {
    /// Makes a key; an RSA key has 3072 bits (128-bit security) and takes a second or so.
    ///
    /// `random` is the seed of an Ed25519 key. For the other two AWS-LC draws from its own generator, seeded by
    /// the operating system; the argument then only says that the caller allows it.
    pub fn generate(algorithm: Algorithm, random: &dyn SecureRandom) -> Result<Self, KeyError> {
        let failed = || KeyError::Generate(algorithm);
        let private = match algorithm {
            Algorithm::Es256 => EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)
                .map(Private::Es256)
                .map_err(|_| failed())?,
            Algorithm::EdDsa => {
                let mut seed = Zeroizing::new([0; 32]);
                random.fill(seed.as_mut_slice()).map_err(|_| failed())?;
                Ed25519KeyPair::from_seed_unchecked(seed.as_slice())
                    .map(Private::EdDsa)
                    .map_err(|_| failed())?
            }
            Algorithm::Rs256 => {
                rsa::KeyPair::generate(KeySize::Rsa3072).map(Private::Rs256).map_err(|_| failed())?
            }
        };
        Self::of(private)
    }

    /// Reads a PKCS #8 private key (DER).
    pub fn from_pkcs8(algorithm: Algorithm, der: &[u8]) -> Result<Self, KeyError> {
        let private = match algorithm {
            Algorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Private::Es256)
            }
            // Version 1 has no public key to check the private one against; it is derived instead.
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Private::EdDsa),
            Algorithm::Rs256 => rsa::KeyPair::from_pkcs8(der).map(Private::Rs256),
        };
        Self::of(private.map_err(|_| KeyError::Pkcs8(algorithm))?)
    }

    /// The private key as PKCS #8 (DER). Keep it encrypted.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let failed = |_| KeyError::Pkcs8(self.algorithm());
        let copy = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
        match &self.private {
            Private::Es256(key) => key.to_pkcs8v1().map(|der| copy(der.as_ref())).map_err(failed),
            Private::EdDsa(key) => key.to_pkcs8v1().map(|der| copy(der.as_ref())).map_err(failed),
            Private::Rs256(key) => {
                AsDer::<Pkcs8V1Der<'_>>::as_der(key).map(|der| copy(der.as_ref())).map_err(failed)
            }
        }
    }

    /// The one algorithm that it signs for.
    pub const fn algorithm(&self) -> Algorithm {
        self.verifying.algorithm()
    }

    /// Its name in the header of its tokens: the thumbprint of the public key.
    pub fn kid(&self) -> &str {
        self.verifying.thumbprint()
    }

    /// The public key, to verify with.
    pub const fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying
    }

    /// The public key, to publish.
    pub const fn public_jwk(&self) -> &Jwk {
        &self.public_jwk
    }

    /// Makes a token with the header members `alg`, `kid` and `typ`.
    pub fn sign(&self, typ: &str, payload: &[u8], random: &dyn SecureRandom) -> Result<String, SignError> {
        if typ.is_empty() || !typ.bytes().all(is_media_type_character) {
            return Err(SignError::Type);
        }
        if payload.len() > MAX_TOKEN_LEN {
            return Err(SignError::TooLong);
        }
        let mut token = String::with_capacity(self.header.prefix.len() + 512 + payload.len() * 4 / 3);
        self.header.write(typ, &mut token);
        token.push('.');
        base64url::encode_onto(payload, &mut token);
        let length = token.len();
        token.push('.');
        self.private.sign(length, &mut token, random)?;
        if token.len() > MAX_TOKEN_LEN { Err(SignError::TooLong) } else { Ok(token) }
    }

    fn of(private: Private) -> Result<Self, KeyError> {
        let mut public_jwk = Jwk::new(private.public_material());
        let kid = public_jwk.thumbprint()?;
        let algorithm = private.algorithm();
        public_jwk.kid = Some(kid.clone());
        public_jwk.alg = Some(algorithm.as_str().to_owned());
        public_jwk.key_use = Some("sig".to_owned());
        let verifying = VerifyingKey::from_jwk(&public_jwk)?;
        Ok(Self { private, public_jwk, verifying, header: EncodedHeader::new(algorithm, &kid) })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm())
            .field("kid", &self.kid())
            .finish_non_exhaustive()
    }
}

/// The characters of a media type's name (RFC 6838 §4.2): none of them needs escaping in JSON.
fn is_media_type_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&byte)
}

enum Private {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(rsa::KeyPair),
}

impl Private {
    const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Es256(_) => Algorithm::Es256,
            Self::EdDsa(_) => Algorithm::EdDsa,
            Self::Rs256(_) => Algorithm::Rs256,
        }
    }

    fn public_material(&self) -> KeyMaterial {
        match self {
            Self::Es256(key) => {
                // An uncompressed point: 4, x, y.
                let point = key.public_key().as_ref();
                let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len().saturating_sub(1) / 2);
                KeyMaterial::Ec { crv: "P-256".to_owned(), x: base64url::encode(x), y: base64url::encode(y) }
            }
            Self::EdDsa(key) => KeyMaterial::Okp {
                crv: "Ed25519".to_owned(),
                x: base64url::encode(key.public_key().as_ref()),
            },
            Self::Rs256(key) => {
                let key = key.public_key();
                KeyMaterial::Rsa {
                    n: base64url::encode(key.modulus().big_endian_without_leading_zero()),
                    e: base64url::encode(key.exponent().big_endian_without_leading_zero()),
                }
            }
        }
    }

    /// Signs the first `length` bytes of `token` and appends the signature.
    fn sign(&self, length: usize, token: &mut String, random: &dyn SecureRandom) -> Result<(), SignError> {
        let message = &token.as_bytes()[..length];
        match self {
            Self::Es256(key) => {
                let signature = key.sign(random, message).map_err(|_| SignError::Library)?;
                base64url::encode_onto(signature.as_ref(), token);
            }
            Self::EdDsa(key) => {
                let signature = key.try_sign(message).map_err(|_| SignError::Library)?;
                base64url::encode_onto(signature.as_ref(), token);
            }
            Self::Rs256(key) => {
                let mut buffer = [0; 512]; // 4096 bits
                let signature = buffer.get_mut(..key.public_modulus_len()).ok_or(SignError::Library)?;
                key.sign(&signature::RSA_PKCS1_SHA256, random, message, signature)
                    .map_err(|_| SignError::Library)?;
                base64url::encode_onto(signature, token);
            }
        }
        Ok(())
    }
}

/// `{"alg":...,"kid":...,"typ":"` is the same in every token of a key, so it is encoded once, up to the last
/// whole group of three bytes; what is left of it is encoded with the `typ`.
struct EncodedHeader {
    prefix: String,
    rest: Vec<u8>,
}

impl EncodedHeader {
    fn new(algorithm: Algorithm, kid: &str) -> Self {
        // A thumbprint is base64url: nothing in it needs escaping.
        let json = format!(r#"{{"alg":"{algorithm}","kid":"{kid}","typ":""#);
        let (whole, rest) = json.as_bytes().split_at(json.len() / 3 * 3);
        Self { prefix: base64url::encode(whole), rest: rest.to_vec() }
    }

    fn write(&self, typ: &str, token: &mut String) {
        token.push_str(&self.prefix);
        let end = [self.rest.as_slice(), typ.as_bytes(), br#""}"#].concat();
        base64url::encode_onto(&end, token);
    }
}

/// Why no token was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// `typ` is not the name of a media type.
    #[error("a token's `typ` must be the name of a media type, such as `at+jwt`")]
    Type,
    /// The token would be longer than anybody reads.
    #[error("the token would have more than {MAX_TOKEN_LEN} characters; put less into its payload")]
    TooLong,
    /// The cryptographic library failed.
    #[error("the cryptographic library could not sign")]
    Library,
}
