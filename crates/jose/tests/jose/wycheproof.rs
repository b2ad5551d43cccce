//! Every JWS and JWK case of Wycheproof.

use crate::support::{read_json, vectors};
use reseal_jose::{Algorithm, AlgorithmError, Base64Error, Jws, JwsError, KeyError, Part, VerifyingKeys};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;

/// Cases that Wycheproof calls valid and that are refused on purpose.
struct Refused {
    cases: &'static [RangeInclusive<u64>],
    reason: &'static str,
    error: fn(&JwsError) -> bool,
}

const REFUSED_JWS: &[Refused] = &[
    Refused {
        cases: &[1..=1, 348..=348, 352..=352, 357..=359, 373..=373, 376..=377],
        reason: "HS256: whoever can verify a MAC can forge it",
        error: is_symmetric,
    },
    Refused {
        cases: &[372..=372],
        reason: "HS256 with a `?` in its base64url, which RFC 7515 §2 does not allow whatever the case says",
        error: |error| {
            matches!(error, JwsError::Base64 { part: Part::Header, fault: Base64Error::Character(_) })
        },
    },
    Refused {
        cases: &[264..=267, 268..=271],
        reason: "RS384 and RS512 add nothing to RS256 that a token needs",
        error: is_unsupported,
    },
    Refused {
        cases: &[272..=275, 287..=288, 320..=323, 325..=328, 346..=346, 350..=350],
        reason: "PS256, PS384 and PS512: ES256 and EdDSA are there for those who may choose",
        error: is_unsupported,
    },
    Refused {
        cases: &[347..=347, 351..=351],
        reason: "ES512 with a key whose `alg` is the misspelt ES521",
        error: is_unsupported,
    },
];

const REFUSED_JWK: &[Refused] = &[Refused {
    cases: &[2..=2, 13..=15],
    reason: "HS256, HS384 and HS512: whoever can verify a MAC can forge it",
    error: is_symmetric,
}];

fn is_symmetric(error: &JwsError) -> bool {
    matches!(error, JwsError::Algorithm(AlgorithmError::Symmetric(_)))
}

fn is_unsupported(error: &JwsError) -> bool {
    matches!(error, JwsError::Algorithm(AlgorithmError::Unsupported(_)))
}

#[test]
fn every_jws_case_comes_out_as_it_should() {
    let Some(folder) = vectors("wycheproof") else { return };
    let verified = run(&folder.join("json_web_signature_test.json"), REFUSED_JWS, 401);
    // ES256: 18, 378. RS256: 33, 259 to 263, 345, 349.
    assert_eq!(verified, BTreeSet::from([18, 33, 259, 260, 261, 262, 263, 345, 349, 378]));
}

#[test]
fn every_jwk_case_comes_out_as_it_should() {
    let Some(folder) = vectors("wycheproof") else { return };
    let verified = run(&folder.join("json_web_key_test.json"), REFUSED_JWK, 26);
    assert_eq!(verified, BTreeSet::from([5]));
}

#[test]
fn unusable_keys_are_skipped_for_the_right_reason() {
    let Some(folder) = vectors("wycheproof") else { return };
    let file = read_json(&folder.join("json_web_key_test.json"));
    let mut reasons = BTreeMap::new();
    for group in file["testGroups"].as_array().unwrap() {
        let set = group.get("public").unwrap_or(&group["private"]).to_string();
        for key in VerifyingKeys::parse(set.as_bytes()).unwrap().skipped() {
            reasons.insert(group["tests"][0]["tcId"].as_u64().unwrap(), key.reason.clone());
        }
    }
    let alg = |alg: &str, supported| KeyError::OtherAlgorithm { alg: format!("`{alg}`"), supported };
    for (case, reason) in [
        (1, KeyError::Symmetric),
        (6, alg("RSA1_5", Algorithm::Rs256)),
        (7, KeyError::WeakRsaModulus),
        (8, KeyError::RsaModulusLength { bits: 1024 }),
        (9, KeyError::RsaExponent),
        (19, alg("ES521", Algorithm::Es256)),
        (20, alg("ES224", Algorithm::Es256)),
        (21, KeyError::OtherUse("`enc`".into())),
        (22, KeyError::NotOnCurve),
        (23, KeyError::UnsupportedCurve("`P-384`".into())),
        (24, KeyError::Malformed("it has no `n`".into())),
        (25, KeyError::Symmetric),
    ] {
        assert_eq!(reasons.get(&case), Some(&reason), "case {case}");
    }
}

/// Runs a file and returns the cases that verified.
fn run(file: &Path, refused: &[Refused], expected: usize) -> BTreeSet<u64> {
    let file = read_json(file);
    let (mut verified, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for group in file["testGroups"].as_array().unwrap() {
        let key = group.get("public").unwrap_or(&group["private"]);
        let set = if key.get("keys").is_some() { key.clone() } else { json!({"keys": [key]}) };
        let keys = VerifyingKeys::parse(set.to_string().as_bytes()).unwrap();
        for case in group["tests"].as_array().unwrap() {
            let id = case["tcId"].as_u64().unwrap();
            assert!(seen.insert(id), "case {id} is there twice");
            if check(case, &keys, refused) {
                verified.insert(id);
            }
        }
    }
    assert_eq!(seen.len(), expected, "the file has other cases than those this test was written for");
    for id in refused.iter().flat_map(|r| r.cases.iter().cloned().flatten()) {
        assert!(seen.contains(&id), "case {id} is listed as refused, but does not occur");
    }
    verified
}

fn check(case: &Value, keys: &VerifyingKeys, refused: &[Refused]) -> bool {
    let token = case["jws"].as_str().unwrap();
    let outcome = Jws::parse(token).and_then(|jws| keys.verify(&jws).map(<[u8]>::to_vec));
    let id = case["tcId"].as_u64().unwrap();
    let listed = refused.iter().find(|r| r.cases.iter().any(|range| range.contains(&id)));
    match (case["result"].as_str().unwrap(), outcome, listed) {
        ("invalid", Err(_), None) => false,
        ("valid", Ok(_), None) => true,
        ("valid" | "acceptable", Err(error), Some(listed)) => {
            assert!((listed.error)(&error), "case {id} ({}) is refused because {error}", listed.reason);
            false
        }
        (result, outcome, listed) => panic!(
            "case {id} ({}) is {result}, but came out as {outcome:?}; listed: {:?}",
            case["comment"],
            listed.map(|l| l.reason)
        ),
    }
}
