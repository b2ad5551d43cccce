//! Three authorities with hot sessions in a Redis cluster, and everything else in PostgreSQL.

use crate::alone;
use crate::faults::{round, rounds};
use crate::load::{Load, Losses};
use crate::nodes::Kind;
use crate::postgres::Cluster;
use reseal_test_servers::{Postgres, RedisCluster, RedisOptions};

#[test]
fn a_primary_of_redis_that_dies_logs_nobody_out_and_revives_no_session() {
    let _alone = alone();
    let redis = RedisCluster::start(3, 3, &RedisOptions::default());
    let database = Postgres::shared().database();
    let urls = redis.urls().join("\", \"");
    let config = format!("[store.redis]\nurls = [\"{urls}\"]\ncluster = true\n");
    let cluster = Cluster::start(database.server(), database.name(), Kind::HaProxy, &config);
    let load = Load::start(&cluster.nodes, Losses::Rotations);
    for n in 0..rounds(1, 10) {
        // Each primary's turn comes: slots are shared out in equal parts.
        let slot = u16::try_from(n % 3).unwrap() * 5461 + 100;
        let mut killed = None;
        round(&cluster.nodes, &load, &format!("kill a primary of Redis, {n}"), || {
            killed = Some(redis.kill_primary_of(slot));
            redis.until_ok();
        });
        redis.restart(killed.unwrap());
        redis.until_ok();
        redis.until_replicated();
    }
}
