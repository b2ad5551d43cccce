//! `kill -9` in the middle of work: what was answered is there, and the file is sound.

use super::*;
use crate::conformance::{NOW, UNTIL, commit, policy, ring, session, session_id, start, with_user};
use crate::{EndFilter, EndSessions, decide};
use reseal_core::EndReason;
use reseal_core::refresh::{OnRollback, Outcome, Presenter, rotate};
use reseal_core::session::Change;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

const FOLDER: &str = "RESEAL_TEST_CRASH_FOLDER";
const TASKS: usize = 16;

#[test]
fn what_was_answered_survives_being_killed() {
    let folder = folder();
    let mut acknowledged: HashMap<usize, u64> = HashMap::new();
    let mut ended: Vec<usize> = Vec::new();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::tests::crash::the_child_that_is_killed", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut count = 0;
        for line in lines.by_ref() {
            count += usize::from(note(&line.unwrap(), &mut acknowledged, &mut ended));
            if count == 150 + 37 * round {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had answered before it died counts too, save for a line that was cut short.
        for line in lines.map_while(Result::ok) {
            note(&line, &mut acknowledged, &mut ended);
        }
        assert!(count >= 150, "the child died by itself");
        check(folder.path(), &acknowledged, &ended);
    }
    assert!(!ended.is_empty() && acknowledged.len() > TASKS);
}

fn note(line: &str, acknowledged: &mut HashMap<usize, u64>, ended: &mut Vec<usize>) -> bool {
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["used", i, used, "."] => {
            let (i, used): (usize, u64) = (i.parse().unwrap(), used.parse().unwrap());
            let last = acknowledged.entry(i).or_default();
            *last = used.max(*last);
        }
        ["ended", i, "."] => ended.push(i.parse().unwrap()),
        _ => return false,
    }
    true
}

fn check(folder: &Path, acknowledged: &HashMap<usize, u64>, ended: &[usize]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = open(folder, Access::Serve);
    runtime.block_on(async {
        for (i, used) in acknowledged {
            let row = store.session(session_id(*i)).await.unwrap().expect("it was started").session;
            assert!(row.rotation.used >= *used, "session {i}: {} < {used}", row.rotation.used);
            // Nothing half done: the row and its event come and go together.
            let lines = store.timeline(row.id).await.unwrap().len();
            assert_eq!(lines, usize::from(row.ended.is_some()), "session {i}");
        }
        for i in ended {
            let row = store.session(session_id(*i)).await.unwrap().unwrap().session;
            assert!(row.ended.is_some(), "session {i} was ended");
        }
        let events = store.events_after(0, 100_000).await.unwrap();
        assert!(events.len() >= ended.len());
        assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "no gap");
    });
    assert_eq!(store.quick_check().unwrap(), [""; 0]);
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn the_child_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(open(Path::new(&folder), Access::Serve));
        let user = match store.user(crate::conformance::user_id(0)).await.unwrap() {
            Some(user) => user,
            None => with_user(&*store, 0).await,
        };
        // Each life of the child works on sessions of its own, behind those of the lives before.
        let first = store.sessions_of_user(user.id, None, 100_000).await.unwrap().len();
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (store, user) = (Arc::clone(&store), user.clone());
                tokio::spawn(async move {
                    // A stride that no two tasks or lives share.
                    for i in (1_000_000 * (first + 1) + task..).step_by(TASKS) {
                        live(&store, &session(i, &user), i).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// A session from its start over some rotations to its end, each told once it is answered.
async fn live(store: &SqliteStore, session: &Session, i: usize) {
    commit(store, [start(session)]).await.unwrap();
    tell(&format!("used {i} 0 ."));
    for used in 1..=5 {
        let decided = decide(store, session.id, UNTIL, move |s: &Snapshot| {
            let token = ring().successor(&s.session).unwrap();
            match rotate(&s.session, policy(), &token, OnRollback::Theft, (NOW, Presenter::default())) {
                Outcome::Issue { change, .. } => (true, change),
                _ => (false, Change::default()),
            }
        });
        assert_eq!(decided.await.unwrap(), Some(true));
        tell(&format!("used {i} {used} ."));
    }
    let end = EndSessions {
        filter: EndFilter::One(session.id),
        reason: EndReason::SignedOut,
        now: NOW,
        ip: None,
        event_until: UNTIL,
    };
    assert_eq!(store.end_sessions(end).await.unwrap(), 1);
    tell(&format!("ended {i} ."));
}

/// One write, so that a line is whole or not there.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}
