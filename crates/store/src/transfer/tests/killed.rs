//! `kill -9` of the tool, again and again, beside a writer that never stops.

use super::*;
use std::process::{Command, Stdio};

const SOURCE: &str = "RESEAL_TEST_MIGRATE_FROM";
const TARGET: &str = "RESEAL_TEST_MIGRATE_TO";
const RUN: &str = "RESEAL_TEST_MIGRATE_RUN";

#[test]
fn a_tool_that_is_killed_at_any_moment_goes_on() {
    let rounds = if std::env::var_os("RESEAL_LONG").is_some() { 50 } else { 8 };
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, end) = open_sqlite(source.path(), Access::Serve);
    block_on(async {
        for i in 0..400 {
            with_session(&*store, i).await;
        }
        let mut number = 1000;
        for round in 0..rounds {
            let mut child = child(source.path(), target.path(), round + 1);
            // Work until it has come a bit further than the last time, then no more of it.
            for _ in 0..20 + 15 * round {
                number += 1;
                // Refused only while it is frozen, for as long as it takes.
                let user = user(number);
                let _ = commit(&*store, [Write::CreateUser(Box::new(user), secrets("x"))]).await;
                let _ = commit(&*store, [Write::PutMeta("last".to_owned(), number.to_string().into())]).await;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let mark = Source::mark(&*end).await.unwrap();
            if mark.is_some_and(|mark| mark.state == SourceState::Moved) {
                break;
            }
        }
        let mut last = child(source.path(), target.path(), 1_000_000);
        assert!(last.wait().unwrap().success());
        let (target_store, target_end) = open_sqlite(target.path(), Access::Serve);
        check_may_serve(&*target_store).await.unwrap();
        check_may_serve(&*store).await.unwrap_err();
        let (ours, theirs) = (everything(&*end).await, everything(&*target_end).await);
        assert!(ours == theirs && ours.sessions.len() == 400, "{ours:?} {theirs:?}");
    });
}

fn child(source: &Path, target: &Path, run: u64) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "transfer::tests::killed::the_child_that_is_killed", "--ignored", "--nocapture"])
        .env(SOURCE, source)
        .env(TARGET, target)
        .env(RUN, run.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn the_child_that_is_killed() {
    let Some((source, target)) = std::env::var_os(SOURCE).zip(std::env::var_os(TARGET)) else { return };
    let run_number = std::env::var(RUN).unwrap().parse().unwrap();
    let (_from_store, from) = open_sqlite(Path::new(&source), Access::Tool);
    let (_to_store, to) = open_sqlite(Path::new(&target), Access::Serve);
    block_on(async {
        let ended = Migration::run(&*from, &*to, nth_run(10, run_number), &mut Steps::all()).await.unwrap();
        assert!(matches!(ended, Ended::Complete(_)));
    });
}
