//! Against the real authority, in this process: metadata, rotation, withdrawal, introspection.

#[path = "../../../server/tests/support/mod.rs"]
mod support;

use crate::support::eventually;
use axum::Extension;
use http::StatusCode;
use reseal_core::client::SecretHash;
use reseal_core::user::UserPatch;
use reseal_server::http::caller::Peer;
use reseal_verify::{Builder, Clock, OnFeedLost, Unavailable, Verifier, VerifyError};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::{Answer, Credential, SERVICE, SERVICE_SECRET, TestAuthority};

/// The authority on a port, and how often it was asked to introspect.
struct Served {
    authority: TestAuthority,
    url: String,
    introspections: Arc<AtomicUsize>,
    away: Arc<AtomicBool>,
    /// The feed takes no new readers.
    feed_away: Arc<AtomicBool>,
    /// Introspections wait for it.
    held: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct AuthoritysClock(reseal_server::clock::Clock);

impl Clock for AuthoritysClock {
    fn now(&self) -> i64 {
        self.0.now().secs()
    }
}

impl Served {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let authority = TestAuthority::with(|config| config.issuer = Some(url.clone())).await;
        let (introspections, away) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let feed_away = Arc::new(AtomicBool::new(false));
        let no_feed = Arc::clone(&feed_away);
        let held = Arc::new(tokio::sync::Mutex::new(()));
        let (count, is_away, gate) = (Arc::clone(&introspections), Arc::clone(&away), Arc::clone(&held));
        let router = reseal_server::router::router(&authority.app)
            .layer(axum::middleware::from_fn(
                move |request: axum::extract::Request, next: axum::middleware::Next| {
                    let asks = request.uri().path() == "/oauth/introspect";
                    if asks {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    let (gone, gate) = (is_away.load(Ordering::SeqCst), Arc::clone(&gate));
                    let gone = gone || (no_feed.load(Ordering::SeqCst) && request.uri().path() == "/v1/feed");
                    async move {
                        if asks {
                            drop(gate.lock().await);
                        }
                        if gone {
                            return axum::response::IntoResponse::into_response(
                                StatusCode::SERVICE_UNAVAILABLE,
                            );
                        }
                        next.run(request).await
                    }
                },
            ))
            .layer(Extension(Peer(IpAddr::from([127, 0, 0, 1]))));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { authority, url, introspections, away, feed_away, held }
    }

    fn builder(&self) -> Builder {
        let clock = Arc::new(AuthoritysClock(self.authority.app.clock.clone()));
        // The issuer is in every audience.
        Verifier::builder(&self.url).audience(&self.url).clock(clock).client(SERVICE, SERVICE_SECRET)
    }

    async fn admin(&self) -> Credential {
        let pairs = [
            ("grant_type", "client_credentials"),
            ("client_id", SERVICE),
            ("client_secret", SERVICE_SECRET),
            ("scope", "reseal:admin"),
        ];
        self.authority.form("/oauth/token", &pairs).await.credential()
    }

