//! `reseal restore`.

use crate::folder::{Folder, FolderArgs};
use crate::input::confirm;
use crate::output::{Out, Progress, note};
use crate::words;
use anyhow::{Context as _, bail};
use reseal_core::Timestamp;
use reseal_server::clock::Clock;
use reseal_server::manage::restored::{Restored, after_restore};
use reseal_store::sqlite::Restore;
use reseal_store::{Access, Store as _};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Put a backup in the place of the database.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Puts a backup in the place of the database, and makes it fit to be served again.\n\n\
        No authority may run on the data folder. The backup is copied and checked first; the database that was there \
        is set aside as reseal.db.before-restore-TIME, and the backup takes its place in one step: killed at any \
        moment, the folder holds the one or the other, whole.\n\n\
        A backup holds sessions that were ended since, and knows nothing of what was issued since. So all sessions end \
        (everybody signs in again), all signing keys are withdrawn, and the next start of the authority makes new \
        ones; every user's revision rises by 2^32, past any that may have been issued; codes and challenges under way \
        are void; and the feed starts over, so that verifiers refuse all earlier access tokens as soon as they reach \
        the authority.\n\n\
        --keep-sessions keeps sessions and keys, for a backup made a moment ago with the authority stopped (a move to \
        another machine). Sessions that ended since live again then, and a session that was renewed since ends as soon \
        as it is used, since its refresh token is ahead of the backup.\n\n\
        What was changed since the backup is undone: users disabled or added, passwords, roles, clients. Look through \
        what you know of before you let people in.\n\n\
        A database server is restored with its own tools (pg_restore, or its log up to a moment). Run `reseal restore \
        --after-database-restore` then, before the first authority starts: it does all of the above in the database. \
        Until it is done, no authority starts on it.",
    after_help = "\
Examples:
  reseal restore /backups/reseal-2026-03-01.db --data /var/lib/reseal
  reseal restore snapshot.db --keep-sessions --yes
  reseal restore --after-database-restore --store postgres://reseal@db.example/reseal"
)]
pub(crate) struct RestoreArgs {
    /// The backup, as `reseal backup` made it
    #[arg(required_unless_present = "after_database_restore", conflicts_with = "after_database_restore")]
    file: Option<PathBuf>,
    /// The database was restored by other means: only do what must follow
    #[arg(long)]
    after_database_restore: bool,
    /// Keep sessions and signing keys
    #[arg(long)]
    keep_sessions: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: RestoreArgs) -> anyhow::Result<()> {
    let store = args.folder.load()?.store;
    let (restored, aside) = match &args.file {
        Some(file) => {
            if store.url.is_some() {
                bail!(
                    "{}: a database server is restored with its own tools (pg_restore, or its log up to a moment); then \
                     run `reseal restore --after-database-restore`",
                    store.place()
                );
            }
            put_in_place(&args, file, &store.data).await?
        }
        None => (mark(&args).await?, None),
    };
    let mut out = Out::new();
    if args.json {
        out.json(&json!({
            "store": store.place(),
            "sessions_ended": restored.sessions_ended,
            "keys_withdrawn": restored.keys_withdrawn,
            "users": restored.users,
            "set_aside": aside,
        }))?;
    } else {
        out.line(format_args!("{}: restored; {}", store.place(), in_words(restored)))?;
        if let Some(aside) = &aside {
            out.line(format_args!("the database of before is {}", aside.display()))?;
        }
    }
    out.finish()?;
    note(if args.keep_sessions {
        "start `reseal serve`; sessions that ended since the backup live again"
    } else {
        "start `reseal serve`; everybody signs in again"
    });
    Ok(())
}

/// The database was restored by other means.
async fn mark(args: &RestoreArgs) -> anyhow::Result<Restored> {
    let folder = args.folder.open_alone().await?;
    confirm(&question(args, &folder.config.store.place()), args.yes)?;
    follow_up(&folder, args.keep_sessions).await
}

/// Copies, checks, does what must follow, and only then lets the backup take its place.
async fn put_in_place(
    args: &RestoreArgs,
    file: &Path,
    data: &Path,
) -> anyhow::Result<(Restored, Option<PathBuf>)> {
    // Asked before anything is locked, copied or made.
    if !data.join("reseal.db").exists() && !args.yes {
        note(format_args!("there is no database in {} yet", data.display()));
    }
    confirm(&question(args, &data.display().to_string()), args.yes)?;
    let restore = {
        let progress = Progress::new();
        Restore::begin(data, file, &mut |copied, size| {
            let percent = copied.saturating_mul(100).checked_div(size).unwrap_or(100);
            progress.show(format_args!("copying: {percent} % of {}", words::bytes(size)));
        })?
    };
    let mut config = args.folder.load()?;
    config.keys.master_key_file.get_or_insert(config.store.data.join("master.key"));
    config.store.data = restore.staging().to_owned();
    let folder = Folder::open(config, Access::Serve).await?;
    let restored = follow_up(&folder, args.keep_sessions).await?;
    // It stands in the way of the next start only, but it is better known now.
    if !folder.store.keys().await?.is_empty()
        && let Err(error) = folder.key_set(folder.now()).await
    {
        note(format_args!("warning: {error:#}"));
    }
    folder.store.close().await;
    let now = Clock::system().now();
    let aside = restore.finish(&mark_of(now)).context("the backup was not put in place")?;
    Ok((restored, aside))
}

async fn follow_up(folder: &Folder, keep_sessions: bool) -> anyhow::Result<Restored> {
    let progress = Progress::new();
    let show = |done: Restored| progress.show(in_words(done));
    Ok(after_restore(|| folder.manage(), keep_sessions, show).await?)
}

fn question(args: &RestoreArgs, place: &str) -> String {
    let what = match &args.file {
        Some(file) => format!("This replaces the database in {place} by {}", file.display()),
        None => format!("This takes the database {place} for one that was restored just now"),
    };
    let then = if args.keep_sessions {
        "keeps its sessions, also those that ended since."
    } else {
        "signs everybody out."
    };
    format!("{what} and {then}")
}

fn in_words(done: Restored) -> String {
    let count = |n: usize, noun| words::count(u64::try_from(n).unwrap_or(u64::MAX), noun);
    format!(
        "{} ended, {} withdrawn, {} raised",
        count(done.sessions_ended, "session"),
        count(done.keys_withdrawn, "signing key"),
        count(done.users, "user")
    )
}

/// A time that can be part of a file's name.
fn mark_of(now: Timestamp) -> String {
    words::exact(now).chars().filter(char::is_ascii_digit).collect()
}
