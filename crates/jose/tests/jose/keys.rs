//! Keys on their way out and in, thumbprints, key sets in use, and the examples of RFC 7515.

use crate::support::{Forge, b64, jwk, key, random};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reseal_jose::{
    Algorithm, Jwk, JwkSet, Jws, JwsError, KeyError, KeyMaterial, MAX_CANDIDATES, SigningKey, VerifyingKey,
    VerifyingKeys,
};
use serde_json::{Value, json};

#[test]
fn a_private_key_survives_pkcs8() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let again = SigningKey::from_pkcs8(algorithm, &key.to_pkcs8().unwrap()).unwrap();
        assert_eq!((again.kid(), again.algorithm()), (key.kid(), algorithm));
        let token = again.sign("JWT", b"{}", &random()).unwrap();
        assert_eq!(Jws::parse(&token).unwrap().verify(key.verifying_key()), Ok(&b"{}"[..]));
    }
}

#[test]
fn a_private_key_of_another_algorithm_or_cut_is_refused() {
    for algorithm in Algorithm::ALL {
        let der = key(algorithm).to_pkcs8().unwrap();
        for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
            assert_eq!(SigningKey::from_pkcs8(other, &der).unwrap_err(), KeyError::Pkcs8(other));
        }
        assert_eq!(SigningKey::from_pkcs8(algorithm, &der[1..]).unwrap_err(), KeyError::Pkcs8(algorithm));
        assert_eq!(SigningKey::from_pkcs8(algorithm, &[]).unwrap_err(), KeyError::Pkcs8(algorithm));
    }
}

#[test]
fn a_longer_rsa_key_signs_too() {
    let pair = KeyPair::generate(KeySize::Rsa3072).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let key = SigningKey::from_pkcs8(Algorithm::Rs256, der.as_ref()).unwrap();
    let token = key.sign("JWT", b"{}", &random()).unwrap();
    let jws = Jws::parse(&token).unwrap();
    assert_eq!(jws.verify(key.verifying_key()), Ok(&b"{}"[..]));
    assert_eq!(jws.verify(self::key(Algorithm::Rs256).verifying_key()), Err(JwsError::BadSignature));
}

/// RFC 8410 §10.3 and §10.1.
#[test]
fn an_ed25519_key_as_openssl_writes_it_is_read() {
    let der = STANDARD.decode("MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC").unwrap();
    let key = SigningKey::from_pkcs8(Algorithm::EdDsa, &der).unwrap();
    let public = STANDARD.decode("Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=").unwrap();
    assert_eq!(key.public_jwk().material, KeyMaterial::Okp { crv: "Ed25519".into(), x: b64(public) });
}

#[test]
fn a_published_key_says_all_that_is_needed_and_nothing_private() {
    for (algorithm, members) in [
        (Algorithm::Es256, &["alg", "crv", "kid", "kty", "use", "x", "y"][..]),
        (Algorithm::EdDsa, &["alg", "crv", "kid", "kty", "use", "x"]),
        (Algorithm::Rs256, &["alg", "e", "kid", "kty", "n", "use"]),
    ] {
        let key = key(algorithm);
        let value = serde_json::to_value(key.public_jwk()).unwrap();
        let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, members);
        assert_eq!((&value["alg"], &value["use"]), (&json!(algorithm.as_str()), &json!("sig")));
        assert_eq!(
            (&value["kid"], key.kid()),
            (&json!(key.kid()), key.public_jwk().thumbprint().unwrap().as_str())
        );
        let again: Jwk = serde_json::from_value(value).unwrap();
        assert_eq!(&again, key.public_jwk());
        let shown = format!("{key:?} {:?}", key.verifying_key());
        assert!(!shown.contains(&b64(&*key.to_pkcs8().unwrap())) && shown.contains(key.kid()), "{shown}");
    }
}

