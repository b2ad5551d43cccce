//! The `jsonwebtoken` crate reads what is made here, and the other way round.

use crate::support::{key, random};
use jsonwebtoken::jwk::Jwk as OtherJwk;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use reseal_jose::{Algorithm, Jws};
use serde_json::{Value, json};

/// What PKCS #8 puts before the PKCS #1 key of 3072 bits, which is what the other library wants.
const PKCS8_LEN: usize = 26;

fn other(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    algorithm.as_str().parse().unwrap()
}

#[test]
fn another_library_verifies_our_tokens() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let token = key.sign("at+jwt", br#"{"sub":"alice"}"#, &random()).unwrap();
        let jwk: OtherJwk = serde_json::from_value(serde_json::to_value(key.public_jwk()).unwrap()).unwrap();
        let mut validation = Validation::new(other(algorithm));
        validation.required_spec_claims.clear();
        let read = jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation)
            .unwrap();
        assert_eq!(read.claims, json!({"sub": "alice"}));
        assert_eq!(
            (read.header.kid.as_deref(), read.header.typ.as_deref()),
            (Some(key.kid()), Some("at+jwt"))
        );
    }
}

#[test]
fn tokens_of_another_library_verify() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let der = key.to_pkcs8().unwrap();
        let encoding_key = match algorithm {
            Algorithm::EdDsa => EncodingKey::from_ed_der(&der),
            Algorithm::Rs256 => EncodingKey::from_rsa_der(&der[PKCS8_LEN..]),
            _ => EncodingKey::from_ec_der(&der),
        };
        let token =
            jsonwebtoken::encode(&Header::new(other(algorithm)), &json!({"sub": "bob"}), &encoding_key)
                .unwrap();
        let jws = Jws::parse(&token).unwrap();
        assert_eq!(jws.verify(key.verifying_key()).unwrap(), br#"{"sub":"bob"}"#);
    }
}
