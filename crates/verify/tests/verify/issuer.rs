//! Metadata and keys from an issuer that does what the test wants.

use crate::support::{AUDIENCE, Issuer, NOW, builder, claims, eventually, key, set, sign, with};
use reseal_core::Timestamp;
use reseal_core::event::{Event, EventKind, LoggedEvent};
use reseal_jose::{Algorithm, JwsError};
use reseal_verify::{Unavailable, Verifier, VerifyError};
use serde_json::json;
use std::time::Duration;

const KEYS_AWAY: Option<VerifyError> = Some(VerifyError::Unavailable(Unavailable::Keys));

async fn verifier(issuer: &Issuer) -> Verifier {
    builder(issuer.url()).0.build().await.unwrap()
}

/// A verifier that asks for every unknown key.
async fn eager(issuer: &Issuer) -> Verifier {
    builder(issuer.url()).0.key_cooldown(Duration::ZERO).build().await.unwrap()
}

fn is_unknown(error: Option<VerifyError>) -> bool {
    matches!(error, Some(VerifyError::Jws(JwsError::UnknownKey(_))))
}

fn withdrawal(kid: &str) -> LoggedEvent {
    let kind = EventKind::KeysChanged { withdrawn: vec![kid.to_owned()] };
    LoggedEvent { seq: 1, event: Event { kind, until: Timestamp::from_secs(NOW + 420) } }
}

#[tokio::test]
async fn keys_are_found_by_the_metadata_wherever_it_is() {
    let key = key(Algorithm::Es256);
    for (path, at) in [
        ("", "/.well-known/oauth-authorization-server"),
        ("", "/.well-known/openid-configuration"),
        ("/tenant/a", "/.well-known/oauth-authorization-server/tenant/a"),
        ("/tenant/a", "/tenant/a/.well-known/openid-configuration"),
        ("/tenant/a", "/tenant/a/.well-known/oauth-authorization-server"),
    ] {
        let issuer = Issuer::start_at(path, &[&key]).await;
        issuer.change(|answers| answers.metadata_path = at.to_owned());
        let verifier = verifier(&issuer).await;
        let got = verifier.verify(&sign(&key, &claims(issuer.url()))).await;
        assert_eq!(got.err(), None, "{path} {at}");
        assert_eq!(issuer.key_calls(), 1);
    }
}

#[tokio::test]
async fn metadata_of_somebody_else_or_to_somewhere_else_is_refused() {
    let key = key(Algorithm::Es256);
    let elsewhere = Issuer::start(&[&key]).await;
    let bad = [
        json!({ "issuer": "https://auth.test", "jwks_uri": format!("{}/keys", elsewhere.url()) }),
        json!({ "jwks_uri": format!("{}/keys", elsewhere.url()) }),
        json!({ "issuer": "ISSUER" }),
        json!({ "issuer": "ISSUER", "jwks_uri": "http://keys.test/keys" }),
        json!({ "issuer": "ISSUER", "jwks_uri": "file:///etc/passwd" }),
        json!({ "issuer": "ISSUER", "jwks_uri": "not a url" }),
        json!(["ISSUER"]),
    ];
    for metadata in bad {
        let issuer = Issuer::start(&[&key]).await;
        let text = metadata.to_string().replace("ISSUER", issuer.url());
        issuer.change(|answers| answers.metadata = serde_json::from_str(&text).unwrap());
        let verifier = verifier(&issuer).await;
        assert_eq!(verifier.verify(&sign(&key, &claims(issuer.url()))).await.err(), KEYS_AWAY, "{text}");
    }
    assert_eq!(elsewhere.key_calls(), 0);
}

#[tokio::test]
async fn a_verifier_that_starts_before_its_authority_mends_itself() {
    let key = key(Algorithm::Es256);
    let issuer = Issuer::start(&[&key]).await;
    issuer.change(|answers| answers.keys.0 = 503);
    let verifier = verifier(&issuer).await;
    let token = sign(&key, &claims(issuer.url()));
    assert_eq!(verifier.verify(&token).await.err(), KEYS_AWAY);
    issuer.publish(&[&key]);
    eventually("keys", async || verifier.verify(&token).await.is_ok()).await;
}