    async fn keys(&self) -> Vec<Value> {
        let answer = self.authority.get("/v1/admin/keys", &self.admin().await).await;
        answer.body["items"].as_array().unwrap().clone()
    }
}

fn access_token(answer: &Answer) -> String {
    answer.body["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn its_tokens_are_verified_by_its_metadata_and_keys() {
    let served = Served::start().await;
    let alice = served.authority.user("alice").await;
    let verifier = served.builder().build().await.unwrap();
    let login = served.authority.login("sliding", "alice").await;
    let token = verifier.verify(&access_token(&login)).await.unwrap();
    assert_eq!((token.subject(), token.client_id()), (alice.to_string().as_str(), Some("sliding")));
    assert_eq!(token.session_id(), login.body["session"]["id"].as_str());
    assert!(token.revision().is_some() && token.renew_at().is_some());

    served.authority.advance(1200 + 4);
    assert!(verifier.verify(&access_token(&login)).await.is_ok(), "five seconds of leeway");
    served.authority.advance(1);
    assert_eq!(verifier.verify(&access_token(&login)).await.err(), Some(VerifyError::Expired));
}

#[tokio::test]
async fn its_keys_rotate_without_anybody_noticing() {
    let served = Served::start().await;
    served.authority.user("alice").await;
    let verifier = served.builder().build().await.unwrap();
    let old = access_token(&served.authority.login("fixed", "alice").await);
    let old_kid = verifier.verify(&old).await.unwrap().key_id().unwrap().to_owned();
    served
        .authority
        .post("/v1/admin/keys/rotate", &served.admin().await, Value::Null)
        .await
        .expect(StatusCode::OK);
    // It signs once no verifier can hold a set without it.
    let mut kid = old_kid.clone();
    for _ in 0..48 {
        served.authority.advance(3600);
        let new = access_token(&served.authority.login("fixed", "alice").await);
        kid = verifier.verify(&new).await.unwrap().key_id().unwrap().to_owned();
        if kid != old_kid {
            break;
        }
    }
    assert_ne!(kid, old_kid);
    assert!(verifier.verify(&old).await.is_ok(), "the old key is published until its last token is dead");
}

#[tokio::test]
async fn a_withdrawn_key_is_found_out_by_the_events_of_the_log() {
    let served = Served::start().await;
    served.authority.user("alice").await;
    let verifier = served.builder().build().await.unwrap();
    let old = access_token(&served.authority.login("sliding", "alice").await);
    let kid = verifier.verify(&old).await.unwrap().key_id().unwrap().to_owned();
    let path = format!("/v1/admin/keys/{kid}/withdraw");
    served.authority.post(&path, &served.admin().await, Value::Null).await.expect(StatusCode::OK);
    for event in served.authority.app.store.events_after(0, 1000).await.unwrap() {
        verifier.freshness().apply(&event);
    }
    assert_eq!(verifier.verify(&old).await.err(), Some(VerifyError::KeyWithdrawn));
    let new = access_token(&served.authority.login("sliding", "alice").await);
    eventually("the key that signs now", async || verifier.verify(&new).await.is_ok()).await;
    assert!(served.keys().await.iter().any(|key| key["kid"] == kid.as_str() && key["state"] == "withdrawn"));
}

#[tokio::test]
async fn introspection_sees_this_very_moment() {
    let served = Served::start().await;
    let alice = served.authority.user("alice").await;
    let verifier = served.builder().build().await.unwrap();
    let login = served.authority.login("sliding", "alice").await;
    let token = access_token(&login);
    assert!(!verifier.check_with_authority(&token).await.unwrap().stale);

    let patch = UserPatch { roles: Some(vec![]), ..UserPatch::default() };
    served.authority.patch_user(alice, patch).await;
    assert!(verifier.check_with_authority(&token).await.unwrap().stale, "`current_rev` has grown");
    assert!(!verifier.check(&token).await.unwrap().stale, "what a local check cannot see");

    served.authority.delete("/v1/session", &login.credential()).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(verifier.check_with_authority(&token).await.err(), Some(VerifyError::Inactive));
    served.away.store(true, Ordering::SeqCst);
    let away = Some(VerifyError::Unavailable(Unavailable::Introspection));
    assert_eq!(verifier.check_with_authority(&token).await.err(), away);
    assert!(served.introspections.load(Ordering::SeqCst) >= 4);
}

#[tokio::test]
async fn the_askers_secret_may_have_any_character_and_a_wrong_one_is_no_verdict() {
    let served = Served::start().await;
    served.authority.user("alice").await;
    let secret = "a b:c%&+=/é~ and enough of it";
    let mut client =
        (*served.authority.app.client(&SERVICE.parse().unwrap()).await.unwrap().unwrap()).clone();
    client.id = "asker.1".parse().unwrap();
    client.secret_hash = Some(SecretHash::of(secret));
    client.introspect = true;
    let write = reseal_store::Write::CreateClient(Box::new(client));
    served.authority.app.store.commit(reseal_store::Commit::of([write])).await.unwrap();
    let token = access_token(&served.authority.login("sliding", "alice").await);
    let asking = async |secret: &str| {
        let verifier = served.builder().client("asker.1", secret).build().await.unwrap();
        verifier.check_with_authority(&token).await
    };
    assert_eq!(asking(secret).await.err(), None);
    let wrong = Some(VerifyError::Unavailable(Unavailable::Introspection));
    assert_eq!(asking("another").await.err(), wrong, "never the token's fault");
}

#[tokio::test]
async fn tokens_for_others_are_inactive_to_an_asker_with_an_audience() {
    let served = Served::start().await;
    served.authority.user("alice").await;
    let token = access_token(&served.authority.login("sliding", "alice").await);
    let mut client =
        (*served.authority.app.client(&SERVICE.parse().unwrap()).await.unwrap().unwrap()).clone();
    client.id = "stock".parse().unwrap();
    client.secret_hash = Some(SecretHash::of("the secret of stock"));
    (client.introspect, client.audience) = (true, vec!["https://stock.test".to_owned()]);
    let write = reseal_store::Write::CreateClient(Box::new(client));
    served.authority.app.store.commit(reseal_store::Commit::of([write])).await.unwrap();
    let verifier = served.builder().client("stock", "the secret of stock").build().await.unwrap();
    // Its own check accepts what it was told to accept; the authority knows whom the token is for.
    assert!(verifier.verify(&token).await.is_ok());
    assert_eq!(verifier.check_with_authority(&token).await.err(), Some(VerifyError::Inactive));
}

#[tokio::test]
async fn while_the_feed_is_lost_the_authority_is_asked_once_per_token() {
    let served = Served::start().await;
    served.authority.user("alice").await;
    let verifier = served.builder().feed(OnFeedLost::Introspect).build().await.unwrap();
    eventually("a feed", async || verifier.freshness().is_caught_up()).await;
    let login = served.authority.login("sliding", "alice").await;
    let token = access_token(&login);
    assert!(verifier.verify(&token).await.is_ok());
    assert_eq!(served.introspections.load(Ordering::SeqCst), 0, "the feed is there");

    served.feed_away.store(true, Ordering::SeqCst);
    verifier.freshness().lose();
    let hold = served.held.lock().await;
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), token.clone());
            tokio::spawn(async move { verifier.verify(&token).await })
        })
        .collect();
    eventually("a question", async || served.introspections.load(Ordering::SeqCst) > 0).await;
    drop(hold);
    for task in tasks {
        assert_eq!(task.await.unwrap().err(), None);
    }
    assert_eq!(served.introspections.load(Ordering::SeqCst), 1);

    let other = access_token(&served.authority.login("sliding", "alice").await);
    served.away.store(true, Ordering::SeqCst);
    let away = Some(VerifyError::Unavailable(Unavailable::Introspection));
    assert_eq!(verifier.verify(&other).await.err(), away, "never a verdict without an answer");
}

#[tokio::test]
async fn a_verifier_that_starts_knows_what_ended_before_it_came() {
    let served = Served::start().await;
    served.authority.user("alice").await;
    let login = served.authority.login("sliding", "alice").await;
    served.authority.delete("/v1/session", &login.credential()).await.expect(StatusCode::NO_CONTENT);
    let (_running, stop) = tokio::sync::watch::channel(false);
    tokio::spawn(reseal_server::feed::log::follow(served.authority.app.clone(), stop));
    for when_lost in [OnFeedLost::Accept, OnFeedLost::Refuse].into_iter().cycle().take(10) {
        let verifier = served.builder().feed(when_lost).build().await.unwrap();
        let got = verifier.verify(&access_token(&login)).await;
        assert!(matches!(got, Err(VerifyError::SessionEnded(_))), "{when_lost:?}: {got:?}");
    }
    // An authority that is away is not waited for.
    served.feed_away.store(true, Ordering::SeqCst);
    let verifier = served.builder().feed(OnFeedLost::Refuse).build().await.unwrap();
    let lost = Some(VerifyError::Unavailable(Unavailable::Feed));
    assert_eq!(verifier.verify(&access_token(&login)).await.err(), lost);
}
