//! A verifier that follows the feed of the real authority: it learns of every change, over crashes too.

use crate::server::{Ask as _, Server, claims, rounds};
use reseal_core::event::EndReason;
use reseal_jose::JwsError;
use reseal_store::sqlite::{Access, SqliteOptions, SqliteStore};
use reseal_store::{Commit, FEED_EPOCH, Store as _, Write};
use reseal_verify::{OnFeedLost, Unavailable, Verifier, VerifyError};
use serde_json::json;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

#[path = "../../../../bench/src/soak.rs"]
mod soak;

const PATIENCE: Duration = Duration::from_secs(120);

/// A verifier and what it runs on; the calls of the tests block.
struct Resource {
    runtime: Runtime,
    verifier: Verifier,
}

impl Resource {
    /// Follows the feed; has caught up.
    fn of(server: &Server, when_lost: OnFeedLost) -> Self {
        let resource = Self::begin(server, when_lost);
        resource.eventually("it has caught up", || resource.verifier.freshness().is_caught_up());
        resource
    }

    fn begin(server: &Server, when_lost: OnFeedLost) -> Self {
        let service = &server.dev["clients"]["service"];
        let (id, secret) =
            (service["client_id"].as_str().unwrap(), service["client_secret"].as_str().unwrap());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // The issuer is in every audience.
        let builder = Verifier::builder(&server.url).audience(&server.url).client(id, secret).feed(when_lost);
        let verifier = runtime.block_on(builder.build()).unwrap();
        Self { runtime, verifier }
    }

    fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < PATIENCE, "never: {what}; {}", self.verifier.health());
            self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(2)).await });
        }
    }

    /// What becomes of the token; a stale one is refused.
    fn verify(&self, token: &str) -> Result<(), VerifyError> {
        self.runtime.block_on(self.verifier.verify(token)).map(drop)
    }

    /// Waits until the token is refused for that.
    fn refuses(&self, token: &str, why: &VerifyError) {
        let began = Instant::now();
        loop {
            let seen = self.verify(token);
            if seen.as_ref() == Err(why) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{seen:?} instead of {why:?}; {}", self.verifier.health());
            self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(2)).await });
        }
    }

    fn starts(&self) -> u64 {
        self.verifier.health().feed.unwrap().starts
    }
}

fn ended(reason: EndReason) -> VerifyError {
    VerifyError::SessionEnded(reason)
}

