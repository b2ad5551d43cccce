//! With given keys: what is accepted, and what is not.

use crate::support::{AUDIENCE, NOW, builder, claims, given, key, sign, sign_text, with};
use reseal_jose::{Algorithm, JwsError};
use reseal_verify::{BuildError, OnFeedLost, Token, Verifier, VerifyError};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const ISSUER: &str = "https://auth.test";

async fn verify(verifier: &Verifier, token: &str) -> Result<Arc<Token>, VerifyError> {
    // Twice: the cache must say the same.
    let first = verifier.verify(token).await;
    let again = verifier.verify(token).await;
    assert_eq!(first.as_ref().err(), again.as_ref().err());
    first
}

#[tokio::test]
async fn a_good_token_of_each_algorithm_is_accepted_and_read() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let verifier = builder(ISSUER).0.keys(given(&[&key])).build().await.unwrap();
        let claims = with(
            ISSUER,
            json!({ "scope": "read write", "client_id": "web", "acr": "aal2", "amr": ["pwd", "sms"], "auth_time": NOW - 9,
            "renew_at": NOW + 150, "name": "Ann", "roles": ["member"] }),
        );
        let token = verify(&verifier, &sign(&key, &claims)).await.unwrap();
        assert_eq!((token.issuer(), token.subject(), token.id()), (ISSUER, "alice", Some("1")));
        assert_eq!((token.client_id(), token.acr()), (Some("web"), Some("aal2")));
        assert_eq!((token.issued_at(), token.expires_at()), (Some(NOW), NOW + 300));
        assert_eq!((token.renew_at(), token.authenticated_at()), (Some(NOW + 150), Some(NOW - 9)));
        assert!(token.has_scope("read") && token.has_scope("write") && !token.has_scope("rea"));
        assert_eq!(token.key_id(), Some(key.kid()));

        #[derive(Deserialize, Debug, PartialEq)]
        struct Mine<'a> {
            name: &'a str,
            #[serde(borrow)]
            roles: Vec<&'a str>,
        }
        assert_eq!(token.claims::<Mine<'_>>().unwrap(), Mine { name: "Ann", roles: vec!["member"] });
        assert!(!format!("{token:?}{verifier:?}").contains("Ann"));
    }
}

#[tokio::test]
async fn each_rule_refuses_what_it_should() {
    let key = key(Algorithm::Es256);
    let verifier = builder(ISSUER).0.keys(given(&[&key])).build().await.unwrap();
    for (changes, error) in [
        (json!({ "iss": "https://auth.test/" }), VerifyError::Issuer),
        (json!({ "aud": "other" }), VerifyError::Audience),
        (json!({ "aud": [] }), VerifyError::Audience),
        (json!({ "exp": NOW - 5 }), VerifyError::Expired),
        (json!({ "nbf": NOW + 6 }), VerifyError::NotYetValid),
        (json!({ "nbf": NOW as f64 + 5.5 }), VerifyError::NotYetValid),
    ] {
        let got = verify(&verifier, &sign(&key, &with(ISSUER, changes.clone()))).await;
        assert_eq!(got.err(), Some(error), "{changes}");
    }
    for changes in [
        json!({ "exp": null }),
        json!({ "sub": null }),
        json!({ "iss": null }),
        json!({ "aud": null }),
        json!({ "exp": "1" }),
        json!({ "sid": 7 }),
    ] {
        let got = verify(&verifier, &sign(&key, &with(ISSUER, changes.clone()))).await;
        assert!(matches!(got, Err(VerifyError::Claims(_))), "{changes}");
    }
    for changes in [
        json!({ "exp": NOW - 4 }),
        json!({ "exp": NOW as f64 - 3.5 }),
        json!({ "nbf": NOW + 5 }),
        json!({ "nbf": NOW as f64 + 4.5 }),
        json!({ "aud": AUDIENCE }),
        json!({ "exp": u64::MAX }),
    ] {
        let got = verify(&verifier, &sign(&key, &with(ISSUER, changes.clone()))).await;
        assert_eq!(got.err(), None, "{changes}");
    }
}

#[tokio::test]
async fn a_cached_token_dies_at_the_same_second() {
    let key = key(Algorithm::EdDsa);
    let (builder, clock) = builder(ISSUER);
    let verifier = builder.leeway(Duration::from_secs(10)).keys(given(&[&key])).build().await.unwrap();
    let token = sign(&key, &claims(ISSUER));
    clock.set(NOW + 309);
    assert!(verifier.verify(&token).await.is_ok());
    clock.set(NOW + 310);
    assert_eq!(verifier.verify(&token).await.err(), Some(VerifyError::Expired));
    clock.set(NOW);
    assert!(verifier.verify(&token).await.is_ok());
}

