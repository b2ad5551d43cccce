//! Many writers, many readers that come and go: no event is missing, none comes twice, all are in order.

use crate::common::{PATIENCE, Reading, Running, log, names};
use reseal_server::random::Random;
use reseal_server::start::open_store;
use reseal_store::Access;
use std::sync::Arc;
use tokio::time::timeout;

const WRITERS: u64 = 6;
const COMMITS: u64 = 60;
const READERS: u64 = 12;
/// Each commit logs two events.
const ALL: u64 = WRITERS * COMMITS * 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_that_disconnect_at_random_miss_nothing_and_get_nothing_twice() {
    let authority = Arc::new(Running::start().await);
    let readers: Vec<_> = (0..READERS).map(|r| tokio::spawn(read_all(Arc::clone(&authority), r))).collect();
    // Half of the writers are this process, half another one on the folder.
    let other = open_store(&authority.app.config, &Random::new(), Access::Tool).await.unwrap().shared();
    let writers: Vec<_> = (0..WRITERS)
        .map(|w| {
            let (authority, other) = (Arc::clone(&authority), Arc::clone(&other));
            tokio::spawn(async move {
                for c in 0..COMMITS {
                    let names = [format!("{w}.{c}.a"), format!("{w}.{c}.b")];
                    if w % 2 == 0 {
                        log(&authority.app, names).await;
                    } else {
                        let writes = names.map(|name| crate::common::changed(&authority.app, &name));
                        reseal_store::Store::commit(&*other, reseal_store::Commit::of(writes)).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut seen = Vec::new();
    for reader in readers {
        seen.push(timeout(PATIENCE, reader).await.expect("a reader misses something").unwrap());
    }
    assert!(seen.iter().all(|names| *names == seen[0]), "all saw the same");
    for w in 0..WRITERS {
        let own: Vec<_> = seen[0].iter().filter(|name| name.starts_with(&format!("{w}."))).cloned().collect();
        let expected: Vec<_> =
            (0..COMMITS).flat_map(|c| ["a", "b"].map(|x| format!("{w}.{c}.{x}"))).collect();
        assert_eq!(own, expected);
    }
}

/// Reads all events, with a new connection every few of them; their names.
async fn read_all(authority: Arc<Running>, seed: u64) -> Vec<String> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let (mut seen, mut seq, mut last_id) = (Vec::new(), 0, None);
    while seq < ALL {
        let mut reading = Reading::open(&authority, last_id.as_deref()).await;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        for _ in 0..(random >> 33) % 60 {
            if seq == ALL {
                break;
            }
            let message = reading.next().await.expect("the stream is over");
            match message.name() {
                "caught-up" => assert_eq!(message.seq(), seq, "everything up to there was sent"),
                _ => {
                    seq += 1;
                    assert_eq!(message.seq(), seq, "in order, without a gap");
                    seen.extend(names(&[message]));
                }
            }
        }
        last_id = reading.last_id.take();
    }
    seen
}

/// A reader that the ring has left behind gets the rest from the store.
#[tokio::test]
async fn a_reader_that_fell_behind_the_ring_misses_nothing() {
    let authority = Running::start().await;
    let mut slow = Reading::open(&authority, None).await;
    slow.caught_up().await;
    const MANY: u64 = 25_000;
    for commit in 0..MANY / 500 {
        log(&authority.app, (0..500).map(|i| format!("{}", commit * 500 + i))).await;
    }
    crate::common::until("all is read", || {
        authority.app.log_seq.load(std::sync::atomic::Ordering::Acquire) == MANY
    })
    .await;
    for i in 0..MANY {
        let message = slow.event().await;
        assert_eq!((message.seq(), names(&[message])), (i + 1, vec![i.to_string()]));
    }
}
