//! `kill -9` of the tool, again and again, beside a writer that never stops.

use super::*;
use std::process::{Command, Stdio};

const SOURCE: &str = "RESEAL_TEST_MIGRATE_FROM";
const TARGET: &str = "RESEAL_TEST_MIGRATE_TO";
const RUN: &str = "RESEAL_TEST_MIGRATE_RUN";

#[test]
fn a_tool_that_is_killed_at_any_moment_goes_on() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    kill_again_and_again(&in_folder(&source), &in_folder(&target));
}

#[test]
fn a_tool_that_is_killed_on_its_way_to_postgresql_goes_on() {
    let source = tempfile::tempdir().unwrap();
    let target = Postgres::shared().database();
    kill_again_and_again(&in_folder(&source), &target.url());
}

#[test]
fn a_tool_that_is_killed_on_its_way_from_postgresql_goes_on() {
    let source = Postgres::shared().database();
    let target = tempfile::tempdir().unwrap();
    kill_again_and_again(&source.url(), &in_folder(&target));
}

fn in_folder(folder: &TempDir) -> String {
    format!("sqlite:{}", folder.path().display())
}

async fn open(url: &str, access: Access) -> (Arc<dyn Store>, Box<dyn Both>) {
    match url.strip_prefix("sqlite:") {
        Some(folder) => open_sqlite(Path::new(folder), access),
        None => open_postgres(url).await,
    }
}

fn kill_again_and_again(source: &str, target: &str) {
    let rounds = if std::env::var_os("RESEAL_LONG").is_some() { 50 } else { 6 };
    block_on(async {
        let (store, end) = open(source, Access::Serve).await;
        for i in 0..400 {
            with_session(&*store, i).await;
        }
        let mut number = 1000;
        let mut killed = 0;
        for round in 0..rounds {
            let mut child = child(source, target, round + 1);
            // The first thing that it does at the source is to say that it notes what changes.
            while Source::mark(&*end).await.unwrap().is_none_or(|mark| mark.run != round + 1) {
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            // Then some work, more in each round, beside which it copies.
            for _ in 0..5 + 5 * round {
                number += 1;
                // Refused only while it is frozen, for as long as it takes.
                let _ = commit(&*store, [Write::CreateUser(Box::new(user(number)), secrets("x"))]).await;
                let _ = commit(&*store, [Write::PutMeta("last".to_owned(), number.to_string().into())]).await;
            }
            killed += usize::from(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
            let mark = Source::mark(&*end).await.unwrap();
            if mark.is_some_and(|mark| mark.state == SourceState::Moved) {
                break;
            }
        }
        assert!(killed > 0, "it was never in the middle of anything");
        let mut last = child(source, target, 1_000_000);
        assert!(last.wait().unwrap().success());
        let (target_store, target_end) = open(target, Access::Serve).await;
        check_may_serve(&*target_store).await.unwrap();
        check_may_serve(&*store).await.unwrap_err();
        let (ours, theirs) = (everything(&*end).await, everything(&*target_end).await);
        assert!(ours == theirs && ours.sessions.len() == 400, "{ours:?} {theirs:?}");
    });
}

fn child(source: &str, target: &str, run: u64) -> std::process::Child {
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
    let (Ok(source), Ok(target)) = (std::env::var(SOURCE), std::env::var(TARGET)) else { return };
    let run_number = std::env::var(RUN).unwrap().parse().unwrap();
    block_on(async {
        let (_from_store, from) = open(&source, Access::Tool).await;
        let (_to_store, to) = open(&target, Access::Serve).await;
        let ended = Migration::run(&*from, &*to, nth_run(10, run_number), &mut Steps::all()).await.unwrap();
        assert!(matches!(ended, Ended::Complete(_)));
    });
}
