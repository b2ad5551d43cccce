//! A cluster: the same rules when keys are spread over servers, and a primary that dies.

use super::*;
use crate::conformance::{
    commit, endings, lists, races, run, session, sessions, start, starts, sweeps, with_user,
};
use crate::{EndFilter, Write};
use reseal_core::EndReason;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use tokio::task::JoinSet;

const NODES: usize = 6;

/// The cluster of the tests that break nothing. It ends with the process.
fn shared() -> &'static servers::RedisCluster {
    static SHARED: OnceLock<servers::RedisCluster> = OnceLock::new();
    SHARED.get_or_init(|| servers::RedisCluster::start(3, 3, &servers::RedisOptions::default()))
}

fn is_primary(cluster: &servers::RedisCluster, node: usize) -> bool {
    cluster.ask(node, &["INFO", "replication"]).text().contains("role:master")
}

struct OverCluster(TempDir);

impl Engine for OverCluster {
    type Store = RedisStore<SqliteStore>;

    fn create() -> Self {
        let cluster = shared();
        for node in (0..NODES).filter(|node| is_primary(cluster, *node)) {
            cluster.ask(node, &["FLUSHALL"]);
        }
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Self::Store {
        let options = RedisOptions { wait_replicas: 1, ..options(shared().urls()) };
        RedisStore::open(options, sqlite(self.0.path())).await.unwrap()
    }

    async fn inject(&self, _: &Self::Store, _: Fault) -> bool {
        false
    }
}

/// One after the other, since they use the same ids.
#[test]
fn the_part_of_the_conformance_suite_that_concerns_sessions() {
    type E = OverCluster;
    run(sessions::every_field_of_a_session_comes_back::<E>);
    run(sessions::a_decision_sees_the_row_and_its_change_is_committed::<E>);
    run(sessions::what_was_undone_shows_in_no_later_session::<E>);
    run(sessions::a_session_is_replaced_only_by_its_next_version::<E>);
    run(sessions::an_ended_session_never_lives_again::<E>);
    run(starts::the_oldest_sessions_make_room_for_a_new_one::<E>);
    run(endings::ending_a_users_sessions_spares_the_one_that_is_excepted::<E>);
    run(endings::all_sessions_end_in_batches::<E>);
    run(lists::sessions_of_a_user_come_in_pages::<E>);
    run(lists::open_sessions_come_in_pages::<E>);
    run(sweeps::a_sweep_takes_what_is_outdated_and_nothing_else::<E>);
    run(sweeps::a_sweep_follows_a_deadline_that_moves::<E>);
    run(races::racing_rotations_of_one_token_make_one_lineage::<E>);
    run(races::a_renewal_that_races_an_end_leaves_an_ended_session::<E>);
    resharding_loses_nothing();
}

/// A slot moves to another server under the eyes of a node that does not know: first key by key (ASK), then
/// for good (MOVED).
fn resharding_loses_nothing() {
    run(|engine: OverCluster| async move {
        let cluster = shared();
        let store = engine.open().await;
        let user = with_user(&store, 1).await;
        let session = session(1, &user);
        commit(&store, [start(&session)]).await.unwrap();
        let mut token = renew(&store, ring().successor(&session).unwrap(), 30, 2).await;

        let (slot, key) = keys::session_key(session.id);
        let slot_text = slot.to_string();
        let map = store.inner.nodes.map();
        let port = |node: usize| cluster.urls()[node].rsplit_once(':').unwrap().1.to_owned();
        let primaries: Vec<usize> = (0..NODES).filter(|node| is_primary(cluster, *node)).collect();
        let serves = |node: &usize| map.node(slot).unwrap().ends_with(&format!(":{}", port(*node)));
        let from = *primaries.iter().find(|node| serves(node)).unwrap();
        let to = *primaries.iter().find(|node| !serves(node)).unwrap();
        let id = |node| cluster.ask(node, &["CLUSTER", "MYID"]).text().to_owned();
        let set = |node, words: &[&str]| {
            cluster.ask(node, &[&["CLUSTER", "SETSLOT", &slot_text], words].concat());
        };
        set(to, &["IMPORTING", &id(from)]);
        set(from, &["MIGRATING", &id(to)]);
        token = renew(&store, token, 100, 2).await;
        cluster.ask(from, &["MIGRATE", "127.0.0.1", &port(to), &key, "0", "10000"]);
        token = renew(&store, token, 200, 2).await;
        for node in [to, from] {
            set(node, &["NODE", &id(to)]);
        }
        token = renew(&store, token, 300, 2).await;
        assert_eq!(token.number, 9);
        assert_eq!(store.figures().missed, 0);
        cluster.until_ok();
    });
}

/// Kills primaries while sessions are renewed on two nodes, one of which does not wait for replicas, and some
/// end: nobody is logged out, nobody comes back.
#[test]
fn a_failover_logs_nobody_out_and_revives_nobody() {
    const SESSIONS: usize = 48;
    const ROUNDS: usize = 2;
    let cluster = servers::RedisCluster::start(3, 3, &servers::RedisOptions::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut nodes = Vec::new();
        for wait_replicas in [0, 1] {
            let timeout = Duration::from_secs(1);
            let options = RedisOptions { wait_replicas, timeout, ..options(cluster.urls()) };
            nodes.push(Arc::new(RedisStore::open(options, sqlite(folder.path())).await.unwrap()));
        }
        let user = with_user(&*nodes[0], 1).await;
        let all: Vec<Session> = (0..SESSIONS).map(|i| session(i, &user)).collect();
        commit(&*nodes[0], all.iter().map(start)).await.unwrap();

        let over = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for (i, session) in all.iter().enumerate() {
            let (node, over) = (Arc::clone(&nodes[i % 2]), Arc::clone(&over));
            let token = ring().successor(session).unwrap();
            clients.spawn(async move { (i, be_a_client(&node, token, &over).await) });
        }
        for round in 0..ROUNDS {
            // Every sixth ends, one half of them while the primary is away.
            let doomed =
                |half: usize| all.iter().skip(round + 2 * half).step_by(12).map(|session| session.id);
            end_all(&nodes[0], doomed(0)).await;
            let slot = keys::session_key(all[round].id).0;
            let killed = cluster.kill_primary_of(slot);
            // The other servers' sessions are at hand, also for a node that starts now.
            let new = RedisStore::open(options(cluster.urls()), sqlite(folder.path())).await.unwrap();
            new.check().await.unwrap();
            end_all(&nodes[1], doomed(1)).await;
            tokio::task::block_in_place(|| {
                cluster.until_ok();
                cluster.restart(killed);
                cluster.until_ok();
                cluster.until_replicated();
            });
        }
        over.store(true, Ordering::Relaxed);
        let mut renewals = 0;
        while let Some(client) = clients.join_next().await {
            let (i, (token, alive)) = client.unwrap();
            let ended = (0..ROUNDS).any(|round| {
                i >= round && ((i - round) % 12 == 0 || (i >= round + 2 && (i - round - 2) % 12 == 0))
            });
            assert_eq!(alive, !ended, "session {i}");
            renewals += token.number;
            for node in &nodes {
                let found = node.session(all[i].id).await.unwrap().unwrap().session;
                assert_eq!(found.ended.is_some(), ended, "session {i}");
            }
            if ended {
                assert_eq!(present(&*nodes[0], token, 1_000_000).await.unwrap(), None);
            }
        }
        assert!(renewals > u64::try_from(4 * SESSIONS).unwrap(), "the load went on: {renewals}");
    });
}

async fn end_all(store: &RedisStore<SqliteStore>, ids: impl Iterator<Item = SessionId>) {
    for id in ids {
        let end = EndSessions {
            filter: EndFilter::One(id),
            reason: EndReason::Revoked,
            now: NOW,
            ip: None,
            event_until: UNTIL,
        };
        commit(store, [Write::EndSessions(end)]).await.unwrap();
    }
}

/// Renews until all is over, 30 s apart, again and again where the store does not answer; the newest token and
/// whether it still is good.
async fn be_a_client(
    store: &RedisStore<SqliteStore>,
    mut token: RefreshToken,
    over: &AtomicBool,
) -> (RefreshToken, bool) {
    let mut secs = 0;
    loop {
        let last = over.load(Ordering::Relaxed);
        secs += 30;
        loop {
            match present(store, token, secs).await {
                Ok(Some((next, _))) => {
                    token = next;
                    break;
                }
                Ok(None) => return (token, false),
                Err(StoreError::Unavailable(_) | StoreError::Busy { .. }) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        if last {
            return (token, true);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
