//! A store that is named by its address: every command on a real PostgreSQL, and what nodes need to agree on.

use crate::support::{Folder, Ran, eventually, reseal};
use reseal_test_servers::{Database, PgOptions, Postgres, Redis, RedisOptions};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// A server that is ended when dropped.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where a production authority would be; nobody goes there.
const CONFIG: &str = "issuer = \"http://localhost:4000\"\n";

fn serve(folder: &Folder, database: &str, arguments: &str) -> Command {
    let mut command = folder.command(format!("serve --listen 127.0.0.1:0 {arguments}").trim_end());
    command.env("RESEAL_STORE_URL", database).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The first line of a server's output; `None` when it ends without one.
fn first_line(child: &mut Child) -> Option<String> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (!line.is_empty()).then(|| line.trim_end().to_owned())
}

/// A server that has started.
fn started(mut command: Command) -> Node {
    let mut node = Node(command.spawn().unwrap());
    let line = first_line(&mut node.0);
    assert!(line.as_ref().is_some_and(|line| line.starts_with("listening on ")), "{line:?}");
    node
}

/// How a start ends that fails.
fn refused(mut command: Command) -> Ran {
    Ran::of(&mut command)
}

fn on(database: &Database<'_>, folder: &Folder, arguments: &str) -> Ran {
    Ran::of(folder.command(arguments).env("RESEAL_STORE_URL", database.url()))
}

fn level(report: &Value, check: &str) -> String {
    let found = report["checks"].as_array().unwrap().iter().find(|c| c["check"] == check);
    found.unwrap_or_else(|| panic!("{check} in {report}"))["level"].as_str().unwrap().to_owned()
}

#[test]
fn every_command_works_on_the_store_that_an_address_names() {
    let database = Postgres::shared().database();
    let folder = Folder::new();
    folder.write("reseal.toml", CONFIG);
    on(&database, &folder, "users list").fails(1, "nothing of Reseal is in this database yet");
    on(&database, &folder, "users disable ada").fails(1, "nothing of Reseal is in this database yet");
    let made = on(&database, &folder, "users add ada --no-password");
    assert!(made.err.contains("setting up the database postgres://"), "{made:?}");
    made.ok();
    assert!(!folder.path("reseal-data").exists(), "no folder is needed");
    let _node = started(serve(&folder, &database.url(), ""));
    for command in [
        "users show ada",
        "users list --json",
        "clients list",
        "sessions list",
        "keys list",
        "keys rotate",
        "policies check",
        "sessions end --all --yes",
    ] {
        on(&database, &folder, command).ok();
    }
    // An address on the command line is as good, and beats what the file says.
    folder.write("other.toml", "[store]\nurl = 'postgres://nobody@127.0.0.1:1/nothing'\n");
    let named = format!("users show ada --config other.toml --store {}", database.url());
    folder.run(&named).ok();
    folder.run("users show ada --config other.toml").fails(1, "cannot be reached");
    // And none keeps to the folder.
    folder.run("users show ada").fails(1, "there is no database");
}

#[test]
fn the_two_modes_refuse_each_others_databases() {
    let (folder, other) = (Folder::new(), Folder::new());
    let database = Postgres::shared().database();
    drop(started(serve(&folder, &database.url(), "--dev")));
    assert!(folder.path("reseal-data/dev.json").exists());
    other.write("reseal.toml", CONFIG);
    refused(serve(&other, &database.url(), "")).fails(1, "this store was made by `serve --dev`");
    drop(started(serve(&folder, &database.url(), "--dev")));

    let database = Postgres::shared().database();
    drop(started(serve(&other, &database.url(), "")));
    let third = Folder::new();
    refused(serve(&third, &database.url(), "--dev")).fails(1, "not one of `serve --dev`");
    assert!(!third.path("reseal-data").exists(), "nothing was made");
}

#[test]
fn a_node_with_another_master_key_does_not_start() {
    let (first, second) = (Folder::new(), Folder::new());
    let database = Postgres::shared().database();
    for folder in [&first, &second] {
        folder.write("reseal.toml", CONFIG);
    }
    let _first = started(serve(&first, &database.url(), ""));
    refused(serve(&second, &database.url(), "")).fails(1, "the master key file is missing");
    std::fs::create_dir(second.path("reseal-data")).unwrap();
    let mut other = serve(&second, &database.url(), "");
    other.env("RESEAL_MASTER_KEY", "07".repeat(32));
    refused(other).fails(1, "another master key");
    std::fs::copy(first.path("reseal-data/master.key"), second.path("reseal-data/master.key")).unwrap();
    drop(started(serve(&second, &database.url(), "")));
}

