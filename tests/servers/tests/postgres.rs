//! PostgreSQL: databases, a crash, a pause, a failover, and nothing left behind.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed unwrap is a failed test; one prints")]

use reseal_test_servers::{PgOptions, Postgres, until};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn databases_of_the_shared_server_are_apart() {
    let postgres = Postgres::shared();
    let (one, other) = (postgres.database(), postgres.database());
    one.sql("CREATE TABLE here (n int)");
    assert_eq!(other.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'here'"), "0");
    let name = one.name().to_owned();
    assert!(one.url().ends_with(&name) && one.url().starts_with("postgres://reseal@127.0.0.1:"));
    drop(one);
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(postgres.sql("postgres", &left), "0");
}

#[test]
fn a_password_is_asked_for() {
    let options = PgOptions { fsync: false, password: Some("let-me-in".to_owned()), ..PgOptions::default() };
    let postgres = Postgres::start(options);
    assert!(postgres.url("postgres").contains("reseal:let-me-in@"));
    assert_eq!(
        postgres.sql("postgres", "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'trust'"),
        "0"
    );
}

#[test]
fn what_was_committed_survives_kill_and_failover() {
    let postgres = Postgres::start(PgOptions { synchronous_standby: true, ..PgOptions::default() });
    let database = postgres.database();
    database.sql("CREATE TABLE t (n int)");
    let url = database.multi_host_url();
    for round in 1..=3 {
        database.sql(&format!("INSERT INTO t VALUES ({round})"));
        postgres.kill();
        if round == 1 {
            postgres.restart();
        } else {
            let before = postgres.port();
            postgres.promote_standby();
            assert_ne!(postgres.port(), before);
            // It waits for no one yet.
            database.sql("CREATE TABLE IF NOT EXISTS alone (n int)");
            postgres.add_new_standby();
        }
        assert_eq!(database.sql("SELECT count(*) FROM t"), round.to_string());
        assert_eq!(postgres.sql("postgres", "SELECT sync_state FROM pg_stat_replication"), "sync");
        assert_eq!(database.multi_host_url(), url);
    }
}

#[test]
fn a_paused_server_answers_nothing_until_it_goes_on() {
    let postgres = Postgres::start(PgOptions { fsync: false, ..PgOptions::default() });
    postgres.pause();
    std::thread::scope(|s| {
        let asking = s.spawn(|| postgres.sql("postgres", "SELECT 7"));
        // Its kernel accepts; nobody answers.
        std::net::TcpStream::connect(("127.0.0.1", postgres.port())).unwrap();
        assert!(!asking.is_finished());
        postgres.resume();
        assert_eq!(asking.join().unwrap(), "7");
    });
}

/// Not a test: what the one below kills, in a process of its own.
#[test]
#[ignore = "run by another test"]
fn victim() {
    let postgres = Postgres::start(PgOptions { fsync: false, ..PgOptions::default() });
    let folder = postgres.sql("postgres", "SHOW data_directory");
    // One that was held still can no longer end by itself.
    postgres.pause();
    println!("folder {folder}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn nothing_is_left_of_a_test_process_that_is_killed() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let folder =
        lines.map(Result::unwrap).find_map(|line| line.split_once("folder ").map(|(_, f)| f.to_owned()));
    let data = folder.unwrap();
    let home = Path::new(&data).ancestors().nth(2).unwrap();
    let lock = std::fs::read_to_string(Path::new(&data).join("postmaster.pid")).unwrap();
    let postmaster = Path::new("/proc").join(lock.lines().next().unwrap());
    assert!(home.exists() && postmaster.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    until("the server ends", || (!postmaster.exists()).then_some(()));
    until("its folder is removed", || (!home.exists()).then_some(()));
}
