//! Redis: what is kept over a crash, and a cluster whose primary dies.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use reseal_test_servers::{Answer, Redis, RedisCluster, RedisOptions, until};

#[test]
fn a_killed_server_has_what_it_wrote_to_disk_and_nothing_else() {
    for appendonly in [true, false] {
        let settings = vec![("appendfsync".to_owned(), "always".to_owned())];
        let redis = Redis::start(&RedisOptions { appendonly, settings, ..RedisOptions::default() });
        redis.ask(&["SET", "key", "value"]);
        redis.kill();
        redis.restart();
        let kept = redis.ask(&["GET", "key"]);
        assert_eq!(kept, if appendonly { Answer::Text("value".to_owned()) } else { Answer::Nil });
    }
}

#[test]
fn a_password_is_asked_for() {
    let redis = Redis::start(&RedisOptions { password: Some("word".to_owned()), ..RedisOptions::default() });
    assert_eq!(redis.url(), format!("redis://:word@127.0.0.1:{}", redis.port()));
    assert_eq!(redis.ask(&["PING"]).text(), "PONG");
    let info = redis.ask(&["CONFIG", "GET", "requirepass"]);
    assert_eq!(
        info,
        Answer::Many(vec![Answer::Text("requirepass".to_owned()), Answer::Text("word".to_owned())])
    );
}

#[test]
fn a_replica_takes_over_and_the_old_primary_follows_it() {
    let cluster = RedisCluster::start(3, 3, &RedisOptions::default());
    assert_eq!(cluster.urls().len(), 6);
    for round in 0..2 {
        let slot = cluster.ask(0, &["CLUSTER", "KEYSLOT", "key"]);
        let Answer::Number(slot) = slot else { panic!("{slot:?}") };
        let slot = u16::try_from(slot).unwrap();
        let killed = cluster.kill_primary_of(slot);
        cluster.until_ok();
        cluster.restart(killed);
        cluster.until_ok();
        cluster.until_replicated();
        until("it follows", || {
            cluster.ask(killed, &["INFO", "replication"]).text().contains("role:slave").then_some(())
        });
        // A killed one is never killed again while it follows.
        let next = cluster.kill_primary_of(slot);
        assert_ne!(next, killed, "round {round}");
        cluster.restart(next);
        cluster.until_ok();
        cluster.until_replicated();
    }
}