#[tokio::test]
async fn nobody_there_at_all_is_no_reason_not_to_start() {
    let key = key(Algorithm::Es256);
    // Bound, and nobody listens to what comes.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let verifier = builder(&url).0.build().await.unwrap();
    assert_eq!(verifier.verify(&sign(&key, &claims(&url))).await.err(), KEYS_AWAY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tokens_of_a_new_key_cost_one_fetch() {
    let (old, new) = (key(Algorithm::EdDsa), key(Algorithm::EdDsa));
    let issuer = Issuer::start(&[&old]).await;
    let verifier = verifier(&issuer).await;
    assert_eq!(issuer.key_calls(), 1);
    issuer.publish(&[&old, &new]);
    issuer.change(|answers| answers.gated = true);
    let tasks: Vec<_> = (0..1000)
        .map(|n| {
            let (verifier, token) =
                (verifier.clone(), sign(&new, &with(issuer.url(), json!({ "jti": n.to_string() }))));
            tokio::spawn(async move { verifier.verify(&token).await })
        })
        .collect();
    eventually("a fetch", async || issuer.key_calls() == 2).await;
    issuer.let_through();
    for task in tasks {
        assert_eq!(task.await.unwrap().err(), None);
    }
    assert_eq!((issuer.key_calls(), issuer.metadata_calls()), (2, 1));
}

#[tokio::test]
async fn a_flood_of_made_up_keys_costs_one_fetch_and_hurts_nobody() {
    let (good, forger) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let issuer = Issuer::start(&[&good]).await;
    let verifier = builder(issuer.url()).0.key_cooldown(Duration::from_secs(3600)).build().await.unwrap();
    let honest = sign(&good, &claims(issuer.url()));
    let (_, rest) = sign(&forger, &claims(issuer.url()))
        .split_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    for n in 0..500 {
        use base64::Engine as _;
        let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": format!("made up {n}") }).to_string();
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
        assert!(is_unknown(verifier.verify(&format!("{header}.{rest}")).await.err()));
    }
    assert!(verifier.verify(&honest).await.is_ok());
    assert_eq!(issuer.key_calls(), 2);
}

#[tokio::test]
async fn a_name_that_a_fresh_set_did_not_have_is_not_asked_for_again() {
    let (good, forger) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let issuer = Issuer::start(&[&good]).await;
    let verifier = eager(&issuer).await;
    for _ in 0..20 {
        assert!(is_unknown(verifier.verify(&sign(&forger, &claims(issuer.url()))).await.err()));
    }
    assert_eq!(issuer.key_calls(), 2);
}

#[tokio::test]
async fn old_keys_go_on_while_the_authority_is_away_and_an_unknown_one_cannot_be_judged() {
    let (good, new) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let issuer = Issuer::start(&[&good]).await;
    let verifier = eager(&issuer).await;
    for broken in [
        (503, String::new()),
        (200, "not JSON".to_owned()),
        (200, r#"{"keys":[]}"#.to_owned()),
        (200, format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(70_000))),
        (302, serde_json::to_string(&set(&[&new])).unwrap()),
    ] {
        issuer.change(|answers| answers.keys = broken.clone());
        assert_eq!(
            verifier.verify(&sign(&new, &claims(issuer.url()))).await.err(),
            KEYS_AWAY,
            "{}",
            broken.0
        );
        assert!(
            verifier
                .verify(&sign(&good, &with(issuer.url(), json!({ "jti": broken.0.to_string() }))))
                .await
                .is_ok()
        );
    }
    issuer.publish(&[&good, &new]);
    let token = sign(&new, &claims(issuer.url()));
    eventually("the new key", async || verifier.verify(&token).await.is_ok()).await;
}

#[tokio::test]
async fn a_key_that_left_the_set_takes_its_cached_tokens_along() {
    let (old, new) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let issuer = Issuer::start(&[&old]).await;
    let verifier = eager(&issuer).await;
    let (of_old, of_new) = (sign(&old, &claims(issuer.url())), sign(&new, &claims(issuer.url())));
    assert!(verifier.verify(&of_old).await.is_ok());
    issuer.publish(&[&old, &new]);
    assert!(verifier.verify(&of_new).await.is_ok());
    assert!(verifier.verify(&of_old).await.is_ok(), "its key is still there");
    let third = key(Algorithm::Es256);
    issuer.publish(&[&new, &third]);
    assert!(verifier.verify(&sign(&third, &claims(issuer.url()))).await.is_ok());
    assert!(is_unknown(verifier.verify(&of_old).await.err()));
    assert!(verifier.verify(&of_new).await.is_ok());
}

#[tokio::test]
async fn a_withdrawn_key_is_dead_at_once_and_stays_so() {
    let (leaked, other) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let issuer = Issuer::start(&[&leaked, &other]).await;
    let verifier = verifier(&issuer).await;
    let (bad, good) = (sign(&leaked, &claims(issuer.url())), sign(&other, &claims(issuer.url())));
    assert!(verifier.verify(&bad).await.is_ok() && verifier.verify(&good).await.is_ok());

    verifier.freshness().apply(&withdrawal(leaked.kid()));
    assert_eq!(verifier.verify(&bad).await.err(), Some(VerifyError::KeyWithdrawn));
    assert!(verifier.verify(&good).await.is_ok());
    eventually("a fetch", async || issuer.key_calls() == 2).await;

    // The event has left the maps, and a cache on the way still shows the key: it stays withdrawn.
    for _ in 0..200 {
        verifier.freshness().prune(NOW + 10_000);
    }
    assert!(!verifier.freshness().is_withdrawn(leaked.kid()));
    assert_eq!(verifier.verify(&bad).await.err(), Some(VerifyError::KeyWithdrawn));
    let fresh = sign(&leaked, &with(issuer.url(), json!({ "jti": "2" })));
    assert_eq!(verifier.verify(&fresh).await.err(), Some(VerifyError::KeyWithdrawn));
    assert!(verifier.verify(&good).await.is_ok());
}

#[tokio::test]
async fn two_issuers_never_mix() {
    let (one_key, two_key) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let (one, two) = (Issuer::start(&[&one_key]).await, Issuer::start(&[&two_key]).await);
    let (for_one, for_two) = (verifier(&one).await, verifier(&two).await);
    let (of_one, of_two) = (sign(&one_key, &claims(one.url())), sign(&two_key, &claims(two.url())));
    assert!(for_one.verify(&of_one).await.is_ok() && for_two.verify(&of_two).await.is_ok());
    assert!(for_one.verify(&of_two).await.is_err() && for_two.verify(&of_one).await.is_err());
    // The second issuer claims to be the first.
    assert!(for_one.verify(&sign(&two_key, &claims(one.url()))).await.is_err());
    assert_eq!(for_two.verify(&sign(&two_key, &claims(one.url()))).await.err(), Some(VerifyError::Issuer));
}

#[tokio::test]
async fn a_token_without_a_kid_is_tried_with_the_keys_of_its_algorithm() {
    use base64::Engine as _;
    let (key, other) = (key(Algorithm::Es256), key(Algorithm::EdDsa));
    let issuer = Issuer::start(&[&key, &other]).await;
    let verifier = verifier(&issuer).await;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","typ":"at+jwt"}"#);
    let signed = sign(&key, &claims(issuer.url()));
    let forged = format!("{header}.{}", signed.split_once('.').unwrap().1);
    assert_eq!(verifier.verify(&forged).await.err(), Some(VerifyError::Jws(JwsError::BadSignature)));
    let rs = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"at+jwt"}"#);
    let none = format!("{rs}.{}", signed.split_once('.').unwrap().1);
    assert!(matches!(verifier.verify(&none).await.err(), Some(VerifyError::Jws(JwsError::NoCandidate(_)))));
}

#[tokio::test]
async fn the_last_verifier_takes_its_task_along() {
    let key = key(Algorithm::Es256);
    let issuer = Issuer::start(&[&key]).await;
    let (first, second) = (verifier(&issuer).await, Verifier::builder(issuer.url()).audience(AUDIENCE));
    let token = sign(&key, &claims(issuer.url()));
    let clone = first.clone();
    drop(first);
    assert!(clone.verify(&token).await.is_ok());
    let changed = clone.freshness().keys_changed();
    drop(clone);
    // The task held the maps; with it gone, nobody can send any more.
    eventually("the end of the task", async || changed.has_changed().is_err()).await;
    drop(second);
}
