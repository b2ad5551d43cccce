//! Tokens and keys that are refused, each for its own reason. The tokens are truly signed, so that nothing but
//! the reason can be why.

use crate::support::{Forge, b64, jwk, key, random};
use reseal_jose::{
    Algorithm, AlgorithmError, Base64Error, Jwk, JwkSet, Jws, JwsError, KeyError, KeySetError,
    MAX_HEADER_LEN, MAX_KEY_SET_LEN, MAX_TOKEN_LEN, Part, SignError, VerifyingKey, VerifyingKeys,
};
use serde_json::json;

fn refused_header(header: &str) -> JwsError {
    let token = Forge::new().sign(header, "{}");
    Jws::parse(&token).expect_err(header)
}

fn accepted_header(header: &str) {
    let forge = Forge::new();
    let token = forge.sign(header, "{}");
    assert_eq!(Jws::parse(&token).expect(header).verify(&forge.verifying_key()), Ok(&b"{}"[..]), "{header}");
}

#[test]
fn the_forge_signs_truly() {
    accepted_header(r#"{"alg":"EdDSA"}"#);
    accepted_header(r#" { "alg" : "Ed25519" , "typ" : "JWT" } "#);
    accepted_header(r#"{"\u0061lg":"Ed\u0044SA","k\u0069d":"\u00e4"}"#);
}

#[test]
fn no_signature_is_refused_in_any_spelling() {
    for name in ["none", "None", "NONE", "nOnE", " none", "none\\n"] {
        let header = format!(r#"{{"alg":"{name}"}}"#);
        assert_eq!(refused_header(&header), JwsError::Algorithm(AlgorithmError::None), "{name}");
        let unsigned = format!("{}.e30.", b64(&header));
        assert_eq!(Jws::parse(&unsigned).unwrap_err(), JwsError::Algorithm(AlgorithmError::None), "{name}");
    }
}

#[test]
fn symmetric_algorithms_are_refused() {
    for name in ["HS256", "HS384", "HS512"] {
        let expected = JwsError::Algorithm(AlgorithmError::Symmetric(name.to_owned()));
        assert_eq!(refused_header(&format!(r#"{{"alg":"{name}"}}"#)), expected);
    }
}

#[test]
fn other_algorithms_are_unsupported() {
    for name in [
        "ES384", "ES512", "ES256K", "PS256", "RS384", "RS512", "Ed448", "es256", "eddsa", "ES256 ", "", "RS1",
    ] {
        let error = refused_header(&format!(r#"{{"alg":"{name}"}}"#));
        assert_eq!(error, JwsError::Algorithm(AlgorithmError::Unsupported(format!("`{name}`"))));
    }
    // A long or wild name does not flood or break a log.
    let wild = refused_header(&format!(r#"{{"alg":"\n\u001b[31m{}"}}"#, "A".repeat(5000))).to_string();
    assert!(wild.len() < 300 && !wild.contains(['\n', '\u{1b}']), "{wild}");
}

#[test]
fn a_header_without_algorithm_is_refused() {
    assert_eq!(refused_header("{}"), JwsError::MissingAlgorithm);
    assert_eq!(refused_header(r#"{"typ":"at+jwt","kid":"1"}"#), JwsError::MissingAlgorithm);
}

#[test]
fn critical_extensions_are_refused_whatever_they_are() {
    for crit in [r#"["exp"]"#, r#"["b64"]"#, "[]", "null", r#""alg""#, r#"["alg"]"#] {
        assert_eq!(
            refused_header(&format!(r#"{{"alg":"EdDSA","crit":{crit}}}"#)),
            JwsError::Critical,
            "{crit}"
        );
    }
}

#[test]
fn unencoded_payloads_are_refused() {
    for b64 in ["false", "true", "null"] {
        assert_eq!(refused_header(&format!(r#"{{"alg":"EdDSA","b64":{b64}}}"#)), JwsError::UnencodedPayload);
    }
}

#[test]
fn duplicate_members_are_refused_even_unknown_and_escaped_ones() {
    for (header, name) in [
        (r#"{"alg":"EdDSA","alg":"EdDSA"}"#, "`alg`"),
        (r#"{"alg":"none","alg":"EdDSA"}"#, "`alg`"),
        (r#"{"alg":"EdDSA","\u0061lg":"none"}"#, "`alg`"),
        (r#"{"kid":"1","alg":"EdDSA","kid":"2"}"#, "`kid`"),
        (r#"{"alg":"EdDSA","foo":1,"bar":2,"foo":1}"#, "`foo`"),
        (r#"{"alg":"EdDSA","jwk":{},"jwk":{}}"#, "`jwk`"),
    ] {
        assert_eq!(refused_header(header), JwsError::DuplicateMember(name.to_owned()), "{header}");
    }
    // The same name elsewhere is another member.
    accepted_header(r#"{"alg":"EdDSA","foo":{"alg":"none","foo":1}}"#);
}

#[test]
fn a_header_that_is_no_object_of_the_right_types_is_refused() {
    for header in [
        "",
        "null",
        "[]",
        "\"EdDSA\"",
        "{",
        r#"{"alg":"EdDSA"}}"#,
        r#"{"alg":"EdDSA",}"#,
        r#"{alg:"EdDSA"}"#,
        r#"{"alg":1}"#,
        r#"{"alg":["EdDSA"]}"#,
        r#"{"alg":null}"#,
        r#"{"alg":"EdDSA","kid":1}"#,
        r#"{"alg":"EdDSA","kid":null}"#,
        r#"{"alg":"EdDSA","typ":{}}"#,
        r#"{"alg":"EdDSA","cty":[]}"#,
        "\u{feff}{\"alg\":\"EdDSA\"}",
        r#"{"alg":"EdDSA"} x"#,
        r#"{"alg":"EdDSA","kid":"\ud800"}"#,
    ] {
        assert!(matches!(refused_header(header), JwsError::HeaderJson(_)), "{header}");
    }
    let not_utf8 = Forge::new().sign(b"{\"alg\":\"EdDSA\",\"kid\":\"\xff\"}", "{}");
    assert!(matches!(Jws::parse(&not_utf8), Err(JwsError::HeaderJson(_))));
    // What is ignored may be deep: it is skipped without recursion.
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    accepted_header(&format!(r#"{{"alg":"EdDSA","deep":{deep}}}"#));
    assert!(matches!(refused_header(&format!(r#"{{"alg":"EdDSA","kid":{deep}}}"#)), JwsError::HeaderJson(_)));
}

#[test]
fn keys_in_the_header_are_never_used() {
    let forge = Forge::new();
    let own = forge.jwk(json!({}));
    for (name, value) in [
        ("jwk", own),
        ("jku", json!("https://attacker.example/jwks.json")),
        ("x5u", json!("https://attacker.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        let token = forge.sign(json!({"alg": "EdDSA", name: value}).to_string(), "{}");
        let jws = Jws::parse(&token).unwrap();
        assert_eq!(jws.verify(key(Algorithm::EdDsa).verifying_key()), Err(JwsError::BadSignature), "{name}");
        assert_eq!(jws.verify(&forge.verifying_key()), Ok(&b"{}"[..]), "{name}");
    }
}

#[test]
fn json_serialization_is_told_as_such() {
    let token = Forge::new().sign(r#"{"alg":"EdDSA"}"#, "{}");
    let parts: Vec<&str> = token.split('.').collect();
    let flat = json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string();
    assert_eq!(Jws::parse(&flat).unwrap_err(), JwsError::JsonSerialization);
    assert_eq!(Jws::parse(&format!(" \n{flat}")).unwrap_err(), JwsError::JsonSerialization);
}

#[test]
fn a_token_has_three_parts() {
    for (token, found) in [("", 1), ("e30", 1), ("e30.e30", 2), ("a.b.c.d", 4), ("a.b.c.d.e", 5), ("....", 5)]
    {
        assert_eq!(Jws::parse(token).unwrap_err(), JwsError::Parts { found }, "{token}");
    }
    assert!(JwsError::Parts { found: 5 }.to_string().contains("JWE"));
}

#[test]
fn base64url_has_one_spelling() {
    let forge = Forge::new();
    let fine = b64(r#"{"alg":"EdDSA"}"#); // 15 bytes, 20 characters
    let refused = |header: &str, payload: &str| {
        Jws::parse(&forge.sign_encoded(header, payload)).expect_err("a second spelling")
    };
    for (payload, fault) in [
        ("e30=", Base64Error::Padding),
        ("eA==", Base64Error::Padding),
        ("eB", Base64Error::TrailingBits),
        ("e31", Base64Error::TrailingBits),
        ("e", Base64Error::Length),
        ("e30\n", Base64Error::Character(3)),
        (" e30", Base64Error::Character(0)),
        ("e3+w", Base64Error::Character(2)),
        ("e3/w", Base64Error::Character(2)),
        ("e30\u{e9}", Base64Error::Character(3)),
    ] {
        assert_eq!(refused(&fine, payload), JwsError::Base64 { part: Part::Payload, fault }, "{payload:?}");
    }
    let padded = b64(r#"{"alg":"EdDSA" }"#) + "==";
    let expected = JwsError::Base64 { part: Part::Header, fault: Base64Error::Padding };
    assert_eq!(refused(&padded, "e30"), expected);

    // The last character of a signature of 64 bytes has four unused bits.
    let token = forge.sign(r#"{"alg":"EdDSA"}"#, "{}");
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = alphabet.find(token.chars().last().unwrap()).unwrap();
    let twin = format!("{}{}", &token[..token.len() - 1], &alphabet[last + 1..last + 2]);
    let expected = JwsError::Base64 { part: Part::Signature, fault: Base64Error::TrailingBits };
    assert_eq!(Jws::parse(&twin).unwrap_err(), expected);
}

#[test]
fn long_tokens_and_headers_are_not_read() {
    let forge = Forge::new();
    let header = b64(r#"{"alg":"EdDSA"}"#);
    let around = header.len() + 1 + 1 + 86; // the dots and a signature of 64 bytes
    let longest = forge.sign_encoded(&header, &"A".repeat(MAX_TOKEN_LEN - around));
    assert_eq!(longest.len(), MAX_TOKEN_LEN);
    assert!(Jws::parse(&longest).unwrap().verify(&forge.verifying_key()).is_ok());
    let length = MAX_TOKEN_LEN + 1;
    let long = longest.replacen('A', "AA", 1);
    assert_eq!(Jws::parse(&long).unwrap_err(), JwsError::TooLong { length });

    let fill = |length: usize| format!(r#"{{"alg":"EdDSA","x":"{}"}}"#, "x".repeat(length - 22));
    accepted_header(&fill(MAX_HEADER_LEN / 4 * 3));
    let error = refused_header(&fill(MAX_HEADER_LEN / 4 * 3 + 1));
    assert!(matches!(error, JwsError::HeaderTooLong { .. }), "{error}");

    let many = |count: usize| {
        let members: Vec<String> = (1..count).map(|i| format!(r#""m{i}":0"#)).collect();
        format!(r#"{{"alg":"EdDSA",{}}}"#, members.join(","))
    };
    accepted_header(&many(64));
    assert_eq!(refused_header(&many(65)), JwsError::TooManyMembers);
}

#[test]
fn a_token_for_another_algorithm_than_its_key_is_refused() {
    for (token_for, key_for) in [(0, 1), (1, 2), (2, 0)].map(|(a, b)| (Algorithm::ALL[a], Algorithm::ALL[b]))
    {
        let token = key(token_for).sign("JWT", b"{}", &random()).unwrap();
        let error = Jws::parse(&token).unwrap().verify(key(key_for).verifying_key()).unwrap_err();
        assert_eq!(error, JwsError::AlgorithmMismatch { token: token_for, key: key_for });
    }
}

#[test]
fn a_token_is_only_signed_with_a_sensible_type_and_length() {
    let key = key(Algorithm::EdDsa);
    for typ in ["", "at jwt", "a\"b", "a\\b", "\n", "ä"] {
        assert_eq!(key.sign(typ, b"{}", &random()), Err(SignError::Type), "{typ:?}");
    }
    // What is signed can be read: the bound is the same.
    let lengths = [11_900, 12_000, 12_100, 12_200, MAX_TOKEN_LEN, MAX_TOKEN_LEN * 2];
    let signed = lengths.map(|length| key.sign("JWT", &vec![b' '; length], &random()));
    assert!(
        signed[0].is_ok() && signed[5] == Err(SignError::TooLong) && signed[3] == Err(SignError::TooLong)
    );
    for token in signed.iter().flatten() {
        assert!(Jws::parse(token).is_ok());
    }
}

#[test]
fn keys_that_are_not_for_verifying_are_refused() {
    let forge = Forge::new();
    let refused = |more| VerifyingKey::from_jwk(&jwk(&forge.jwk(more))).unwrap_err();
    assert_eq!(refused(json!({"use": "enc"})), KeyError::OtherUse("`enc`".into()));
    assert_eq!(refused(json!({"use": ""})), KeyError::OtherUse("``".into()));
    assert_eq!(refused(json!({"key_ops": []})), KeyError::OtherOperations);
    assert_eq!(refused(json!({"key_ops": ["sign"]})), KeyError::OtherOperations);
    assert_eq!(refused(json!({"use": "sig", "key_ops": ["encrypt"]})), KeyError::OtherOperations);
    for alg in ["ES256", "RS256", "HS256", "none", "eddsa", "Ed448", ""] {
        let expected = KeyError::OtherAlgorithm { alg: format!("`{alg}`"), supported: Algorithm::EdDsa };
        assert_eq!(refused(json!({"alg": alg})), expected);
    }
    for more in [
        json!({}),
        json!({"alg": "EdDSA", "use": "sig", "key_ops": ["verify"]}),
        json!({"alg": "Ed25519", "key_ops": ["sign", "verify"], "d": "ignored", "x5c": [], "ext": true}),
    ] {
        assert!(VerifyingKey::from_jwk(&jwk(&forge.jwk(more))).is_ok());
    }
}

#[test]
fn keys_of_other_types_and_curves_are_refused() {
    let refused = |value| VerifyingKey::from_jwk(&jwk(&value)).unwrap_err();
    assert_eq!(refused(json!({"kty": "oct", "k": "AAAA"})), KeyError::Symmetric);
    assert_eq!(refused(json!({"kty": "AKP", "pub": "AAAA"})), KeyError::UnsupportedType("`AKP`".into()));
    assert_eq!(refused(json!({"kty": "ec", "crv": "P-256"})), KeyError::UnsupportedType("`ec`".into()));
    for crv in ["P-384", "P-521", "secp256k1", "Ed25519"] {
        let value = json!({"kty": "EC", "crv": crv, "x": "AA", "y": "AA"});
        assert_eq!(refused(value), KeyError::UnsupportedCurve(format!("`{crv}`")));
    }
    for crv in ["X25519", "Ed448", "P-256"] {
        let value = json!({"kty": "OKP", "crv": crv, "x": "AA"});
        assert_eq!(refused(value), KeyError::UnsupportedCurve(format!("`{crv}`")));
    }
}

#[test]
fn malformed_keys_are_refused() {
    for json in [
        "",
        "[]",
        "{}",
        r#"{"kty":1}"#,
        r#"{"kty":"EC","crv":"P-256","x":"AA"}"#,
        r#"{"kty":"RSA","n":"AA"}"#,
        r#"{"kty":"OKP","x":"AA"}"#,
        r#"{"kty":"OKP","kty":"OKP","crv":"Ed25519","x":"AA"}"#,
        r#"{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA","d":"AA"}"#,
        r#"{"kty":"OKP","crv":"Ed25519","x":null}"#,
        r#"{"kty":"OKP","crv":"Ed25519","x":"AA","key_ops":"verify"}"#,
    ] {
        assert!(matches!(Jwk::parse(json.as_bytes()), Err(KeyError::Malformed(_))), "{json}");
        assert!(serde_json::from_str::<Jwk>(json).is_err(), "{json}");
    }
    assert!(matches!(Jwk::parse(&vec![b' '; MAX_KEY_SET_LEN + 1]), Err(KeyError::Malformed(_))));
}

#[test]
fn numbers_in_keys_have_one_spelling_and_the_right_size() {
    let ec = |x: String, y: String| {
        VerifyingKey::from_jwk(&jwk(&json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}))).unwrap_err()
    };
    let (zero, short, long) = (b64([0; 32]), b64([1; 31]), b64([0; 33]));
    assert_eq!(ec(zero.clone(), zero.clone()), KeyError::NotOnCurve);
    assert_eq!(ec(short, zero.clone()), KeyError::CoordinateLength { member: "x", length: 31 });
    assert_eq!(ec(zero.clone(), long), KeyError::CoordinateLength { member: "y", length: 33 });
    let fault = Base64Error::Padding;
    assert_eq!(ec(format!("{zero}="), zero.clone()), KeyError::Base64 { member: "x", fault });
    // 2^256 - 1 is above the field's prime: not another spelling of a small coordinate.
    assert_eq!(ec(b64([0xff; 32]), zero), KeyError::NotOnCurve);

    let okp = json!({"kty": "OKP", "crv": "Ed25519", "x": b64([1; 31])});
    let expected = KeyError::CoordinateLength { member: "x", length: 31 };
    assert_eq!(VerifyingKey::from_jwk(&jwk(&okp)).unwrap_err(), expected);

    let rsa = |n: &[u8], e: &[u8]| {
        VerifyingKey::from_jwk(&jwk(&json!({"kty": "RSA", "n": b64(n), "e": b64(e)}))).unwrap_err()
    };
    let modulus = [0xff; 256];
    assert_eq!(rsa(&[0xff; 128], &[1, 0, 1]), KeyError::RsaModulusLength { bits: 1024 });
    assert_eq!(rsa(&[0xff; 520], &[1, 0, 1]), KeyError::RsaModulusLength { bits: 4160 });
    assert_eq!(rsa(&[], &[]), KeyError::RsaModulusLength { bits: 0 });
    assert_eq!(rsa(&modulus, &[3]), KeyError::RsaExponent);
    assert_eq!(rsa(&modulus, &[1]), KeyError::RsaExponent);
    assert_eq!(rsa(&modulus, &[1, 0, 0]), KeyError::RsaExponent);
    assert_eq!(rsa(&[&[0][..], &modulus].concat(), &[1, 0, 1]), KeyError::LeadingZero { member: "n" });
    assert_eq!(rsa(&modulus, &[0, 1, 0, 1]), KeyError::LeadingZero { member: "e" });
    let mut even = modulus;
    even[255] = 0xfe;
    assert_eq!(rsa(&even, &[1, 0, 1]), KeyError::WeakRsaModulus);
}

#[test]
fn key_sets_are_bounded_and_strict_about_themselves() {
    let parse = |json: &str| VerifyingKeys::parse(json.as_bytes());
    let length = MAX_KEY_SET_LEN + 1;
    assert_eq!(parse(&" ".repeat(length)).unwrap_err(), KeySetError::TooLong { length });
    assert_eq!(parse("{}").unwrap_err(), KeySetError::NoKeys);
    for json in ["", "[]", r#"{"keys":{}}"#, r#"{"keys":null}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[]"#]
    {
        assert!(matches!(parse(json), Err(KeySetError::Malformed(_))), "{json}");
    }
    let many = |count: usize| json!({"keys": vec![json!({"kty": "oct"}); count]}).to_string();
    assert_eq!(parse(&many(100)).unwrap().skipped().len(), 100);
    assert_eq!(parse(&many(101)).unwrap_err(), KeySetError::TooManyKeys { found: 101 });
    assert!(parse(r#"{"keys":[],"issued":1}"#).unwrap().keys().is_empty());

    assert!(serde_json::from_str::<JwkSet>(r#"{"keys":[{"kty":"oct"}],"other":1}"#).is_ok());
    for json in ["{}", r#"{"keys":[],"keys":[]}"#, r#"{"keys":[{"kty":"EC"}]}"#] {
        assert!(serde_json::from_str::<JwkSet>(json).is_err(), "{json}");
    }
}