#[test]
fn every_kind_of_change_is_seen() {
    let server = Server::start();
    let admin = server.service_token("reseal:admin");
    let patch = |path: String, body| {
        let reply = server.patch(&path).bearer_auth(&admin).json(&body).reply();
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    let resource = Resource::of(&server, OnFeedLost::Refuse);
    let token = || server.login("sliding").text("access_token");
    let (signed_out, stays) = (token(), token());
    assert_eq!((resource.verify(&signed_out), resource.verify(&stays)), (Ok(()), Ok(())));

    assert_eq!(server.delete("/v1/session").bearer_auth(&signed_out).reply().status, 204);
    resource.refuses(&signed_out, &ended(EndReason::SignedOut));
    assert_eq!(resource.verify(&stays), Ok(()));

    let user = claims(&stays)["sub"].as_str().unwrap().to_owned();
    patch(format!("/v1/admin/users/{user}"), json!({ "roles": ["nothing"] }));
    resource.refuses(&stays, &VerifyError::ClaimsChanged);
    let checked = resource.runtime.block_on(resource.verifier.check(&stays)).unwrap();
    assert!(checked.stale, "good, but no longer what the record says");

    let of_fixed = server.login("fixed").text("access_token");
    let of_sliding = token();
    assert_eq!((resource.verify(&of_fixed), resource.verify(&of_sliding)), (Ok(()), Ok(())));
    patch(format!("/v1/admin/clients/{}", server.client_id("fixed")), json!({ "claims": ["name"] }));
    resource.refuses(&of_fixed, &VerifyError::ClaimsChanged);
    assert_eq!(resource.verify(&of_sliding), Ok(()));

    let keys = server.get("/v1/admin/keys").bearer_auth(&admin).reply();
    let verified = resource.runtime.block_on(resource.verifier.verify(&of_sliding)).unwrap();
    let kid = verified.key_id().unwrap();
    assert!(keys.body.to_string().contains(kid));
    let path = format!("/v1/admin/keys/{kid}/withdraw");
    assert_eq!(server.post(&path).bearer_auth(&admin).reply().status, 200);
    // Which of the two depends on whether the key set was fetched again already.
    resource.eventually("the key is not accepted", || {
        matches!(
            resource.verify(&of_sliding),
            Err(VerifyError::KeyWithdrawn | VerifyError::Jws(JwsError::UnknownKey(_)))
        )
    });
    assert!(resource.verifier.freshness().is_withdrawn(kid));
    let of_new_key = token();
    resource.eventually("the new key is known", || resource.verify(&of_new_key).is_ok());

    let admin = server.service_token("reseal:admin");
    let path = format!("/v1/admin/users/{user}");
    let reply = server.patch(&path).bearer_auth(&admin).json(&json!({ "disabled": true })).reply();
    assert_eq!(reply.status, 200, "{}", reply.body);
    resource.refuses(&of_new_key, &ended(EndReason::UserDisabled));
}

#[test]
fn what_was_changed_around_a_crash_is_seen_after_it() {
    let mut server = Server::start_on_fixed_port();
    let resource = Resource::of(&server, OnFeedLost::Refuse);
    for _ in 0..rounds(2, 10) {
        let (before, after) =
            (server.login("refresh").text("access_token"), server.login("refresh").text("access_token"));
        assert_eq!((resource.verify(&before), resource.verify(&after)), (Ok(()), Ok(())));
        assert_eq!(server.delete("/v1/session").bearer_auth(&before).reply().status, 204);
        server.crash_and_restart();
        assert_eq!(server.delete("/v1/session").bearer_auth(&after).reply().status, 204);
        resource.refuses(&before, &ended(EndReason::SignedOut));
        resource.refuses(&after, &ended(EndReason::SignedOut));
    }
    resource.eventually("it is well", || resource.verifier.health().is_ready());
    assert_eq!(resource.starts(), 0, "it went on where it was");
}

#[test]
fn a_cold_start_accepts_nothing_that_ended_before_it() {
    let server = Server::start();
    let (gone, good) =
        (server.login("sliding").text("access_token"), server.login("sliding").text("access_token"));
    assert_eq!(server.delete("/v1/session").bearer_auth(&gone).reply().status, 204);
    let resource = Resource::begin(&server, OnFeedLost::Refuse);
    let lost = VerifyError::Unavailable(Unavailable::Feed);
    // Until it has caught up it refuses to say; then it knows.
    resource.eventually("it has caught up", || match resource.verify(&gone) {
        Err(VerifyError::SessionEnded(EndReason::SignedOut)) => true,
        other => {
            assert_eq!(other, Err(lost.clone()));
            false
        }
    });
    assert_eq!(resource.verify(&good), Ok(()));
}

#[test]
fn a_log_of_another_epoch_is_read_from_its_beginning() {
    let mut server = Server::start_on_fixed_port();
    let token = server.login("sliding").text("access_token");
    let resource = Resource::of(&server, OnFeedLost::Refuse);
    assert_eq!(server.delete("/v1/session").bearer_auth(&token).reply().status, 204);
    resource.refuses(&token, &ended(EndReason::SignedOut));
    server.crash();
    let options = SqliteOptions { access: Access::Tool, ..SqliteOptions::default() };
    let store = SqliteStore::open(server.data(), options).unwrap();
    let writes = vec![Write::PutMeta(FEED_EPOCH.to_owned(), vec![7; 16])];
    resource.runtime.block_on(store.commit(Commit { writes })).unwrap();
    drop(store);
    server.restart();
    resource.eventually("it starts over and catches up", || {
        resource.starts() == 1 && resource.verifier.freshness().is_caught_up()
    });
    assert_eq!(resource.verify(&token), Err(ended(EndReason::SignedOut)));
    let next = server.login("sliding").text("access_token");
    assert_eq!(server.delete("/v1/session").bearer_auth(&next).reply().status, 204);
    resource.refuses(&next, &ended(EndReason::SignedOut));
}

#[test]
fn after_a_restore_every_verifier_refuses_what_was_issued_before() {
    let mut server = Server::start_on_fixed_port();
    let admin = server.service_token("reseal:admin");
    let before = server.login("sliding").text("access_token");
    let backup = server.data().with_file_name("copy.db");
    let path = backup.to_str().unwrap();
    server.run(&["backup", path]);
    // Of these nobody knows any more: a session, a user with a session, and claims.
    let since = server.login("sliding").text("access_token");
    let user = json!({ "username": "late", "password": "correct horse battery staple" });
    assert_eq!(server.post("/v1/admin/users").bearer_auth(&admin).json(&user).reply().status, 201);
    let credentials = json!({
        "client_id": server.client_id("sliding"), "username": "late", "password": "correct horse battery staple",
    });
    let of_late = server.post("/v1/session").json(&credentials).reply().text("access_token");
    let sub = claims(&since)["sub"].as_str().unwrap().to_owned();
    let patch = json!({ "attributes": { "plan": "gold" } });
    let patched = server.patch(&format!("/v1/admin/users/{sub}")).bearer_auth(&admin).json(&patch).reply();
    assert_eq!(patched.status, 200, "{}", patched.body);
    let newest = server.login("sliding").text("access_token");
    let resource = Resource::of(&server, OnFeedLost::Refuse);
    assert_eq!((resource.verify(&newest), resource.verify(&of_late)), (Ok(()), Ok(())));

    server.crash();
    server.run(&["restore", path, "--yes"]);
    server.restart();
    resource.eventually("it starts over and catches up", || {
        resource.starts() == 1 && resource.verifier.freshness().is_caught_up()
    });
    for token in [&before, &since, &newest, &of_late] {
        resource.eventually("it is refused", || match resource.verify(token) {
            Ok(()) => false,
            Err(VerifyError::Unavailable(_)) => false,
            Err(_) => true,
        });
        assert_eq!(server.session(token).status, 401, "at the authority, too");
    }
    let again = server.login("sliding");
    assert!(again.claims()["rev"].as_u64() > claims(&newest)["rev"].as_u64(), "newer than any of before");
    resource.eventually("the new one is good", || resource.verify(&again.text("access_token")) == Ok(()));
}

#[test]
fn with_sessions_that_are_kept_verifiers_learn_that_all_claims_may_have_changed() {
    let mut server = Server::start_on_fixed_port();
    let admin = server.service_token("reseal:admin");
    let login = server.login("refresh");
    let backup = server.data().with_file_name("copy.db");
    let path = backup.to_str().unwrap();
    server.run(&["backup", path]);
    let sub = login.claims()["sub"].as_str().unwrap().to_owned();
    let patch = json!({ "roles": ["admin"] });
    let patched = server.patch(&format!("/v1/admin/users/{sub}")).bearer_auth(&admin).json(&patch).reply();
    assert_eq!(patched.status, 200, "{}", patched.body);
    let promoted = server.login("refresh").text("access_token");
    let resource = Resource::of(&server, OnFeedLost::Refuse);
    assert_eq!(resource.verify(&promoted), Ok(()));

    server.crash();
    server.run(&["restore", path, "--keep-sessions", "--yes"]);
    server.restart();
    resource.eventually("it starts over and catches up", || {
        resource.starts() == 1 && resource.verifier.freshness().is_caught_up()
    });
    resource.refuses(&promoted, &VerifyError::ClaimsChanged);
    let renewed = server.refresh(&login.text("refresh_token"));
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    assert_eq!(resource.verify(&renewed.text("access_token")), Ok(()));
}

#[test]
fn a_lost_feed_is_met_as_the_setting_says_and_never_with_a_refusal_of_the_token() {
    let mut server = Server::start_on_fixed_port();
    let settings = [OnFeedLost::Accept, OnFeedLost::Introspect, OnFeedLost::Refuse];
    let [accept, introspect, refuse] = settings.map(|when_lost| Resource::of(&server, when_lost));
    let (good, gone) =
        (server.login("refresh").text("access_token"), server.login("refresh").text("access_token"));
    for resource in [&accept, &introspect, &refuse] {
        assert_eq!((resource.verify(&good), resource.verify(&gone)), (Ok(()), Ok(())));
    }
    // As after fifteen seconds of silence; the test does not wait for them.
    let lose = || [&accept, &introspect, &refuse].map(|resource| resource.verifier.freshness().lose());
    let away = VerifyError::Unavailable(Unavailable::Introspection);
    let lost = VerifyError::Unavailable(Unavailable::Feed);

    server.crash();
    lose();
    assert_eq!(accept.verify(&good), Ok(()));
    assert_eq!(introspect.verify(&good), Err(away));
    assert_eq!(refuse.verify(&good), Err(lost));
    assert!(accept.verifier.health().is_ready() && !refuse.verifier.health().is_ready());

    server.restart();
    assert_eq!(server.delete("/v1/session").bearer_auth(&gone).reply().status, 204);
    for resource in [&accept, &introspect, &refuse] {
        resource.refuses(&gone, &ended(EndReason::SignedOut));
        resource.eventually("it is well again", || resource.verify(&good) == Ok(()));
    }
}

#[test]
fn no_change_is_missed_by_any_verifier_whatever_is_cut_or_killed() {
    let soak = soak::Soak {
        binary: env!("CARGO_BIN_EXE_reseal").into(),
        verifiers: rounds(10, 100),
        changes: rounds(200, 10_000),
        disconnects: rounds(20, 200),
        restarts: rounds(1, 5),
        rate: 100,
        seed: soak::any_seed(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(soak.run()).unwrap();
    assert_eq!((report.missed, report.accepted), (0, 0), "{report}");
}