#[test]
fn of_nodes_that_start_first_with_keys_of_their_own_only_one_does() {
    for _ in 0..5 {
        let database = Postgres::shared().database();
        let folders = [Folder::new(), Folder::new(), Folder::new()];
        let mut nodes: Vec<Node> = folders
            .iter()
            .zip(["01", "02", "03"])
            .map(|(folder, byte)| {
                folder.write("reseal.toml", CONFIG);
                let mut command = serve(folder, &database.url(), "");
                Node(command.env("RESEAL_MASTER_KEY", byte.repeat(32)).spawn().unwrap())
            })
            .collect();
        let lines: Vec<_> = nodes.iter_mut().map(|node| first_line(&mut node.0)).collect();
        let up = lines.iter().flatten().filter(|line| line.starts_with("listening on ")).count();
        assert_eq!(up, 1, "{lines:?}");
        for (node, line) in nodes.iter_mut().zip(&lines) {
            if line.is_none() {
                let mut told = String::new();
                let mut stderr = node.0.stderr.take().unwrap();
                std::io::Read::read_to_string(&mut stderr, &mut told).unwrap();
                assert!(told.contains("another master key"), "{told}");
                assert_eq!(node.0.wait().unwrap().code(), Some(1));
            }
        }
    }
}

#[test]
fn a_start_waits_for_a_database_that_is_away() {
    let postgres = Postgres::start(PgOptions { fsync: false, ..PgOptions::default() });
    let database = postgres.database();
    let folder = Folder::new();
    folder.write("reseal.toml", CONFIG);
    postgres.kill();
    on(&database, &folder, "users list").fails(1, "cannot be reached");
    let mut command = serve(&folder, &database.url(), "");
    command.env("RESEAL_LOG", "warn");
    let mut node = Node(command.spawn().unwrap());
    let mut told = BufReader::new(node.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting for the store") {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "it gave up");
    }
    postgres.restart();
    assert!(first_line(&mut node.0).is_some_and(|line| line.starts_with("listening on ")));
}

#[test]
fn a_password_is_read_from_its_file_and_shown_nowhere() {
    let password = "hunter2-of-the-tests";
    let options = PgOptions { fsync: false, password: Some(password.to_owned()), ..PgOptions::default() };
    let postgres = Postgres::start(options);
    let database = postgres.database();
    let folder = Folder::new();
    let with = database.url();
    let without = with.replace(&format!(":{password}@"), "@");
    assert_ne!(with, without);
    folder.write("password", format!("{password}\n"));
    folder.write("reseal.toml", format!("{CONFIG}[store]\nurl = '{without}'\npassword_file = 'password'\n"));
    folder.run("users add ada --no-password").ok();
    let mut ran = vec![folder.run("users show ada"), folder.run("doctor --json")];
    assert_eq!(ran[0].code, 0, "{ran:?}");
    folder.write("password", "wrong-hunter2");
    ran.push(folder.run("users list").fails(1, "refuses the login"));
    folder.write("reseal.toml", format!("{CONFIG}[store]\nurl = '{with}'\n"));
    let doctor = folder.run("doctor --json");
    assert!(doctor.out.contains("store.url holds a password"), "{doctor:?}");
    ran.push(doctor);
    let mut help = folder.command("users list --help");
    ran.push(Ran::of(help.env("RESEAL_STORE_URL", &with)));
    // Nor if it is mistyped.
    let mistyped = with.replace("postgres://", "postgress://");
    let to = "migrate --to sqlite:to";
    for (command, variable) in [
        ("doctor", "RESEAL_STORE_URL"),
        (to, "RESEAL_MIGRATE_FROM"),
        ("migrate", "RESEAL_MIGRATE_TO"),
        (to, "RESEAL_STORE_URL"),
    ] {
        let told = Ran::of(folder.command(command).env(variable, &mistyped));
        ran.push(told.fails(2, variable).fails(2, "the address of a store begins with"));
    }
    ran.push(folder.run(&format!("token inspect x --store {mistyped}")).fails(2, "--store"));
    for ran in ran {
        assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
    }
}

#[test]
fn the_doctor_looks_at_the_database_server() {
    let database = Postgres::shared().database();
    let folder = Folder::new();
    folder.write("reseal.toml", format!("{CONFIG}[gateway]\nclient_id = 'app'\n"));
    let _node = started(serve(&folder, &database.url(), ""));
    let report = |ran: Ran| -> (i32, Value) { (ran.code, serde_json::from_str(&ran.out).unwrap()) };
    let (code, said) = report(on(&database, &folder, "doctor --json"));
    // The shared server of the tests syncs nothing.
    assert_eq!((code, level(&said, "durability")), (1, "fail".to_owned()), "{said}");
    assert!(said.to_string().contains("fsync is off"), "{said}");
    for check in ["database", "server", "connections", "latency", "clocks", "keys", "policies"] {
        assert_eq!(level(&said, check), "ok", "{said}");
    }
    assert_eq!(level(&said, "gateway"), "warn", "{said}");
    on(&database, &folder, "clients add app --name App --policy browser").ok();
    let (_, said) = report(on(&database, &folder, "doctor --json"));
    assert_eq!(level(&said, "gateway"), "ok", "{said}");
    folder.run("doctor --store postgres://nobody@127.0.0.1:1/nothing").fails(1, "");
}

