//! Every JWS and JWK example of RFC 7520, and the Ed25519 one of RFC 8037.

use crate::support::{jwk, read_json, vectors};
use reseal_jose::{Algorithm, AlgorithmError, Jwk, Jws, JwsError, KeyError, VerifyingKey};
use serde_json::Value;

/// The keys of §3.
#[test]
fn keys_are_read_or_refused_by_their_type() {
    let Some(folder) = vectors("rfc7520") else { return };
    let read = |name: &str| jwk(&read_json(&folder.join(name)));
    for name in ["3_1.ec_public_key.json", "3_2.ec_private_key.json"] {
        assert_eq!(
            VerifyingKey::from_jwk(&read(name)).unwrap_err(),
            KeyError::UnsupportedCurve("`P-521`".into())
        );
    }
    for name in ["3_5.symmetric_key_mac_computation.json", "3_6.symmetric_key_encryption.json"] {
        assert_eq!(VerifyingKey::from_jwk(&read(name)).unwrap_err(), KeyError::Symmetric);
    }
    let public = read("3_3.rsa_public_key.json");
    assert_eq!(VerifyingKey::from_jwk(&public).unwrap().algorithm(), Algorithm::Rs256);
    assert_eq!(serde_json::to_value(&public).unwrap(), read_json(&folder.join("3_3.rsa_public_key.json")));
    // Nothing of the private key is kept.
    assert_eq!(read("3_4.rsa_private_key.json"), public);
}

/// The signatures of §4: in our algorithms they verify, in others they are told to be unsupported, and the JSON
/// serialization is told to be that.
#[test]
fn examples_verify_where_the_algorithm_is_ours() {
    let Some(folder) = vectors("rfc7520") else { return };
    let expected = [
        ("4_1.rsa_v15_signature.json", Some("RS256")),
        ("4_2.rsa-pss_signature.json", Some("unsupported")),
        ("4_3.ecdsa_signature.json", Some("unsupported")),
        ("4_4.hmac-sha2_integrity_protection.json", Some("symmetric")),
        ("4_5.signature_with_detached_content.json", Some("symmetric")),
        ("4_6.protecting_specific_header_fields.json", None),
        ("4_7.protecting_content_only.json", None),
        ("4_8.multiple_signatures.json", None),
        ("ed25519_jws.json", Some("EdDSA")),
    ];
    let mut found: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json") && !name.starts_with("3_"))
        .collect();
    found.sort();
    assert_eq!(found, expected.map(|(name, _)| name.to_owned()), "an example was added or is missing");

    for (name, compact) in expected {
        let example = read_json(&folder.join(name));
        let output = &example["output"];
        assert_eq!(
            output["compact"].as_str().map(|token| outcome(&example, token)).as_deref(),
            compact,
            "{name}"
        );
        for json in ["json", "json_flat"].iter().filter_map(|form| output.get(form)) {
            assert_eq!(Jws::parse(&json.to_string()).unwrap_err(), JwsError::JsonSerialization, "{name}");
        }
    }
}

/// In one word: the algorithm that verified, or why not.
fn outcome(example: &Value, token: &str) -> String {
    let jws = match Jws::parse(token) {
        Ok(jws) => jws,
        Err(JwsError::Algorithm(AlgorithmError::Symmetric(_))) => return "symmetric".to_owned(),
        Err(JwsError::Algorithm(AlgorithmError::Unsupported(_))) => return "unsupported".to_owned(),
        Err(other) => return other.to_string(),
    };
    let input = &example["input"];
    let key = VerifyingKey::from_jwk(&jwk(&input["key"])).unwrap();
    assert_eq!(jws.verify(&key).unwrap(), input["payload"].as_str().unwrap().as_bytes());
    assert_eq!(jws.header().kid.as_deref(), input["key"]["kid"].as_str());
    key.algorithm().to_string()
}

#[test]
fn the_example_key_of_rfc_8037_has_the_thumbprint_given_there() {
    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let key = Jwk::parse(key.as_bytes()).unwrap();
    assert_eq!(key.thumbprint().unwrap(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}
