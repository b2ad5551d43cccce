//! `reseal backup`.

use crate::folder::FolderArgs;
use crate::output::{Out, Progress, note};
use crate::words;
use anyhow::{Context as _, bail};
use reseal_store::sqlite::quick_check_file;
use serde_json::json;
use std::path::PathBuf;

/// Copy the database to a file, while the authority runs.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Copies the database to a new file, while the authority runs.\n\n\
        The copy is the state of one moment, on disk and checked when the command ends. The master key is \
        not in it: keep master.key (or what RESEAL_MASTER_KEY holds) in another safe place. Without it the \
        copy's keys cannot be opened.\n\n\
        `reseal restore FILE` puts it back, and sees to it that nothing that ended since lives again: never copy \
        it into a data folder by hand.\n\n\
        A PostgreSQL database is backed up with PostgreSQL's own tools (pg_dump, pg_basebackup with an archive of \
        its log); after it was restored with them, run `reseal restore --after-database-restore` before the first \
        authority starts.",
    after_help = "\
Examples:
  reseal backup /backups/reseal-$(date +%F).db
  reseal backup --data /var/lib/reseal snapshot.db --json"
)]
pub(crate) struct BackupArgs {
    /// The file to write; it must not exist
    file: PathBuf,
    #[command(flatten)]
    folder: FolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What to do instead with a database server.
const OTHER_TOOLS: &str = "this store is backed up with PostgreSQL's own tools, while authorities run: `pg_dump \
    --format=custom`, or `pg_basebackup` with an archive of its log for any moment. After it was restored with them, \
    run `reseal restore --after-database-restore` before the first authority starts: it ends sessions, and tells \
    verifiers to start over (a restored database has its old feed epoch). Keep the master key in another safe place; \
    hot sessions in Redis need no backup";

pub(crate) async fn run(args: BackupArgs) -> anyhow::Result<()> {
    // Before anything is opened: the advice holds for a database that is away, too.
    let place = args.folder.load()?.store;
    if place.url.is_some() {
        bail!("{}: {OTHER_TOOLS}", place.place());
    }
    let folder = args.folder.open_read_only().await?;
    let store = folder.store.as_sqlite().context("this is no data folder")?;
    {
        let progress = Progress::new();
        store.backup(&args.file, &mut |at| {
            let percent = at.copied.saturating_mul(100).checked_div(at.pages).unwrap_or(100);
            progress.show(format_args!("{percent} % of {} pages", words::grouped(at.pages)));
        })?;
        progress.show("checking the copy");
        let found = quick_check_file(&args.file)?;
        if let Some(first) = found.first() {
            bail!(
                "{}: the copy is damaged ({first}); check the database with `reseal doctor`",
                args.file.display()
            );
        }
    }
    let size = std::fs::metadata(&args.file).map(|m| m.len()).context("the copy cannot be read")?;
    let mut out = Out::new();
    if args.json {
        out.json(&json!({ "file": args.file, "bytes": size }))?;
    } else {
        out.line(format_args!("{}: {}, checked", args.file.display(), words::bytes(size)))?;
    }
    out.finish()?;
    note("the master key is not in it; keep it in another safe place");
    Ok(())
}