#[test]
fn the_doctor_looks_at_redis() {
    let database = Postgres::shared().database();
    let redis = Redis::start(&RedisOptions::default());
    let folder = Folder::new();
    folder.write("reseal.toml", format!("{CONFIG}[store.redis]\nurls = ['{}']\n", redis.url()));
    on(&database, &folder, "users add ada --no-password").ok();
    let said = on(&database, &folder, "doctor --json").out;
    let said: Value = serde_json::from_str(&said).unwrap();
    let of_redis: Vec<&Value> =
        said["checks"].as_array().unwrap().iter().filter(|c| c["check"] == "redis").collect();
    assert!(of_redis[0]["text"].as_str().unwrap().contains("version 7"), "{said}");
    assert!(of_redis.iter().any(|c| c["text"].as_str().unwrap().contains("no replica")), "{said}");
    // What it cannot look at hides nothing else.
    redis.kill();
    let ran = on(&database, &folder, "doctor --json");
    let said: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, level(&said, "redis")), (1, "fail".to_owned()), "{said}");
    for check in ["database", "server", "connections", "latency", "clock", "keys"] {
        assert_eq!(level(&said, check), "ok", "{said}");
    }
    folder.run("users list").fails(1, "Redis keeps hot sessions only");
}

#[test]
fn a_database_whose_sessions_are_in_redis_is_served_alone_only_after_they_are_written_back() {
    let database = Postgres::shared().database();
    let redis = Redis::start(&RedisOptions::default());
    let folder = Folder::new();
    let hot = format!("{CONFIG}[store.redis]\nurls = ['{}']\n", redis.url());
    folder.write("hot.toml", &hot);
    folder.write("alone.toml", CONFIG);
    on(&database, &folder, "users add ada --no-password --config hot.toml").ok();
    // A command beside Redis changes nothing about who may serve.
    drop(started(serve(&folder, &database.url(), "--config alone.toml")));
    let node = started(serve(&folder, &database.url(), "--config hot.toml"));
    refused(serve(&folder, &database.url(), "--config alone.toml")).fails(1, "sessions is in Redis");
    for config in ["alone.toml", "hot.toml"] {
        let moving = format!("migrate --to sqlite:moved --yes --config {config}");
        on(&database, &folder, &moving).fails(2, "--write-back");
    }
    on(&database, &folder, "migrate --write-back --config hot.toml").fails(1, "Stop them all first");
    drop(node);
    refused(serve(&folder, &database.url(), "--config alone.toml")).fails(1, "migrate --write-back");

    redis.kill();
    on(&database, &folder, "users disable ada --config hot.toml").ok();
    redis.restart();
    let told = on(&database, &folder, "migrate --write-back --config hot.toml");
    assert!(told.err.contains("needs no Redis any more"), "{told:?}");
    told.ok();
    drop(started(serve(&folder, &database.url(), "--config alone.toml")));
}

#[test]
fn a_database_restored_by_its_own_tools_is_made_fit_before_it_is_served() {
    let database = Postgres::shared().database();
    let folder = Folder::new();
    folder.write("reseal.toml", CONFIG);
    on(&database, &folder, "users add ada --no-password").ok();
    let node = started(serve(&folder, &database.url(), ""));
    let restore = "restore --after-database-restore --json";
    on(&database, &folder, &format!("{restore} --yes")).fails(1, "Stop them all first");
    drop(node);
    let revision = || on(&database, &folder, "users show ada --json").json()["revision"].as_u64().unwrap();
    let epoch = || database.sql("SELECT encode(value, 'hex') FROM meta WHERE name = 'feed_epoch'");
    let before = (revision(), epoch());
    // The server sees that the node is gone a moment later.
    let gone = || on(&database, &folder, restore).code == 2;
    assert!(eventually(gone), "asks for --yes once nobody is connected");
    assert_eq!((revision(), epoch()), before, "nothing was done without it");
    let told = on(&database, &folder, &format!("{restore} --yes")).json();
    assert_eq!((&told["users"], &told["set_aside"]), (&json!(1), &Value::Null), "{told}");
    assert_eq!(revision(), before.0 + (1 << 32));
    assert_ne!(epoch(), before.1);
    drop(started(serve(&folder, &database.url(), "")));

    // As after a kill between the first and the last step.
    database.sql("UPDATE meta SET value = '1' WHERE name = 'restore_unfinished'");
    refused(serve(&folder, &database.url(), "")).fails(1, "was begun and not finished");
    assert!(on(&database, &folder, "doctor").out.contains("was begun and not finished"));
    assert!(eventually(|| on(&database, &folder, &format!("{restore} --yes")).code == 0));
    drop(started(serve(&folder, &database.url(), "")));
}

#[test]
fn a_folder_may_be_named_by_an_address_too() {
    let folder = Folder::new();
    folder.run("users add ada --no-password --store sqlite:data").ok();
    folder.run("users show ada --data data").ok();
    folder.run("users show ada --store redis://127.0.0.1").fails(1, "Redis keeps hot sessions only");
    let refused = Ran::of(reseal().args(["users", "list", "--store", "mysql://u:hunter2@h/d"]));
    refused.fails(2, "the address of a store begins with");
}
