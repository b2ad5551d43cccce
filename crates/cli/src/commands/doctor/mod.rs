//! `reseal doctor`.

mod certificate;
mod files;
mod keys;
mod latency;
mod postgres;
mod records;
mod redis;

use crate::exit::Told;
use crate::folder::{Folder, FolderArgs};
use crate::output::Out;
use reseal_server::config::Config;
use reseal_server::manage::restored::is_unfinished;
use reseal_server::password::PasswordPolicy;
use serde::Serialize;
use std::path::Path;

/// Check the store and say what to do.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Checks the configuration, the data folder, the database, the keys, the clock and the disk, and \
        says what to do about what it finds. It changes nothing, and works while the authority runs.\n\n\
        Of PostgreSQL and Redis it looks at how fast they answer, at their version, at settings that lose what was \
        answered (fsync, appendonly, eviction and so on), at the connections that are left, and at how far their \
        clock is from this machine's. Run it on each node.\n\n\
        Exit code 1 if anything failed; warnings alone are 0.",
    after_help = "\
Examples:
  reseal doctor
  reseal doctor --store postgres://reseal@db.example/reseal
  reseal doctor --data /var/lib/reseal --json | jq '.checks[] | select(.level != \"ok\")'"
)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Do not read the whole database for damage (of a large one that takes a while)
    #[arg(long)]
    quick: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Nothing to do.
    Ok,
    /// It works, but look at it.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    /// What.
    check: &'static str,
    level: Level,
    /// What was found, and what to do about it.
    text: String,
}

/// Everything found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, text: impl Into<String>) {
        self.push(check, Level::Ok, text.into());
    }

    fn warn(&mut self, check: &'static str, text: impl Into<String>) {
        self.push(check, Level::Warn, text.into());
    }

    fn fail(&mut self, check: &'static str, text: impl Into<String>) {
        self.push(check, Level::Fail, text.into());
    }

    /// The outcome of a look, which may have failed.
    fn look(&mut self, check: &'static str, looked: anyhow::Result<()>) {
        if let Err(error) = looked {
            self.fail(check, format!("it cannot be looked at: {error:#}"));
        }
    }

    fn push(&mut self, check: &'static str, level: Level, text: String) {
        self.0.push(Finding { check, level, text });
    }

    fn failed(&self) -> bool {
        self.0.iter().any(|f| f.level == Level::Fail)
    }
}

pub(crate) async fn run(args: DoctorArgs) -> anyhow::Result<()> {
    let mut findings = Findings::default();
    if let Some(config) = check_configuration(&args.folder, &mut findings) {
        files::check(&config, &mut findings);
        match args.folder.open_read_only().await {
            Ok(folder) => check_folder(&folder, args.quick, &mut findings).await,
            Err(error) => findings.fail("database", format!("{error:#}")),
        }
    }
    print(&findings, args.json)?;
    if findings.failed() { Err(Told.into()) } else { Ok(()) }
}

fn check_configuration(args: &FolderArgs, findings: &mut Findings) -> Option<Config> {
    let config = match args.load() {
        Ok(config) => config,
        Err(error) => {
            findings.fail("configuration", format!("{error:#}"));
            return None;
        }
    };
    match args.config_file() {
        Some(file) if has_password(file) => findings.warn(
            "configuration",
            format!(
                "{}: store.url holds a password, which whoever reads the file has: put it into store.password_file",
                file.display()
            ),
        ),
        Some(file) => findings.ok("configuration", file.display().to_string()),
        None => findings.ok("configuration", "no file: the defaults; `reseal init` writes one"),
    }
    check_what_serve_opens(&config, findings);
    Some(config)
}

/// Whether the file itself, and not the environment, names a password.
fn has_password(file: &Path) -> bool {
    Config::load(file).is_ok_and(|config| config.store.url.is_some_and(|url| url.has_password()))
}

/// What `serve` would open besides the folder, and refuse to start without.
fn check_what_serve_opens(config: &Config, findings: &mut Findings) {
    if let Err(error) = reseal_server::sms::open(&config.sms) {
        findings.fail("text messages", format!("{error}"));
    }
    if let Err(error) = PasswordPolicy::open(config.users.breached_passwords_file.as_deref()) {
        findings.fail("passwords", format!("{error}"));
    }
    certificate::check(config, findings);
}

/// What cannot be looked at is a finding like another: it hides none.
async fn check_folder(folder: &Folder, quick: bool, findings: &mut Findings) {
    if let Some(store) = folder.store.as_sqlite() {
        records::check_file(store, quick, findings);
    }
    if let Some(store) = folder.store.as_postgres() {
        postgres::check(folder, store, findings).await;
    }
    if let Some(store) = folder.store.as_redis() {
        redis::check(store, findings).await;
    }
    let looked = check_restore(folder, findings).await;
    findings.look("restore", looked);
    let looked = records::check_clock(folder, findings).await;
    findings.look("clock", looked);
    let looked = records::check_policies(folder, findings).await;
    findings.look("policies", looked);
    let looked = records::check_gateway(folder, findings).await;
    findings.look("gateway", looked);
    let looked = keys::check(folder, findings).await;
    findings.look("keys", looked);
}

/// `serve` refuses a database between the two.
async fn check_restore(folder: &Folder, findings: &mut Findings) -> anyhow::Result<()> {
    if is_unfinished(&folder.store).await? {
        findings.fail(
            "restore",
            "a restore of this database was begun and not finished: run `reseal restore --after-database-restore`",
        );
    }
    Ok(())
}

fn print(findings: &Findings, json: bool) -> anyhow::Result<()> {
    let mut out = Out::new();
    if json {
        out.json(&serde_json::json!({ "ok": !findings.failed(), "checks": findings.0 }))?;
        return out.finish();
    }
    for finding in &findings.0 {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        out.line(format_args!("{level:6}{:15}{}", finding.check, finding.text))?;
    }
    out.finish()
}