/// RFC 7638 §3.1.
#[test]
fn a_thumbprint_depends_on_the_key_only() {
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj\
        hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajr\
        n1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let mut key = jwk(&json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}));
    assert_eq!(key.thumbprint().unwrap(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    (key.alg, key.kid, key.key_use) = (None, Some("other".into()), Some("sig".into()));
    assert_eq!(key.thumbprint().unwrap(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(jwk(&json!({"kty": "oct", "k": "AA"})).thumbprint(), Err(KeyError::Symmetric));
}

/// RFC 7515 A.2 and A.3.
#[test]
fn the_examples_of_rfc_7515_verify() {
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let es256 = jwk(&json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}));
    let rs256 = jwk(
        &json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-\
        4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA\
        9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk\
        2PAcDTW9gb54h4FRWyuXpoQ"}),
    );
    let es256_signature =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let rs256_signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb\
        F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwu\
        sC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    for (header, key, signature) in
        [(r#"{"alg":"ES256"}"#, es256, es256_signature), (r#"{"alg":"RS256"}"#, rs256, rs256_signature)]
    {
        let token = format!("{}.{payload}.{signature}", b64(header));
        let jws = Jws::parse(&token).unwrap();
        let payload = jws.verify(&VerifyingKey::from_jwk(&key).unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(payload).unwrap()["iss"], "joe");
    }
}

#[test]
fn algorithms_are_read_and_written_by_name() {
    for algorithm in Algorithm::ALL {
        assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        let json = serde_json::to_string(&algorithm).unwrap();
        assert_eq!(serde_json::from_str::<Algorithm>(&json).unwrap(), algorithm);
    }
    assert_eq!("Ed25519".parse(), Ok(Algorithm::EdDsa));
    assert_eq!(Algorithm::EdDsa.as_str(), "EdDSA");
    assert!(serde_json::from_str::<Algorithm>("\"HS256\"").is_err());
}

#[test]
fn unusable_keys_of_a_set_are_skipped_with_their_reason() {
    let forge = Forge::new();
    let good = forge.jwk(json!({"kid": "good"}));
    let set = json!({"keys": [
        {"kty": "oct", "k": "AA", "kid": "mac"}, 17, good, forge.jwk(json!({"kid": "enc", "use": "enc"})), {"kty": "EC"},
        good, // the same once more
    ]});
    let keys = VerifyingKeys::parse(set.to_string().as_bytes()).unwrap();
    assert_eq!(keys.keys().iter().map(|key| key.kid()).collect::<Vec<_>>(), [Some("good")]);
    let skipped: Vec<(usize, Option<&str>)> =
        keys.skipped().iter().map(|s| (s.index, s.kid.as_deref())).collect();
    assert_eq!(skipped, [(0, Some("mac")), (1, None), (3, Some("enc")), (4, None)]);
    assert_eq!(keys.skipped()[0].reason, KeyError::Symmetric);
    assert!(matches!(keys.skipped()[1].reason, KeyError::Malformed(_)));
    assert_eq!(keys.skipped()[2].reason, KeyError::OtherUse("`enc`".into()));
    assert!(keys.skipped()[3].reason.to_string().contains("crv"));
}

#[test]
fn different_keys_with_one_name_are_not_used() {
    let named = |algorithm, kid: &str| {
        let mut jwk = SigningKey::generate(algorithm, &random()).unwrap().public_jwk().clone();
        jwk.kid = Some(kid.to_owned());
        jwk
    };
    let set = JwkSet {
        keys: vec![
            named(Algorithm::Es256, "twin"),
            named(Algorithm::Es256, "twin"),
            named(Algorithm::EdDsa, "twin"), // another algorithm: no doubt which is meant
            named(Algorithm::Es256, "single"),
        ],
    };
    let keys = VerifyingKeys::from_set(&set);
    assert!(keys.find("twin", Algorithm::Es256).is_none());
    assert!(keys.find("twin", Algorithm::EdDsa).is_some() && keys.find("single", Algorithm::Es256).is_some());
    let skipped: Vec<_> = keys.skipped().iter().map(|s| (s.index, s.reason.clone())).collect();
    assert_eq!(skipped, [(0, KeyError::DuplicateKid), (1, KeyError::DuplicateKid)]);
}

#[test]
fn a_named_key_is_found_and_no_other_is_tried() {
    let es256 = key(Algorithm::Es256);
    let keys = VerifyingKeys::from_set(&JwkSet {
        keys: Algorithm::ALL.map(|a| key(a).public_jwk().clone()).to_vec(),
    });
    assert_eq!(keys.keys().len(), 3);
    for algorithm in Algorithm::ALL {
        let token = key(algorithm).sign("JWT", b"{}", &random()).unwrap();
        assert_eq!(keys.verify(&Jws::parse(&token).unwrap()), Ok(&b"{}"[..]));
    }
    let stranger = SigningKey::generate(Algorithm::EdDsa, &random()).unwrap();
    let token = stranger.sign("JWT", b"{}", &random()).unwrap();
    let expected = JwsError::UnknownKey(format!("`{}`", stranger.kid()));
    assert_eq!(keys.verify(&Jws::parse(&token).unwrap()), Err(expected));

    // The forged token names a key of another algorithm.
    let forge = Forge::new();
    let token = forge.sign(json!({"alg": "EdDSA", "kid": es256.kid()}).to_string(), "{}");
    let expected = JwsError::AlgorithmMismatch { token: Algorithm::EdDsa, key: Algorithm::Es256 };
    assert_eq!(keys.verify(&Jws::parse(&token).unwrap()), Err(expected));
}

#[test]
fn a_token_without_a_name_is_tried_with_a_few_keys_of_its_algorithm() {
    let forge = Forge::new();
    let token = forge.sign(r#"{"alg":"EdDSA"}"#, "{}");
    let jws = Jws::parse(&token).unwrap();
    let stranger = || SigningKey::generate(Algorithm::EdDsa, &random()).unwrap().public_jwk().clone();
    let mut set = JwkSet { keys: vec![key(Algorithm::Es256).public_jwk().clone()] };
    assert_eq!(VerifyingKeys::from_set(&set).verify(&jws), Err(JwsError::NoCandidate(Algorithm::EdDsa)));
    set.keys.extend((1..MAX_CANDIDATES).map(|_| stranger()));
    assert_eq!(VerifyingKeys::from_set(&set).verify(&jws), Err(JwsError::BadSignature));
    set.keys.push(jwk(&forge.jwk(json!({"kid": "named all the same"}))));
    assert_eq!(VerifyingKeys::from_set(&set).verify(&jws), Ok(&b"{}"[..]));
    set.keys.push(stranger());
    let found = MAX_CANDIDATES + 1;
    assert_eq!(VerifyingKeys::from_set(&set).verify(&jws), Err(JwsError::TooManyCandidates { found }));
}
