//! Refresh rotation over the wire: two tabs, lost answers, thieves.

use crate::server::{Reply, Server, rounds};
use std::sync::Barrier;

const HOUR: u64 = 3600;

/// A client as it should be: it adopts a refresh token only if its number is newer.
struct Holder {
    token: String,
    generation: i64,
}

impl Holder {
    fn new(login: &Reply) -> Self {
        Self {
            token: login.text("refresh_token"),
            generation: login.body["session"]["generation"].as_i64().unwrap(),
        }
    }

    fn adopt(&mut self, reply: &Reply) {
        assert_eq!(reply.status, 200, "{}", reply.body);
        let generation = reply.body["session"]["generation"].as_i64().unwrap();
        if generation > self.generation {
            *self = Self { token: reply.text("refresh_token"), generation };
        }
    }
}

#[test]
fn two_tabs_at_once_never_log_anyone_out_and_leave_one_lineage() {
    let server = Server::start();
    let mut holder = Holder::new(&server.login("refresh"));
    for round in 0..rounds(200, 1000) {
        let barrier = Barrier::new(2);
        let tab = || {
            barrier.wait();
            server.refresh(&holder.token)
        };
        let (one, two) = std::thread::scope(|s| {
            let one = s.spawn(tab);
            (tab(), one.join().unwrap())
        });
        assert_eq!((one.status, two.status), (200, 200), "round {round}: {} {}", one.body, two.body);
        assert_eq!(one.text("refresh_token"), two.text("refresh_token"), "round {round}: one lineage");
        holder.adopt(&one);
        holder.adopt(&two);
        assert_eq!(holder.generation, 2 + i64::try_from(round).unwrap());
    }
}

#[test]
fn a_lost_answer_never_costs_the_session() {
    for wait in [1, 11, HOUR, 13 * 24 * HOUR] {
        let server = Server::start();
        let mut holder = Holder::new(&server.login("refresh"));
        let lost = server.refresh(&holder.token);
        server.advance(wait);
        let again = server.refresh(&holder.token);
        holder.adopt(&again);
        let same = lost.text("refresh_token") == again.text("refresh_token");
        assert_eq!(same, wait <= 10, "byte for byte within grace, another branch later");
        // Still in, and the next one works as well.
        holder.adopt(&server.refresh(&holder.token));
        assert_eq!(holder.generation, 3);
    }
}

#[test]
fn both_branches_of_a_lost_answer_used_is_theft() {
    let server = Server::start();
    let first = server.login("refresh").text("refresh_token");
    let one = server.refresh(&first).text("refresh_token");
    server.advance(60);
    let two = server.refresh(&first).text("refresh_token");
    assert_eq!(server.refresh(&two).status, 200);
    server.refresh(&one).refused(400, "invalid_grant", Some("reuse_detected"));
    server.refresh(&two).refused(400, "invalid_grant", Some("reuse_detected"));
}

#[test]
fn a_packet_that_was_under_way_is_forgiven_and_an_old_one_is_theft() {
    let server = Server::start();
    let first = server.login("refresh").text("refresh_token");
    let second = server.refresh(&first).text("refresh_token");
    let third = server.refresh(&second).text("refresh_token");
    server.refresh(&first).refused(400, "invalid_grant", Some("superseded"));
    let fourth = server.refresh(&third).text("refresh_token");
    assert!(fourth.starts_with("rsl_rt_"), "the session lives");
    server.advance(21);
    server.refresh(&first).refused(400, "invalid_grant", Some("reuse_detected"));
    server.refresh(&fourth).refused(400, "invalid_grant", Some("reuse_detected"));
}

#[test]
fn a_thief_who_uses_it_first_is_ended_when_the_victim_comes() {
    let server = Server::start();
    let stolen = server.login("refresh").text("refresh_token");
    let mut thief = server.refresh(&stolen).text("refresh_token");
    for _ in 0..3 {
        server.advance(60);
        thief = server.refresh(&thief).text("refresh_token");
    }
    server.refresh(&stolen).refused(400, "invalid_grant", Some("reuse_detected"));
    server.refresh(&thief).refused(400, "invalid_grant", Some("reuse_detected"));
}

#[test]
fn a_thief_who_renews_every_9_seconds_with_a_grace_of_10_is_ended_by_the_victim() {
    let server = Server::start();
    let victim = server.login("refresh").text("refresh_token");
    let mut thief = server.refresh(&victim).text("refresh_token");
    // He hurries so that the victim's token is always replaced "a moment ago"...
    for _ in 0..10 {
        server.advance(9);
        thief = server.refresh(&thief).text("refresh_token");
    }
    // ...and yet the victim's next try, later than twice the grace after he was overtaken, ends it.
    server.refresh(&victim).refused(400, "invalid_grant", Some("reuse_detected"));
    server.refresh(&thief).refused(400, "invalid_grant", Some("reuse_detected"));
}

#[test]
fn the_token_of_another_client_is_refused_and_stays_good() {
    let server = Server::start();
    let token = server.login("refresh").text("refresh_token");
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", server.client_id("sliding")),
        ("refresh_token", &token),
    ];
    use crate::server::Ask as _;
    server.post("/oauth/token").form(&form).reply().refused(400, "invalid_grant", None);
    assert_eq!(server.refresh(&token).status, 200);
}

#[test]
fn a_forged_token_touches_nothing() {
    let server = Server::start();
    let token = server.login("refresh").text("refresh_token");
    for i in (7..token.len()).step_by(5) {
        let mut forged = token.clone().into_bytes();
        forged[i] = if forged[i] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        let reply = server.refresh(&forged);
        // A key id that is nobody's is not called invalid: the node might be behind.
        let unknown_key = reply.status == 503;
        assert!(
            unknown_key || (reply.status == 400 && reply.body.get("reason").is_none()),
            "{i}: {}",
            reply.body
        );
    }
    assert_eq!(server.refresh(&token).status, 200);
}

#[test]
fn nobody_gets_more_scope_by_refreshing() {
    use crate::server::Ask as _;
    let server = Server::start();
    let token = server.login("refresh").text("refresh_token");
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", server.client_id("refresh")),
        ("refresh_token", token.as_str()),
        ("scope", "reseal:admin"),
    ];
    server.post("/oauth/token").form(&form).reply().refused(400, "invalid_scope", None);
    let reply = server.refresh(&token);
    assert_eq!(reply.body["session"]["generation"], 2, "the refusal rotated nothing");
}
