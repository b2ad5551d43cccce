//! What holds for every payload, every change and every input.

use crate::support::{Forge, b64, key, random};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use reseal_jose::{Algorithm, Jwk, JwkSet, Jws, SigningKey, VerifyingKey, VerifyingKeys};

fn algorithm() -> impl Strategy<Value = Algorithm> {
    // One test in ten signs with RSA, which is slow.
    prop_oneof![5 => Just(Algorithm::Es256), 4 => Just(Algorithm::EdDsa), 1 => Just(Algorithm::Rs256)]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..600)
}

fn verifies(token: &str, key: &SigningKey) -> bool {
    Jws::parse(token).is_ok_and(|jws| jws.verify(key.verifying_key()).is_ok())
}

/// JSON of any shape, with the names that headers and keys have more often than others.
fn json_value() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        ".{0,20}",
        "[A-Za-z0-9_-]{0,50}",
        select(vec![
            "ES256", "EdDSA", "RS256", "none", "HS256", "EC", "OKP", "RSA", "oct", "P-256", "Ed25519",
            "AQAB", "sig", "enc"
        ])
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        text.prop_map(|text| serde_json::Value::String(text).to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        select(vec!["null", "true", "1e400", "\"\\u0061\"", "\"\\ud800\""]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((member(), inner), 0..8).prop_map(|members| {
                let members: Vec<String> =
                    members.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

fn member() -> impl Strategy<Value = String> {
    select(vec![
        "alg",
        "kid",
        "typ",
        "cty",
        "crit",
        "b64",
        "jwk",
        "kty",
        "crv",
        "x",
        "y",
        "n",
        "e",
        "d",
        "use",
        "key_ops",
        "keys",
        "\\u0061lg",
        "",
    ])
    .prop_map(|name| format!("\"{name}\""))
}

/// All that reads foreign input, none of which may panic.
fn read_as_anything(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(jws) = Jws::parse(&text) {
        // One spelling per token.
        assert_eq!(text.split('.').nth(1), Some(b64(jws.dangerous_unverified_payload()).as_str()));
        for algorithm in Algorithm::ALL {
            assert!(jws.verify(key(algorithm).verifying_key()).is_err());
        }
    }
    if let Ok(jwk) = Jwk::parse(input) {
        let _ = VerifyingKey::from_jwk(&jwk);
        let again: Jwk = serde_json::from_str(&serde_json::to_string(&jwk).unwrap()).unwrap();
        assert_eq!(again, jwk);
    }
    if let Ok(set) = serde_json::from_slice::<JwkSet>(input) {
        let _ = VerifyingKeys::from_set(&set);
    }
    if let Ok(keys) = VerifyingKeys::parse(input) {
        assert!(keys.keys().len() + keys.skipped().len() <= reseal_jose::MAX_KEYS);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_signed_verifies(algorithm in algorithm(), payload in payload(), typ in "[a-z+/.-]{1,24}") {
        let key = key(algorithm);
        let token = key.sign(&typ, &payload, &random()).unwrap();
        let jws = Jws::parse(&token).unwrap();
        prop_assert_eq!(jws.header().alg, algorithm);
        prop_assert_eq!(jws.header().kid.as_deref(), Some(key.kid()));
        prop_assert_eq!(jws.header().typ.as_deref(), Some(typ.as_str()));
        prop_assert_eq!(jws.verify(key.verifying_key()).unwrap(), payload.as_slice());
    }

    #[test]
    fn a_changed_character_fails(algorithm in algorithm(), payload in payload(), at in any::<Index>(), new in "[A-Za-z0-9_.=-]") {
        let key = key(algorithm);
        let token = key.sign("at+jwt", &payload, &random()).unwrap();
        let at = at.index(token.len());
        prop_assume!(token[at..=at] != new);
        let changed = format!("{}{new}{}", &token[..at], &token[at + 1..]);
        prop_assert!(!verifies(&changed, key), "{} became {}", token, changed);
    }

    #[test]
    fn a_flipped_bit_of_any_part_fails(algorithm in algorithm(), payload in payload(), at in any::<Index>(), bit in 0..8u8) {
        use base64::Engine as _;
        let key = key(algorithm);
        let token = key.sign("at+jwt", &payload, &random()).unwrap();
        let decode = |part| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap();
        let mut parts: Vec<Vec<u8>> = token.split('.').map(decode).collect();
        let mut at = at.index(parts.iter().map(Vec::len).sum());
        let part = parts.iter_mut().find(|part| {
            let here = at < part.len();
            if !here { at -= part.len(); }
            here
        }).unwrap();
        part[at] ^= 1 << bit;
        let changed = parts.iter().map(b64).collect::<Vec<_>>().join(".");
        prop_assert!(!verifies(&changed, key), "{} became {}", token, changed);
    }

    #[test]
    fn a_lost_or_added_character_fails(algorithm in algorithm(), payload in payload(), at in any::<Index>(), new in "[A-Za-z0-9_. \n-]") {
        let key = key(algorithm);
        let token = key.sign("at+jwt", &payload, &random()).unwrap();
        let at = at.index(token.len());
        let lost = format!("{}{}", &token[..at], &token[at + 1..]);
        prop_assert!(!verifies(&lost, key), "{} became {}", token, lost);
        let added = format!("{}{new}{}", &token[..at], &token[at..]);
        prop_assert!(!verifies(&added, key), "{} became {}", token, added);
    }

    #[test]
    fn another_key_verifies_nothing(payload in payload(), signer in algorithm(), other in algorithm()) {
        let token = key(signer).sign("at+jwt", &payload, &random()).unwrap();
        prop_assert_eq!(verifies(&token, key(other)), signer == other);
        let stranger = Forge::new().verifying_key();
        prop_assert!(Jws::parse(&token).unwrap().verify(&stranger).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_parsers_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
        read_as_anything(&input);
    }

    #[test]
    fn no_text_makes_the_parsers_panic(input in ".{0,200}", token in "[A-Za-z0-9_.=-]{0,200}") {
        read_as_anything(input.as_bytes());
        read_as_anything(token.as_bytes());
    }

    #[test]
    fn no_json_makes_the_parsers_panic(json in json_value()) {
        read_as_anything(json.as_bytes());
        read_as_anything(format!("{}.e30.AAAA", b64(&json)).as_bytes());
        read_as_anything(format!(r#"{{"keys":[{json}]}}"#).as_bytes());
    }
}