#[tokio::test]
async fn the_type_and_the_algorithm_are_checked_before_the_signature() {
    let (ours, other) = (key(Algorithm::Es256), key(Algorithm::Rs256));
    let keys = given(&[&ours, &other]);
    let verifier = builder(ISSUER).0.algorithms([Algorithm::Es256]).keys(keys.clone()).build().await.unwrap();
    let got = verify(&verifier, &sign(&other, &claims(ISSUER))).await;
    assert_eq!(got.err(), Some(VerifyError::Algorithm(Algorithm::Rs256)));
    let typed =
        |typ: &str| ours.sign(typ, claims(ISSUER).to_string().as_bytes(), &crate::support::random()).unwrap();
    assert_eq!(verify(&verifier, &typed("JWT")).await.err(), Some(VerifyError::Type));
    assert!(verify(&verifier, &typed("Application/AT+JWT")).await.is_ok());
    let jwt = builder(ISSUER).0.types(["application/JWT"]).keys(keys.clone()).build().await.unwrap();
    assert!(verify(&jwt, &typed("jwt")).await.is_ok());
    assert_eq!(verify(&jwt, &typed("at+jwt")).await.err(), Some(VerifyError::Type));
    let any = builder(ISSUER).0.any_type().keys(keys).build().await.unwrap();
    assert!(verify(&any, &typed("anything")).await.is_ok());
}

#[tokio::test]
async fn duplicates_depth_and_length_are_refused_without_a_panic() {
    let key = key(Algorithm::EdDsa);
    let verifier = builder(ISSUER).0.keys(given(&[&key])).build().await.unwrap();
    let good = claims(ISSUER).to_string();
    let twice = format!("{},\"sub\":\"bob\"}}", good.trim_end_matches('}'));
    assert!(matches!(verify(&verifier, &sign_text(&key, &twice)).await, Err(VerifyError::Claims(_))));
    let deep = format!("{},\"x\":{}{}}}", good.trim_end_matches('}'), "[".repeat(5000), "]".repeat(5000));
    // It may be read or not, but the claims of a type of ours come out or an error does.
    if let Ok(token) = verify(&verifier, &sign_text(&key, &deep)).await {
        assert!(token.claims::<serde_json::Value>().is_err());
    }
    for bad in ["", "null", "[]", "\"x\"", "{", "\u{feff}{}"] {
        assert!(
            matches!(verify(&verifier, &sign_text(&key, bad)).await, Err(VerifyError::Claims(_))),
            "{bad}"
        );
    }
    let not_utf8 = key.sign("at+jwt", b"{\"x\":\"\xff\"}", &crate::support::random()).unwrap();
    assert!(matches!(verify(&verifier, &not_utf8).await, Err(VerifyError::Claims(_))));
    let long = "a".repeat(1 << 20);
    assert!(matches!(verify(&verifier, &long).await, Err(VerifyError::Jws(JwsError::TooLong { .. }))));
}

#[tokio::test]
async fn forgeries_never_push_a_good_token_out_of_the_cache() {
    let (good, forger) = (key(Algorithm::EdDsa), key(Algorithm::EdDsa));
    let verifier = builder(ISSUER).0.cache(1).keys(given(&[&good])).build().await.unwrap();
    let token = sign(&good, &claims(ISSUER));
    let held = verifier.verify(&token).await.unwrap();
    for n in 0..50 {
        let forged = sign(&forger, &with(ISSUER, json!({ "jti": n.to_string() })));
        assert!(verifier.verify(&forged).await.is_err());
        let expired = sign(&good, &with(ISSUER, json!({ "jti": "x", "exp": NOW - n - 100 })));
        assert_eq!(verifier.verify(&expired).await.err(), Some(VerifyError::Expired));
    }
    assert!(Arc::ptr_eq(&held, &verifier.verify(&token).await.unwrap()), "the very one that was kept");
    verifier.verify(&sign(&good, &with(ISSUER, json!({ "jti": "2" })))).await.unwrap();
    assert!(!Arc::ptr_eq(&held, &verifier.verify(&token).await.unwrap()), "one place, two good tokens");
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused() {
    let keys = given(&[&key(Algorithm::EdDsa)]);
    let refused = |builder: reseal_verify::Builder| async { builder.build().await.unwrap_err() };
    let good = || Verifier::builder(ISSUER).audience(AUDIENCE).keys(keys.clone());
    assert_eq!(refused(Verifier::builder(ISSUER).keys(keys.clone())).await, BuildError::Audience);
    assert_eq!(refused(good().audience("")).await, BuildError::Audience);
    assert_eq!(refused(good().algorithms([])).await, BuildError::Algorithms);
    assert_eq!(refused(good().types::<&str>([])).await, BuildError::Types);
    assert_eq!(refused(good().types([""])).await, BuildError::Types);
    assert!(matches!(refused(good().leeway(Duration::from_secs(61))).await, BuildError::Leeway(_)));
    assert!(matches!(refused(good().leeway(Duration::from_millis(1500))).await, BuildError::Leeway(_)));
    assert_eq!(refused(good().feed(OnFeedLost::Refuse)).await, BuildError::FeedWithoutClient);
    assert_eq!(refused(good().keys(given(&[]))).await, BuildError::NoKeys);
    for issuer in [
        "",
        "orders",
        "http://auth.test",
        "https://auth.test?x",
        "https://auth.test#x",
        "ftp://auth.test",
        "https://a:b@c.test",
    ] {
        let error = refused(Verifier::builder(issuer).audience(AUDIENCE)).await;
        assert!(matches!(error, BuildError::Issuer(_)), "{issuer}");
    }
    let odd = Verifier::builder("any text").audience(AUDIENCE).keys(keys.clone()).build().await;
    assert!(odd.is_ok(), "nothing is fetched from it");
    let hidden = format!("{:?}", good().client("me", "hunter2"));
    assert!(!hidden.contains("hunter2"), "{hidden}");
}
